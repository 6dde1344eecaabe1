use super::*;

fn read(name: &str, judged: Role, answer: &str) -> Option<(bool, Vec<String>)> {
    let spec = GuardSpec::built_in(name).unwrap();
    spec.parse_answer(judged, answer).map(|answer| (answer.harmful, answer.categories))
}

#[test]
fn answers_of_every_grammar_are_read() {
    let (user, assistant) = (Role::User, Role::Assistant);
    let cases: &[(&str, Role, &str, bool, &[&str])] = &[
        ("llama-guard-3", user, "\n\nsafe", false, &[]),
        ("llama-guard-3", user, "\n\nunsafe\nS1,S10, s14", true, &["violence", "hate", "malware"]),
        ("llama-guard-3", assistant, "unsafe", true, &[]),
        ("llama-guard-3", user, "safe\nS1", false, &[]),
        // One code of the taxonomy twice, and codes that the model made up.
        ("llama-guard-3", user, "unsafe\nS3,S12,S99,unknown", true, &["sexual"]),
        // The meaning of S5 differs between versions.
        ("llama-guard-2", user, " unsafe\nS5", true, &["unauthorized-advice"]),
        ("llama-guard-3", user, "unsafe\nS5", true, &["misinformation"]),
        ("aegis-defensive", user, " unsafe\nO13", true, &["needs-caution"]),
        ("nemotron-safety-guard", user, r#"{"User Safety": "safe"}"#, false, &[]),
        (
            "nemotron-safety-guard",
            user,
            r#"{"User Safety": "unsafe", "Safety Categories": "Violence, PII/Privacy, Fraud/Deception"}"#,
            true,
            &["violence", "pii", "fraud"],
        ),
        (
            "nemotron-safety-guard",
            assistant,
            "{\"User Safety\": \"unsafe\", \"Response Safety\": \"safe\",\n\"Safety Categories\": [\"Threat\"]}",
            false,
            &[],
        ),
        ("wildguard", user, "Harmful request: yes\nResponse refusal: n/a", true, &[]),
        (
            "wildguard",
            assistant,
            "Harmful request: yes\nResponse refusal: yes\nHarmful response: no",
            false,
            &[],
        ),
        (
            "polyguard",
            assistant,
            "Harmful request: no\nRequest safety violations: n/a\nResponse refusal: no\nHarmful response: yes\n\
             Response safety violations: S9, S2",
            true,
            &["weapons", "illegal-activity"],
        ),
        (
            "qwen3guard-strict",
            user,
            "Safety: Unsafe\nCategories: Suicide & Self-Harm, Jailbreak",
            true,
            &["self-harm", "manipulation"],
        ),
        ("qwen3guard-strict", assistant, "Safety: Safe\nCategories: None\nRefusal: No", false, &[]),
        ("qwen3guard-strict", user, "<think>\nhm\n</think>\nSafety: Safe\nCategories: None", false, &[]),
        // The prompt of a server may have opened the block.
        ("qwen3guard-strict", user, "Safety: Unsafe\n</think>\nSafety: Safe\nCategories: None", false, &[]),
        ("shieldgemma-sexual", user, "Yes. It violates", true, &["sexual"]),
        ("granite-guardian", user, "No\n<confidence> High </confidence>", false, &[]),
        ("aegis-small", user, "Verdict: unsafe", true, &[]),
    ];
    for (name, judged, answer, harmful, categories) in cases {
        let found = read(name, *judged, answer);
        let expected = (*harmful, categories.iter().map(|slug| (*slug).to_owned()).collect::<Vec<_>>());
        assert_eq!(found, Some(expected), "{name}: {answer}");
    }
}

#[test]
fn hostile_answers_have_no_verdict() {
    let cases = [
        ("llama-guard-3", ""),
        ("llama-guard-3", "\n \n"),
        ("llama-guard-3", "I cannot help with that."),
        ("llama-guard-3", "safely said, it is unsafe"),
        ("llama-guard-3", "safe\nunsafe"),
        ("llama-guard-3", "unsafe\nS1\nsafe"),
        ("nemotron-safety-guard", r#"{"User Safety": "safe", "User Safety": "unsafe"}"#),
        ("nemotron-safety-guard", r#"{"User Safety": "perhaps"}"#),
        ("nemotron-safety-guard", r#"{"User Safety": ["safe"]}"#),
        ("nemotron-safety-guard", r#"{"Response Safety": "safe"}"#),
        ("nemotron-safety-guard", "{\"User Safety\": \"safe\""),
        ("nemotron-safety-guard", "}{"),
        ("wildguard", "Harmful request: yes\nHarmful request: no"),
        ("wildguard", "Harmful response: yes"),
        ("qwen3guard-strict", "<think>\nSafety: Safe"),
        ("qwen3guard-strict", "<think>a</think>Safety: Safe\n<think>"),
        ("shieldgemma", "Maybe"),
        ("shieldgemma", "..."),
    ];
    for (name, answer) in cases {
        assert_eq!(read(name, Role::User, answer), None, "{name}: {answer}");
    }
    let deep = format!("{{\"User Safety\": \"safe\", \"x\": {}", "[".repeat(60_000));
    assert_eq!(read("nemotron-safety-guard", Role::User, &format!("{deep}}}")), None);
}

#[test]
fn an_answer_of_a_megabyte_is_not_read() {
    for name in crate::guards::NAMES {
        let spec = GuardSpec::built_in(name).unwrap();
        for &judged in spec.judged_roles() {
            assert_eq!(spec.parse_answer(judged, &"unsafe\n".repeat(150_000)), None, "{name}");
            // Without the limit this would be an answer of the first grammar.
            assert_eq!(spec.parse_answer(judged, &format!("safe{}", " ".repeat(1_000_000))), None, "{name}");
            let long = format!("unsafe\n{}", "S1,".repeat(20_000));
            let answer = spec.parse_answer(judged, &long);
            assert!(answer.is_none_or(|answer| answer.categories.len() <= 1), "{name}");
        }
    }
}

#[test]
fn a_tag_holds_the_verdict_once() {
    let toml = "extends = \"granite-guardian\"\nname = \"tagged\"\n[answer]\ngrammar = \"tag\"\nharmful = \"score\"\n";
    let spec = GuardSpec::parse(toml).unwrap();
    let read = |answer| spec.parse_answer(Role::User, answer).map(|answer| answer.harmful);
    assert_eq!(read("<think>\n</think>\n<score> yes </score>"), Some(true));
    assert_eq!(read("<score>no"), Some(false));
    assert_eq!(read("<score>no</score><score>yes</score>"), None);
    assert_eq!(read("no"), None);
}
