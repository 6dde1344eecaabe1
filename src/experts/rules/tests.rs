use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;

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
    rules().score(&fold(text)).unwrap().categories.into_iter().map(|c| (c.category, c.score)).collect()
}

#[test]
fn the_greatest_severity_counts() {
    assert_eq!(rules().score(&fold("good morning")).unwrap().score, 0.05);
    let found = rules().score(&fold("You MORON, I will k\u{200b}ill   you")).unwrap();
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
    assert_eq!(rules.unwrap().score(&fold("hello")).unwrap().score, 0.1);
}

#[test]
fn a_text_in_a_script_that_the_rules_lack_is_not_read() {
    for text in
        ["\u{1f600} \u{2764}", "สวัสดีครับ", "你好世界", "...!?", "привет", "нет", "сука", "και", "не, тот"]
    {
        assert_eq!(rules().score(&fold(text)), None, "{text:?}");
    }
    for text in ["привет, moron", "7", "字 x"] {
        assert!(rules().score(&fold(text)).is_some(), "{text:?}");
    }
    // A hit counts as read, whatever its letters are, and so does a script that the rules use.
    let text = "base = 0.1\n[[terms]]\ncategory = \"c\"\nseverity = 0.8\nwords = [\"дурак\", \"\u{1f595}\"]";
    let rules = Rules::parse(Path::new("r"), text).unwrap();
    assert_eq!(rules.score(&fold("\u{1f595}")).unwrap().score, 0.8);
    assert_eq!(rules.score(&fold("да")).unwrap().score, 0.1);
    assert_eq!(rules.score(&fold("你好")), None);
}

/// The hits of the bundled rules.
fn hits(text: &str) -> Vec<String> {
    static RULES: std::sync::OnceLock<Rules> = std::sync::OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experts/rules/rules.toml");
        Rules::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap()
    });
    let found = rules.score(&fold(text)).unwrap();
    found.categories.into_iter().map(|c| format!("{} {}", c.category, c.score)).collect()
}

#[test]
fn a_word_within_an_exception_does_not_count() {
    let text = "base = 0.1\n[[terms]]\ncategory = \"c\"\nseverity = 0.8\nwords = [\"coon\", \"chink\"]\n\
                except = ['\\bmaine\\s+coon\\b', '\\bchink\\s+in\\b']\n\
                [[terms]]\ncategory = \"d\"\nseverity = 0.6\nwords = [\"maine\"]";
    let rules = Rules::parse(Path::new("r"), text).unwrap();
    let score = |text: &str| rules.score(&fold(text)).unwrap().score;
    assert_eq!(score("a Maine  Coon"), 0.6, "another group's words count");
    assert_eq!(score("a chink in it"), 0.1);
    assert_eq!(score("a chink"), 0.8);
    assert_eq!(score("a chink in it, you coon"), 0.8);
    assert_eq!(score("coon, a chink in it"), 0.8);
}

#[test]
fn ordinary_words_and_names_are_no_hits_of_the_bundled_rules() {
    for text in [
        "Samsung Galaxy A55",
        "the A55 to Aberdeen",
        "I take the A55, then the M6.",
        "my Galaxy A05s, an mp3 for the PS5",
        "My Oppo A5s is slow; the Galaxy S23 is not.",
        "my Maine Coon",
        "Two Maine-Coons and a coonhound, a coon hound",
        "a chink in its armour",
        "chinks in the armor of the theory",
        "a chink of light through the curtains",
        "a dyke along the river, and Dick Van Dyke",
        "spic and span",
        "the car's tranny fluid needs a change",
        "a flame retardant, a fire-retarded sample; it retards the growth of mould",
        "faggots and peas with mash, a faggot of sticks",
        "gobbledy-gook",
        "spastic diplegia",
        "a strike would cripple the economy",
        "Moby Dick, Philip K. Dick and Tom, Dick and Harry",
        "a cock-and-bull story; the stop cock leaks",
        "a finger prick test; prick the skin of the potatoes",
        "blue tits and great tits at the feeder",
        "pussy willow",
        "magna cum laude; a kitchen-cum-diner",
        "the erection of a fence",
        "a garden hoe and a rake, a hard row to hoe",
    ] {
        assert_eq!(hits(text), Vec::<String>::new(), "{text:?}");
    }
}

#[test]
fn disguised_words_and_slurs_are_hits_of_the_bundled_rules() {
    for text in [
        "@ss",
        "a$$",
        "sh1t",
        "kiss my @$$",
        "a55hole",
        "5h!t",
        "b1tch",
        "d1ck",
        "fuck1ng",
        "c0ck",
        "p0rn",
        "sh17",
        "as5",
        "h03",
    ] {
        assert!(!hits(text).is_empty(), "{text:?}");
    }
    for text in [
        "f4ggot",
        "f4g",
        "n1gger",
        "k1ke",
        "c00n",
        "ch1nk",
        "you chink",
        "dirty coon",
        "that dyke",
        "you retard",
        "my Maine Coon and you, coon",
        "what a faggot",
        "the chinks next door",
        "a spic",
    ] {
        assert!(hits(text).iter().any(|hit| hit.starts_with("hate")), "{text:?}: {:?}", hits(text));
    }
}

/// The time is linear in the length of a text: with a quadratic one, a million characters would reach the fail-safe.
#[test]
fn hostile_text_takes_bounded_time() {
    const FAIL_SAFE: Duration = Duration::from_secs(300);
    let (sender, scored) = mpsc::channel();
    thread::spawn(move || {
        let rules = rules();
        for text in ["ignore all ".repeat(90_000), "kill".repeat(250_000), "\u{fdfa}".repeat(333_000)] {
            let _ = rules.score(&fold(&text));
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
    ] {
        let error = Rules::parse(Path::new("rules.toml"), &FILE.replacen(old, new, 1)).unwrap_err();
        let PanelError::Rules { field, .. } = &error else { panic!("{error}") };
        assert_eq!(field, expected, "{error}");
    }
}
