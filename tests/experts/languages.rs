//! Experts that read some languages only, and the figures of the detection.

use crate::experts_support;
use crate::views::add;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aegis::core::language::Language;
use aegis::core::vote::Abstention;
use aegis::experts::Panel;
use aegis::language::detect;
use experts_support::Folder;
use experts_support::asked::{config, outcome};

const ENGLISH: &str = "How do I get to the station from here, please?";
const GERMAN: &str = "Wie komme ich von hier zum Bahnhof, bitte?";
const THAI: &str = "ฉันจะไปสถานีได้อย่างไร 123";

#[test]
fn an_expert_abstains_on_texts_in_other_languages() {
    let folder = Folder::new();
    add(&folder, "minilm", "minilm", "");
    add(&folder, "hate", "english", "languages = [\"en\"]");
    add(&folder, "hate", "german", "languages = [\"de\"]");
    add(&folder, "rules", "all", "");
    add(&folder, "rules", "both", "languages = [\"en\", \"de\"]");
    let panel = Panel::open(config(&folder)).unwrap();
    let codes: Vec<_> = panel.experts().iter().map(|expert| expert.languages.to_string()).collect();
    assert_eq!(codes, ["all", "de, en", "en", "de"]);
    let asked = |text: &str| {
        let answer = panel.ask(&[text]).remove(0);
        let refused = answer.votes.iter().filter(|vote| outcome(vote) == Err(Abstention::Language));
        let is_latin = [ENGLISH, GERMAN].contains(&text);
        assert!(answer.reading.is_some() || !is_latin, "the features do not depend on languages");
        (answer.language.code(), refused.map(|vote| vote.expert.clone()).collect::<Vec<_>>())
    };
    let none: [&str; 0] = [];
    let check = |text: &str, language: &str, refused: &[&str]| {
        assert_eq!(asked(text), (language, refused.iter().map(|id| (*id).to_owned()).collect()), "{text}");
    };
    check(ENGLISH, "en", &["german"]);
    check(GERMAN, "de", &["english"]);
    // The rules have entries of languages, and none of this one.
    check(THAI, "th", &["all", "both", "english", "german"]);
    // A short text may be in any language of its script, and one without letters in any.
    check("ok thanks", "unknown", &none);
    check("12345", "unknown", &none);
    check("да", "unknown", &["all", "both", "english", "german"]);
}

/// The sets with the number of their texts' languages.
type Texts = Vec<(String, String)>;

fn labelled(name: &str) -> Texts {
    let data = std::env::var_os("AEGIS_SHARED_DATA").map_or_else(|| "../shared/data".into(), PathBuf::from);
    let path = data.join(format!("labelled/{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let language = row["language"].as_str().unwrap_or("en").to_owned();
        (language, row["text"].as_str().unwrap_or_default().to_owned())
    };
    text.lines().map(row).collect()
}

/// Sentences in files named by their languages' codes, if AEGIS_LANGUAGE_DATA names their folder: every second one.
fn sentences(half: usize) -> Texts {
    let Some(folder) = std::env::var_os("AEGIS_LANGUAGE_DATA") else { return Vec::new() };
    let mut texts = Vec::new();
    for language in Language::KNOWN.iter().map(|language| language.code()) {
        let Ok(text) = std::fs::read_to_string(Path::new(&folder).join(format!("{language}.txt"))) else {
            continue;
        };
        let lines = text.lines().skip(half).step_by(2);
        texts.extend(lines.map(|line| (language.to_owned(), line.to_owned())));
    }
    texts
}

/// The beginnings of texts: words, or pairs of characters where words are not separated. Each once.
fn beginnings(texts: &Texts, words: usize) -> Texts {
    let begin = |language: &str, text: &str| {
        if matches!(language, "zh" | "ja" | "th" | "km" | "my") {
            return Some(text.chars().take(2 * words).collect());
        }
        let found: Vec<_> = text.split_whitespace().take(words).collect();
        (found.len() == words).then(|| found.join(" "))
    };
    let found: BTreeSet<_> = texts
        .iter()
        .filter_map(|(language, text)| Some((language.clone(), begin(language, text)?)))
        .collect();
    found.into_iter().collect()
}

fn whichlang(text: &str) -> String {
    let name = whichlang::detect_language(text).three_letter_code();
    whatlang::Lang::from_code(name).map_or_else(|| name.to_owned(), |name| name.code().to_owned())
}

/// The ISO 639-3 code by which both crates name a language.
fn long(code: &str) -> &str {
    let codes = [
        ("ar", "ara"),
        ("cs", "ces"),
        ("da", "dan"),
        ("de", "deu"),
        ("el", "ell"),
        ("en", "eng"),
        ("es", "spa"),
        ("fa", "pes"),
        ("fi", "fin"),
        ("fr", "fra"),
        ("he", "heb"),
        ("hi", "hin"),
        ("hu", "hun"),
        ("id", "ind"),
        ("it", "ita"),
        ("ja", "jpn"),
        ("ko", "kor"),
        ("nl", "nld"),
        ("no", "nob"),
        ("pl", "pol"),
        ("pt", "por"),
        ("ro", "ron"),
        ("ru", "rus"),
        ("sv", "swe"),
        ("th", "tha"),
        ("tr", "tur"),
        ("uk", "ukr"),
        ("vi", "vie"),
        ("zh", "cmn"),
    ];
    codes.iter().find(|(short, _)| *short == code).map_or(code, |(_, long)| long)
}

/// The CPU time of this thread in microseconds, which other processes do not change.
fn cpu_micros() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e3
}

/// Prints the shares of a set: named right, unknown, named wrong; of English texts those that English experts do not read,
/// and of texts in other languages those that they do.
fn print(set: &str, texts: &Texts) {
    if texts.is_empty() {
        return;
    }
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    let (mut first, mut second, mut right, mut unknown) = (0, 0, 0, 0);
    let (mut english, mut unread, mut others, mut read) = (0, 0, 0, 0);
    let mut named = BTreeMap::<&str, [usize; 2]>::new();
    let began = cpu_micros();
    let found: Vec<_> = texts.iter().map(|(_, text)| detect(text)).collect();
    let micros = (cpu_micros() - began) / texts.len() as f64;
    for ((language, text), found) in texts.iter().zip(&found) {
        first += usize::from(whichlang(text) == long(language));
        second += usize::from(whatlang::detect_lang(text).is_some_and(|name| name.code() == long(language)));
        let is_right = found.language.code() == language;
        right += usize::from(is_right);
        unknown += usize::from(found.language == Language::Unknown);
        let counts = named.entry(language).or_default();
        counts[0] += 1;
        counts[1] += usize::from(is_right);
        let may_be_english = found.may_be(Language::English);
        if language == "en" {
            english += 1;
            unread += usize::from(!may_be_english);
        } else {
            others += 1;
            read += usize::from(may_be_english);
        }
    }
    let count = texts.len();
    println!(
        "{set:<24} {count:>6} texts, whichlang {:.3}, whatlang {:.3}; right {:.3}, unknown {:.3}, wrong {:.3}; \
         English unread {:.4}, other languages read {:.4}; {micros:.1} us",
        share(first, count),
        share(second, count),
        share(right, count),
        share(unknown, count),
        share(count - right - unknown, count),
        share(unread, english),
        share(read, others),
    );
    let named: Vec<_> =
        named.iter().map(|(code, [all, right])| format!("{code} {:.2}", share(*right, *all))).collect();
    println!("{:<24} right by language: {}", "", named.join(" "));
}

/// `cargo test --release --test experts figures_of_the_detection -- --ignored --nocapture` (docs/decisions/0020)
#[test]
#[ignore = "prints figures of the shared data"]
fn figures_of_the_detection() {
    let mut hatecheck = labelled("multilingual_hatecheck");
    hatecheck.extend(labelled("hatecheck"));
    let sets = [("hatecheck", hatecheck), ("chosen on", sentences(0)), ("held out", sentences(1))];
    for (name, texts) in &sets {
        for words in 1..=6 {
            print(&format!("{name}, {words} words"), &beginnings(texts, words));
        }
        print(&format!("{name}, whole"), texts);
    }
    for name in ["davidson_hate_offensive", "edos_sexism", "surge_toxicity", "openai_moderation", "xstest"] {
        print(name, &labelled(name));
    }
}

#[test]
fn the_page_lists_the_known_languages() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adding-an-expert.md");
    let text = std::fs::read_to_string(page).unwrap();
    let codes: Vec<_> = Language::KNOWN.iter().map(|language| language.code()).collect();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("manifests may name: {}.", codes.join(" "))), "{}", codes.join(" "));
}
