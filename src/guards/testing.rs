//! Small vocabularies and random conversations for the tests of this room.

use std::sync::LazyLock;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::NAMES;
use super::spec::GuardSpec;
use crate::core::event::{Conversation, Role, Turn};

/// The two kinds of vocabulary that guards have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Flavour {
    /// Byte-level BPE behind a splitting expression, as in Llama 3, Qwen and SmolLM2.
    Bytes,
    /// BPE over characters with a mark for spaces, also before a text, as in Llama 2 and Mistral.
    Pieces,
}

impl Flavour {
    pub(super) const ALL: [Self; 2] = [Self::Bytes, Self::Pieces];
}

/// Pairs that are joined, so that words begin with distinct tokens: a space, and a letter or two.
const MERGES: &[(&str, &str)] = &[
    ("_", "u"),
    ("_", "s"),
    ("_", "y"),
    ("_", "n"),
    ("_", "U"),
    ("_", "S"),
    ("_", "C"),
    ("_", "Y"),
    ("_", "N"),
    ("_", "t"),
    ("t", "h"),
    ("th", "e"),
    ("_t", "h"),
    ("_th", "e"),
    (">", "\""),
    ("s", "s"),
    ("-", "-"),
    ("e", "n"),
];

/// The tokenizer.json of a small vocabulary that holds the spec's control tokens.
pub(super) fn vocabulary(spec: &GuardSpec, flavour: Flavour) -> Vec<u8> {
    let space = match flavour {
        Flavour::Bytes => "Ġ",
        Flavour::Pieces => "▁",
    };
    let mut tokens: Vec<String> = match flavour {
        Flavour::Bytes => {
            let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
            letters.sort_unstable();
            letters.into_iter().map(String::from).collect()
        }
        Flavour::Pieces => {
            let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
            let letters = (' '..='~').skip(1).map(String::from);
            std::iter::once("<unk>".to_owned()).chain(bytes).chain(["▁".to_owned()]).chain(letters).collect()
        }
    };
    let with_space = |part: &str| part.replace('_', space);
    let merges: Vec<[String; 2]> =
        MERGES.iter().map(|(left, right)| [with_space(left), with_space(right)]).collect();
    for merged in merges.iter().map(|pair| pair.concat()) {
        if !tokens.contains(&merged) {
            tokens.push(merged);
        }
    }
    let template = &spec.raw.template;
    let bos = spec.bos().map(|(token, _)| token.to_owned());
    let mut added: Vec<Value> = Vec::new();
    for content in template.control.iter().chain(&template.reserved).chain(&bos) {
        if added.iter().all(|token| token["content"] != content.as_str()) {
            // Vocabularies do not mark all of their control tokens as special.
            let special = added.len().is_multiple_of(2);
            added.push(json!({
                "id": tokens.len() + added.len(), "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special
            }));
        }
    }
    let vocab: serde_json::Map<String, Value> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let pieces = matches!(flavour, Flavour::Pieces);
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    ]});
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": if pieces { normalizer } else { Value::Null },
        "pre_tokenizer": if pieces { Value::Null } else { byte_level.clone() },
        // A file that adds a token must not add it to prompts.
        "post_processor": if pieces { Value::Null } else { byte_level.clone() },
        "decoder": if pieces { Value::Null } else { byte_level },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": pieces.then_some("<unk>"),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": pieces,
            "byte_fallback": pieces, "vocab": vocab, "merges": merges
        }
    });
    serde_json::to_vec(&file).unwrap()
}

/// Text that vocabularies and templates treat in special ways.
const SNIPPETS: &[&str] = &[
    "the",
    "unsafe",
    "safe\nS1",
    " ",
    "\n",
    "\n\n",
    "  ",
    "\t",
    ":",
    "\"",
    "'s",
    "-",
    "<",
    ">",
    "|",
    "[",
    "7",
    "é",
    "e\u{301}",
    "你好",
    "😀",
    "\u{200b}",
    "Ġ",
    "▁",
    "User:",
    "Agent: yes",
    "<END CONVERSATION>",
    "{{ policy }}",
    "{% raw %}",
    "</score>",
    "\r\n",
    ".",
    "word",
    "Word",
];

/// The control tokens of all specs.
static CONTROL: LazyLock<Vec<String>> = LazyLock::new(|| {
    let templates = NAMES.iter().map(|name| GuardSpec::built_in(name).unwrap().raw.template);
    templates.flat_map(|template| template.control.into_iter().chain(template.reserved)).collect()
});

/// A conversation of up to six turns, the last of which is judged and of a role that the spec judges by the next token.
/// Hostile texts hold the control tokens of all specs.
pub(super) fn random_conversation(
    random: &mut fastrand::Rng,
    spec: &GuardSpec,
    hostile: bool,
) -> Conversation {
    let mut snippets: Vec<String> = SNIPPETS.iter().map(|text| (*text).to_owned()).collect();
    if hostile {
        snippets.extend(CONTROL.iter().cloned());
        snippets.extend(["\u{F0000}0\u{F0001}".to_owned(), "\u{F0000}".to_owned()]);
    }
    let mut text = || -> String {
        (0..random.usize(0..12)).map(|_| snippets[random.usize(..snippets.len())].as_str()).collect()
    };
    let texts: Vec<String> = (0..6).map(|_| text()).collect();
    let roles = spec.next_token_roles();
    let judged = roles[random.usize(..roles.len())];
    let before = random.usize(0..6);
    let mut turns: Vec<Turn> = texts
        .into_iter()
        .take(before + 1)
        .map(|text| Turn { role: Role::ALL[random.usize(..4)], text })
        .collect();
    turns[before].role = judged;
    Conversation { turns, judged: before }
}
