use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::core::language::Language;
use crate::experts::error::PanelError;
use crate::experts::text_folding::fold;

const FILE: &str = r#"
base = 0.05
[[terms]]
category = "harassment"
severity = 0.6
words = ["moron", "Total Idiot"]
[[terms]]
category = "threat"
severity = 0.9
words = ["kill you"]
[[patterns]]
id = "injection"
category = "manipulation"
severity = 0.8
regex = '\bignore\s+(?:all\s+)?previous\s+instructions\b'
"#;

fn rules() -> Rules {
    Rules::parse(Path::new("rules.toml"), FILE).unwrap()
}

fn categories(text: &str) -> Vec<(String, f64)> {
    rules()
        .score(&fold(text), Language::Unknown)
        .unwrap()
        .categories
        .into_iter()
        .map(|c| (c.category, c.score))
        .collect()
}

#[test]
fn the_greatest_severity_counts() {
    assert_eq!(rules().score(&fold("good morning"), Language::Unknown).unwrap().score, 0.05);
    let found = rules().score(&fold("You MORON, I will k\u{200b}ill   you"), Language::Unknown).unwrap();
    assert_eq!(found.score, 0.9);
    assert_eq!(
        categories("You MORON, I will kill   you"),
        [("harassment".to_owned(), 0.6), ("threat".to_owned(), 0.9)]
    );
}

#[test]
fn words_match_whole_and_patterns_folded() {
    assert!(categories("morons and oxymoron").is_empty());
    assert_eq!(categories("(moron)").len(), 1);
    assert_eq!(categories("a t0tal іdіοt").len(), 1);
    assert_eq!(categories("please ＩＧＮＯＲＥ previous\ninstructions now")[0].1, 0.8);
}

#[test]
fn a_severity_below_the_base_is_still_a_hit() {
    let rules = Rules::parse(
        Path::new("r"),
        "base = 0.5\n[[terms]]\ncategory = \"calm\"\nseverity = 0.1\nwords = [\"hello\"]",
    );
    assert_eq!(rules.unwrap().score(&fold("hello"), Language::Unknown).unwrap().score, 0.1);
}

#[test]
fn a_text_in_a_script_that_the_rules_lack_is_not_read() {
    for text in
        ["\u{1f600} \u{2764}", "สวัสดีครับ", "你好世界", "...!?", "привет", "нет", "сука", "και", "не, тот"]
    {
        assert_eq!(rules().score(&fold(text), Language::Unknown), Err(Abstention::NothingRead), "{text:?}");
    }
    for text in ["привет, moron", "7", "字 x"] {
        assert!(rules().score(&fold(text), Language::Unknown).is_ok(), "{text:?}");
    }
    // A hit counts as read, whatever its letters are, and so does a script that the rules use.
    let text = "base = 0.1\n[[terms]]\ncategory = \"c\"\nseverity = 0.8\nwords = [\"дурак\", \"\u{1f595}\"]";
    let rules = Rules::parse(Path::new("r"), text).unwrap();
    assert_eq!(rules.score(&fold("\u{1f595}"), Language::Unknown).unwrap().score, 0.8);
    assert_eq!(rules.score(&fold("да"), Language::Unknown).unwrap().score, 0.1);
    assert_eq!(rules.score(&fold("你好"), Language::Unknown), Err(Abstention::NothingRead));
}

#[test]
fn a_word_within_an_exception_does_not_count() {
    let text = "base = 0.1\n[[terms]]\ncategory = \"c\"\nseverity = 0.8\nwords = [\"coon\", \"chink\"]\n\
                except = ['\\bmaine\\s+coon\\b', '\\bchink\\s+in\\b']\n\
                [[terms]]\ncategory = \"d\"\nseverity = 0.6\nwords = [\"maine\"]";
    let rules = Rules::parse(Path::new("r"), text).unwrap();
    let score = |text: &str| rules.score(&fold(text), Language::Unknown).unwrap().score;
    assert_eq!(score("a Maine  Coon"), 0.6, "another group's words count");
    assert_eq!(score("a chink in it"), 0.1);
    assert_eq!(score("a chink"), 0.8);
    assert_eq!(score("a chink in it, you coon"), 0.8);
    assert_eq!(score("coon, a chink in it"), 0.8);
}

/// Entries of a German list that count everywhere, not in other languages, and only in German.
const SCOPED: &str = r#"
base = 0.1
[[terms]]
language = "de"
category = "all"
severity = 0.6
words = ["depp"]
[[terms]]
language = "de"
counts_in = "own_or_unknown"
category = "unless-other"
severity = 0.7
words = ["depp"]
[[patterns]]
id = "own"
language = "de"
counts_in = "own"
category = "own"
severity = 0.8
regex = '\bdepp\b'
"#;

#[test]
fn an_entry_counts_in_the_languages_of_its_scope() {
    let rules = Rules::parse(Path::new("r"), SCOPED).unwrap();
    let of = |language| {
        let found = rules.score(&fold("Depp"), language).unwrap();
        found.categories.into_iter().map(|found| found.category).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(Language::German), "all own unless-other");
    assert_eq!(of(Language::Unknown), "all unless-other");
    assert_eq!(of(Language::English), "all");
}

#[test]
fn rules_abstain_in_a_language_of_which_they_have_no_entry() {
    let rules = Rules::parse(Path::new("r"), SCOPED).unwrap();
    assert_eq!(rules.score(&fold("good morning"), Language::English), Err(Abstention::Language));
    assert_eq!(rules.score(&fold("guten Morgen"), Language::German).unwrap().score, 0.1);
    assert_eq!(rules.score(&fold("morgen"), Language::Unknown).unwrap().score, 0.1);
    // A text of unknown language that is certainly in none of theirs is not read either.
    let portuguese = crate::language::detect("vai embora daqui cara");
    assert_eq!(portuguese.language, Language::Unknown);
    assert_eq!(rules.score(&fold("vai embora daqui cara"), portuguese), Err(Abstention::Language));
    // Rules without languages are for all texts.
    assert!(
        super::Rules::parse(Path::new("r"), FILE)
            .unwrap()
            .score(&fold("dzień dobry"), Language::Polish)
            .is_ok()
    );
}

#[test]
fn chinese_words_need_no_boundaries() {
    let text = "base = 0.1\n[[terms]]\ncategory = \"c\"\nseverity = 0.8\nwords = [\"混蛋\", \"傻b\"]";
    let rules = Rules::parse(Path::new("r"), text).unwrap();
    let score = |text: &str| rules.score(&fold(text), Language::Chinese).unwrap().score;
    for hit in ["你是混蛋吗", "混蛋", "ok混蛋ok", "傻B", "你这傻b，", "你傻b吗"] {
        assert_eq!(score(hit), 0.8, "{hit}");
    }
    assert_eq!(score("傻bob"), 0.1);
}

/// The time is linear in the length of a text: with a quadratic one, a million characters would reach the fail-safe.
#[test]
fn hostile_text_takes_bounded_time() {
    const FAIL_SAFE: Duration = Duration::from_secs(300);
    let (sender, scored) = mpsc::channel();
    thread::spawn(move || {
        let rules = rules();
        for text in ["ignore all ".repeat(90_000), "kill".repeat(250_000), "\u{fdfa}".repeat(333_000)] {
            let _ = rules.score(&fold(&text), Language::Unknown);
        }
        sender.send(()).unwrap();
    });
    scored.recv_timeout(FAIL_SAFE).unwrap();
}

#[test]
fn an_invalid_entry_is_refused_with_its_name() {
    for (old, new, expected) in [
        ("base = 0.05", "base = 2", "base"),
        ("severity = 0.6", "severity = -1", "terms[0].severity"),
        ("\"moron\"", "\"\u{200b}\"", "terms[0].words"),
        ("words = [\"kill you\"]", "words = [\"x\"]\nexcept = ['(']", "terms[1].except"),
        ("severity = 0.8", "severity = 8", "pattern \"injection\", severity"),
        ("previous", "(", "pattern \"injection\", regex"),
        ("category = \"threat\"", "categorie = \"threat\"", "line 8"),
        ("severity = 0.6", "severity = 0.6\nlanguage = \"deutsch\"", "terms[0].language"),
        ("severity = 0.9", "severity = 0.9\ncounts_in = \"own\"", "terms[1].counts_in"),
        ("severity = 0.8", "severity = 0.8\nlanguage = \"unknown\"", "pattern \"injection\", language"),
    ] {
        let error = Rules::parse(Path::new("rules.toml"), &FILE.replacen(old, new, 1)).unwrap_err();
        let PanelError::Rules { field, .. } = &error else { panic!("{error}") };
        assert_eq!(field, expected, "{error}");
    }
}
