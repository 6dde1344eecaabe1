use super::*;
use crate::core::event::Turn;
use crate::guards::NAMES;
use crate::guards::testing::{Flavour, random_conversation, vocabulary};

/// Bundled specs that judge at least one role by the next token, with a tokenizer of a small vocabulary.
fn tokenizers(flavour: Flavour) -> impl Iterator<Item = GuardTokenizer> {
    NAMES.iter().map(move |name| {
        let spec = GuardSpec::built_in(name).unwrap();
        let file = vocabulary(&spec, flavour);
        GuardTokenizer::new(spec, &file).unwrap_or_else(|error| panic!("{error}"))
    })
}

fn whole(tokenizer: &GuardTokenizer, prompt: &GuardPrompt) -> Vec<u32> {
    [tokenizer.prefix(prompt.role_prefix), &prompt.ids].concat()
}

/// Encodes a prompt's text as servers do: control tokens are found in the whole text.
fn encode_as_text(tokenizer: &GuardTokenizer, text: &str) -> Vec<u32> {
    let mut plain = tokenizer.runs.tokenizer.clone();
    plain.set_encode_special_tokens(false);
    plain.encode_fast(text, false).unwrap().get_ids().to_vec()
}

/// The prompt's text, as the template writes it.
fn text_of(tokenizer: &GuardTokenizer, conversation: &Conversation) -> String {
    let spec = tokenizer.spec();
    let bos = spec.bos().map(|(token, _)| token).unwrap_or_default();
    format!("{bos}{}", spec.prompt_text(conversation, 10_000_000).unwrap().text)
}

#[test]
fn ids_are_those_of_the_whole_prompt() {
    let mut random = fastrand::Rng::with_seed(21);
    for flavour in Flavour::ALL {
        for tokenizer in tokenizers(flavour) {
            for _ in 0..6 {
                let conversation = random_conversation(&mut random, tokenizer.spec(), false);
                let prompt = tokenizer.encode(&conversation, usize::MAX).unwrap();
                let expected = encode_as_text(&tokenizer, &text_of(&tokenizer, &conversation));
                assert_eq!(
                    whole(&tokenizer, &prompt),
                    expected,
                    "{} {conversation:?}",
                    tokenizer.spec().name()
                );
                assert!(!prompt.cut);
            }
        }
    }
}

/// Vocabularies of SentencePiece mark their unknown token as special.
#[test]
fn a_character_that_the_vocabulary_lacks_is_encoded() {
    let spec = GuardSpec::built_in("llama-guard-1").unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&vocabulary(&spec, Flavour::Pieces)).unwrap();
    file["model"]["byte_fallback"] = false.into();
    let unknown = serde_json::json!({ "id": 0, "content": "<unk>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true });
    file["added_tokens"].as_array_mut().unwrap().push(unknown);
    let tokenizer = GuardTokenizer::new(spec, &serde_json::to_vec(&file).unwrap()).unwrap();
    let ids = |text: &str| {
        let prompt = tokenizer.encode(&Conversation::of_text(text), usize::MAX).unwrap();
        whole(&tokenizer, &prompt)
    };
    let count = |text: &str| ids(text).iter().filter(|id| **id == 0).count();
    // The line breaks of the template are unknown, too. Neighbouring unknown characters are one token.
    let of_template = count("who am I?");
    assert_eq!(count("who am I, 你好 or 😀?"), of_template + 2);
    assert_eq!(count("<unk>"), of_template, "the token's name is ordinary text");
}

/// Texts with the control tokens of all specs, after which a prompt has no more control tokens than with other texts.
#[test]
fn control_tokens_in_a_text_stay_text() {
    let mut random = fastrand::Rng::with_seed(7);
    for flavour in Flavour::ALL {
        for tokenizer in tokenizers(flavour) {
            let controls = |ids: &[u32]| -> Vec<u32> {
                ids.iter().copied().filter(|id| tokenizer.runs.is_special(*id)).collect()
            };
            for _ in 0..6 {
                let hostile = random_conversation(&mut random, tokenizer.spec(), true);
                let mut tame = hostile.clone();
                tame.turns.iter_mut().for_each(|turn| turn.text = "tame".to_owned());
                let [hostile, tame] = [hostile, tame].map(|conversation| {
                    whole(&tokenizer, &tokenizer.encode(&conversation, usize::MAX).unwrap())
                });
                assert_eq!(controls(&hostile), controls(&tame), "{}", tokenizer.spec().name());
            }
        }
    }
}

#[test]
fn a_prompt_fits_its_budget_and_keeps_policy_and_rules() {
    let mut random = fastrand::Rng::with_seed(3);
    for tokenizer in tokenizers(Flavour::Bytes) {
        let spec = tokenizer.spec();
        for &role in spec.next_token_roles() {
            let judged = |text: &str| {
                let turns = vec![Turn { role, text: text.to_owned() }];
                tokenizer.encode(&Conversation { turns, judged: 0 }, usize::MAX).unwrap()
            };
            let (short, other) = (judged("a"), judged("b"));
            let rules =
                short.ids.iter().rev().zip(other.ids.iter().rev()).take_while(|(a, b)| a == b).count();
            let rules = &short.ids[short.ids.len() - rules..];
            let fixed = tokenizer.prefix(short.role_prefix).len() + short.ids.len();
            for _ in 0..4 {
                let mut conversation = random_conversation(&mut random, spec, true);
                let last = conversation.judged;
                conversation.turns[last].role = role;
                let budget = fixed + random.usize(4..300);
                let prompt = tokenizer.encode(&conversation, budget).unwrap();
                let size = tokenizer.prefix(prompt.role_prefix).len() + prompt.ids.len();
                assert!(size <= budget, "{}: {size} > {budget}", spec.name());
                assert!(prompt.ids.ends_with(rules), "{}", spec.name());
                let all = tokenizer.encode(&conversation, usize::MAX).unwrap();
                assert_eq!(prompt.cut, all.ids != prompt.ids, "{}", spec.name());
            }
            let turns = vec![Turn { role, text: "a".to_owned() }];
            let none = tokenizer.encode(&Conversation { turns, judged: 0 }, fixed - 2);
            assert!(matches!(none, Err(PromptError::NoRoom { .. })), "{none:?}");
        }
    }
}

#[test]
fn the_oldest_turns_are_dropped_first() {
    let spec = GuardSpec::built_in("aegis-small").unwrap();
    let tokenizer = GuardTokenizer::new(spec.clone(), &vocabulary(&spec, Flavour::Bytes)).unwrap();
    let turn = |index: usize| Turn { role: Role::ALL[index % 2], text: format!("<{index}>") };
    let turns: Vec<Turn> = (0..10_000).map(turn).collect();
    let conversation = Conversation { judged: turns.len() - 1, turns };
    let prefix = tokenizer.prefix(0).len();
    let prompt = tokenizer.encode(&conversation, prefix + 400).unwrap();
    assert!(prompt.cut);
    let text = tokenizer.runs.tokenizer.decode(&prompt.ids, true).unwrap();
    assert!(text.contains("<9999>") && text.contains("<9998>") && !text.contains("<0>"), "{text}");
    // No more was dropped than necessary, but for the rounding of a few turns.
    assert!(prompt.ids.len() > 340, "{}", prompt.ids.len());
    let first = text.split('<').nth(1).unwrap().split('>').next().unwrap().parse::<usize>().unwrap();
    for index in first..10_000 {
        assert!(text.contains(&format!("<{index}>")), "{index} is missing");
    }
}

#[test]
fn a_long_judged_turn_keeps_its_beginning_or_its_end() {
    let text = format!("{} middle {}", "start ".repeat(100_000), "end ".repeat(100_000));
    for (keep, kept, lost) in [("start", "start", "end"), ("end", "end", "start")] {
        let toml = format!("extends = \"aegis-small\"\nkeep = \"{keep}\"\n");
        let spec = GuardSpec::parse(&toml).unwrap();
        let tokenizer = GuardTokenizer::new(spec.clone(), &vocabulary(&spec, Flavour::Bytes)).unwrap();
        let mut conversation = Conversation::of_text(text.clone());
        conversation.turns.insert(0, Turn { role: Role::User, text: "earlier".to_owned() });
        conversation.judged = 1;
        let budget = tokenizer.prefix(0).len() + 200;
        let prompt = tokenizer.encode(&conversation, budget).unwrap();
        let shown = tokenizer.decode(&prompt.ids).unwrap();
        assert!(prompt.cut && shown.contains(kept) && !shown.contains(lost), "{shown}");
        assert!(!shown.contains("earlier"), "{shown}");
        assert!(prompt.ids.len() > 190 && prompt.ids.len() <= 200, "{}", prompt.ids.len());
    }
}

#[test]
fn what_a_vocabulary_cannot_tell_apart_is_refused() {
    let field = |toml: &str, change: fn(String) -> String| {
        let spec = GuardSpec::parse(toml).unwrap();
        let file = String::from_utf8(vocabulary(&spec, Flavour::Bytes)).unwrap();
        match GuardTokenizer::new(spec, change(file).as_bytes()) {
            Err(SpecError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    let same = |file: String| file;
    let with = |table: &str| format!("extends = \"aegis-small\"\n{table}");
    // The first token of both is " s" in this vocabulary.
    let words = "[verdict]\nunsafe = [\" sorry\"]\n";
    assert_eq!(field(&with(words), same), "verdict.safe");
    // The space joins with the word behind it.
    let space = "[verdict]\nforce = \"Verdict: \"\nunsafe = [\"unsafe\"]\nsafe = [\"safe\"]\n";
    assert_eq!(field(&with(space), same), "verdict.unsafe");
    assert_eq!(field(&with("context = 200\n"), same), "context");
    assert_eq!(field(&with("[verdict]\nnext_token = []\n"), same), "verdict.next_token");
    assert_eq!(field(&with(""), |file| file.replace("<|im_end|>", "<|other|>")), "template.control");
    assert_eq!(field(&with(""), |_| "{}".to_owned()), "the tokenizer");
    for file in ["no JSON", "[]", "{\"added_tokens\": [1]}"] {
        let spec = GuardSpec::built_in("aegis-small").unwrap();
        assert!(GuardTokenizer::new(spec, file.as_bytes()).is_err(), "{file}");
    }
    let llama = "extends = \"shieldgemma\"\n[template]\nbos_added = \"<other>\"\n";
    assert_eq!(field(llama, |file| file.replace("<other>", "<another>")), "template.bos_added");
}

#[test]
fn a_role_that_is_not_judged_has_no_prompt() {
    let spec = GuardSpec::built_in("wildguard").unwrap();
    let tokenizer = GuardTokenizer::new(spec.clone(), &vocabulary(&spec, Flavour::Pieces)).unwrap();
    for role in [Role::Assistant, Role::System, Role::Tool] {
        let turns = vec![Turn { role, text: "hello".to_owned() }];
        let result = tokenizer.encode(&Conversation { turns, judged: 0 }, 1_000);
        assert!(matches!(result, Err(PromptError::Role { .. })), "{result:?}");
    }
    let turns = vec![Turn { role: Role::Assistant, text: "hello".to_owned() }];
    let conversation = Conversation { turns, judged: 0 };
    let text = spec.prompt_text(&conversation, 10_000).unwrap().text;
    assert!(!text.ends_with("Harmful request:"), "the whole answer is needed: {text}");
}

/// The real vocabularies, if a folder of them is given: `AEGIS_TOKENIZERS=… cargo test --lib guards -- --ignored`. The
/// files are llama2.json, llama3.json, llama3_1.json, mistral1.json, qwen3.json, gemma3.json and smollm2.json.
#[test]
#[ignore = "needs a folder with the tokenizers of the model families, named by AEGIS_TOKENIZERS"]
fn verdicts_have_the_known_ids_in_real_vocabularies() {
    let folder = std::env::var("AEGIS_TOKENIZERS").expect("AEGIS_TOKENIZERS names a folder");
    let known: &[(&str, &str, &[u32], &[u32])] = &[
        ("llama-guard-1", "llama2", &[25110], &[9109]),
        ("aegis-defensive", "llama2", &[25110], &[9109]),
        ("md-judge", "mistral1", &[15426], &[5023]),
        // The vocabulary of version 3 begins with 768 more control tokens.
        ("wildguard", "mistral1", &[5849 - 768], &[1476 - 768]),
        ("llama-guard-2", "llama3", &[20451, 39257], &[6220, 19193]),
        ("llama-guard-3", "llama3_1", &[39257], &[19193]),
        ("llama-guard-3-1b", "llama3_1", &[39257], &[19193]),
        ("nemotron-safety-guard", "llama3_1", &[39257], &[19193]),
        ("polyguard", "qwen3", &[9834], &[902]),
        ("qwen3guard-strict", "qwen3", &[2093, 73067], &[22291]),
        ("qwen3guard-loose", "qwen3", &[73067], &[2093, 22291]),
        // The published ids are of Gemma 2: 3553 and 1294. These are the same strings in Gemma 3.
        ("shieldgemma", "gemma3", &[10784], &[3771]),
        ("aegis-small", "smollm2", &[20408], &[2991]),
    ];
    let mut random = fastrand::Rng::with_seed(5);
    for (name, file, harmful, safe) in known {
        let file = std::fs::read(format!("{folder}/{file}.json")).unwrap();
        let spec = GuardSpec::built_in(name).unwrap();
        let tokenizer = GuardTokenizer::new(spec, &file).unwrap_or_else(|error| panic!("{error}"));
        let mut expected = [harmful.to_vec(), safe.to_vec()];
        expected.iter_mut().for_each(|ids| ids.sort_unstable());
        let verdict = tokenizer.verdict();
        assert_eq!([verdict.harmful.clone(), verdict.safe.clone()], expected, "{name}");
        for hostile in [false, true] {
            for _ in 0..30 {
                let conversation = random_conversation(&mut random, tokenizer.spec(), hostile);
                let prompt = tokenizer.encode(&conversation, usize::MAX).unwrap();
                if !hostile && !prompt.cut {
                    let expected = encode_as_text(&tokenizer, &text_of(&tokenizer, &conversation));
                    assert_eq!(whole(&tokenizer, &prompt), expected, "{name} {conversation:?}");
                }
            }
        }
    }
}
