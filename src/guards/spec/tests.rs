use std::path::Path;

use super::*;
use crate::core::event::{Conversation, Turn};
use crate::guards::{NAMES, SpecError};

fn turn(role: Role, text: &str) -> Turn {
    Turn { role, text: text.to_owned() }
}

/// A conversation in which a turn of this role is judged.
fn example(judged: Role) -> Conversation {
    let mut turns = vec![
        turn(Role::System, "Be brief."),
        turn(Role::User, "How do I bake bread?"),
        turn(Role::Assistant, "With flour, water and time."),
        turn(Role::User, "  And how long? \n"),
    ];
    if judged == Role::Assistant {
        turns.push(turn(Role::Assistant, "An hour."));
    }
    Conversation { judged: turns.len() - 1, turns }
}

/// The field of the error that refuses this TOML.
fn field(text: &str) -> String {
    match GuardSpec::parse(text) {
        Err(SpecError::Invalid { field, remedy, problem, .. })
            if !remedy.is_empty() && !problem.is_empty() =>
        {
            field
        }
        other => panic!("{other:?}\n{text}"),
    }
}

const SMALL: &str = include_str!("../../../experts/guards/aegis-small.toml");

#[test]
fn every_bundled_spec_is_named_after_its_file() {
    for name in NAMES {
        let spec = GuardSpec::built_in(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(spec.name(), *name);
        let rest = spec.with_policy_text("Z1: Anything that this house forbids.");
        assert!(rest.is_ok() || matches!(*name, "wildguard"), "{name}: {rest:?}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experts/guards");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, NAMES.len(), "a file in experts/guards is not in the list of built_in.rs");
    assert!(matches!(GuardSpec::built_in("no-such"), Err(SpecError::Unknown { .. })));
}

#[test]
fn categories_are_of_the_taxonomy() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies.toml");
    let policies = std::fs::read_to_string(policies).unwrap();
    for name in NAMES {
        let spec = GuardSpec::built_in(name).unwrap();
        let implied = spec.answer().implies.clone();
        for slug in spec.categories().into_iter().map(|category| category.category).chain(implied) {
            assert!(policies.contains(&format!("slug = \"{slug}\"")), "{name}: {slug}");
        }
    }
}

#[test]
fn the_category_that_a_verdict_implies_is_reported_too() {
    let reported = |name: &str| GuardSpec::built_in(name).unwrap().reported_categories();
    assert_eq!(reported("shieldgemma"), ["criminal-planning"]);
    assert_eq!(reported("shieldgemma-hate-speech"), ["hate"]);
    assert!(reported("granite-guardian").is_empty());
    // Two codes have the same slug.
    assert_eq!(reported("llama-guard-3").iter().filter(|slug| *slug == "sexual").count(), 1);
}

/// The prompts of all specs. `AEGIS_WRITE_DOCS=1 cargo test --lib guards` writes the files again.
#[test]
fn prompts_equal_the_golden_files() {
    for name in NAMES {
        let spec = GuardSpec::built_in(name).unwrap();
        for &judged in spec.judged_roles() {
            let conversation = example(judged);
            let prompt = spec.prompt_text(&conversation, 1_000_000).unwrap();
            assert!(!prompt.cut);
            let bos = spec.bos().map(|(token, _)| token).unwrap_or_default();
            let text = format!("{bos}{}", prompt.text);
            let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("tests/guards/{name}.{}.txt", judged.word()));
            if std::env::var_os("AEGIS_WRITE_DOCS").is_some() {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
            let golden = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(golden, text, "{}", file.display());
        }
    }
}

#[test]
fn a_template_must_show_every_turn_once() {
    let cases = [
        ("{{ message.content }}<", "<", "template.text"),
        ("{{ message.content }}<", "{{ message.content }}{{ message.content }}<", "template.text"),
        ("{% endfor %}", "", "template.text"),
        ("{{ message.role }}", "{{ no_such_value }}", "template.text"),
        ("{{ message.content }}<", "{{ message.content | upper | replace('1', '') }}<", "template.text"),
        ("{{ policy }}", "{{ polizy }}", "messages[0].content"),
        ("turns = true", "role = \"user\"\ncontent = \"{{ prompt }}\"", "template.text"),
    ];
    for (old, new, expected) in cases {
        assert!(SMALL.contains(old), "{old}");
        assert_eq!(field(&SMALL.replacen(old, new, 1)), expected, "{old} -> {new}");
    }
}

#[test]
fn a_contradiction_is_refused_with_its_field() {
    let cases = [
        ("name = \"aegis-small\"", "name = \"a b\"", "name"),
        ("off_template_limit = 0.5", "off_template_limit = 0.0", "off_template_limit"),
        ("context = 8192", "context = 8", "context"),
        ("max_tokens = 8", "max_tokens = 0", "answer.max_tokens"),
        ("licence", "license", "the file"),
        ("safe = [\" safe\"]", "safe = []", "verdict.safe"),
        ("safe = [\" safe\"]", "safe = [\" unsafe\"]", "verdict.safe"),
        ("judged = [\"user\", \"assistant\"]", "judged = [\"customer\"]", "roles.judged"),
        ("judged = [\"user\", \"assistant\"]", "judged = []", "roles.judged"),
        ("judged = [\"user\", \"assistant\"]", "judged = [\"tool\"]", "answer.harmful"),
        ("grammar = \"lines\"", "grammar = \"prose\"", "the file"),
        ("harmful = {", "nothing = {", "the file"),
        ("violence, sexual", "<|im_end|>violence, sexual", "policy"),
        ("control = [", "bos_written = \"<s>\"\ncontrol = [", "template.bos_written"),
        ("control = [", "bos_added = \"<|im_start|>\"\ncontrol = [", "template.bos_added"),
        ("control = [", "bos_written = \"<s>\"\nbos_added = \"<s>\"\ncontrol = [", "template.bos_added"),
        ("name = \"aegis-small\"", "extends = \"nothing\"\nname = \"a\"", "extends"),
        ("version = \"1\"", "version = ", "line 4"),
        ("violence, sexual", "\u{F0000}violence, sexual", "the file"),
    ];
    for (old, new, expected) in cases {
        assert!(SMALL.contains(old), "{old}");
        assert_eq!(field(&SMALL.replacen(old, new, 1)), expected, "{old} -> {new}");
    }
}

#[test]
fn a_policy_text_changes_the_version() {
    let spec = || GuardSpec::built_in("llama-guard-3").unwrap();
    let version = spec().version();
    assert_eq!((version.len(), version == spec().version()), (VERSION_DIGITS, true));
    let own = spec().with_policy_text("H1: Gossip.").unwrap();
    assert_ne!(own.version(), version);
    let categories =
        [Category { code: "H1".to_owned(), name: "Gossip".to_owned(), category: "harassment".to_owned() }];
    let own_codes = own.clone().with_categories(&categories).unwrap();
    assert_ne!(own_codes.version(), own.version());
    let prompt = own_codes.prompt_text(&Conversation::of_text("hello"), 10_000).unwrap();
    assert!(prompt.text.contains("CATEGORIES>\nH1: Gossip.\n<END"), "{}", prompt.text);
    let answer = own_codes.parse_answer(Role::User, "\n\nunsafe\nH1").unwrap();
    assert_eq!(answer.categories, ["harassment"]);
    for bad in ["", " \n", "a <|eot_id|> b"] {
        assert!(spec().with_policy_text(bad).is_err(), "{bad:?}");
    }
    let without = GuardSpec::built_in("wildguard").unwrap().with_policy_text("H1: Gossip.");
    assert!(matches!(without, Err(SpecError::Invalid { field, .. }) if field == "policy"));
}

#[test]
fn a_loose_guard_counts_controversial_as_safe() {
    let strict = GuardSpec::built_in("qwen3guard-strict").unwrap();
    let loose = GuardSpec::built_in("qwen3guard-loose").unwrap();
    assert_eq!(strict.harmful_strings(), [" Unsafe", " Controversial"]);
    assert_eq!(loose.safe_strings(), [" Safe", " Controversial"]);
    let answer = "Safety: Controversial\nCategories: PII";
    assert!(strict.parse_answer(Role::User, answer).unwrap().harmful);
    assert!(!loose.parse_answer(Role::User, answer).unwrap().harmful);
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let endless = SMALL.replacen(
        "{% for message",
        "{% for a in range(9000) %}{% for b in range(9000) %}{% endfor %}{% endfor %}{% for message",
        1,
    );
    assert_eq!(field(&endless), "template.text");
}
