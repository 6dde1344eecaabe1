//! Compares the output that a page shows with the real output.
//!
//! Times, hashes, places in topics and measured durations may be others; numbers with a point may differ by a hundredth; a line `…`
//! stands for any lines, and `…` at a line's end for its rest.

use std::sync::LazyLock;

use regex::Regex;

/// By how much a number may differ: scores are the same within 1e-4, and the last digit is rounded.
const NEAR: f64 = 0.01;

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

static TIME: LazyLock<Regex> = LazyLock::new(|| pattern(r"\d{4}-\d\d-\d\dT[\d:.]+Z"));
static HASH: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b"));
/// In a skeleton.
static MEASURED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"<number>e-\d+|(?:<number>|\b\d+) (?:ms|s|texts/s)\b"));
static PLACE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:offset \d+|\d+:\d+)\b"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"[-+]?\d+\.\d+"));

/// A line without what may be another, and its numbers.
fn skeleton(line: &str) -> (String, Vec<f64>) {
    let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = TIME.replace_all(&words, "<time>");
    let words = PLACE.replace_all(&words, "<place>");
    let words = HASH.replace_all(&words, "<hash>").into_owned();
    let numbers = NUMBER.find_iter(&words).map(|found| found.as_str().parse().unwrap()).collect();
    (NUMBER.replace_all(&words, "<number>").into_owned(), numbers)
}

fn near((one, other): (&f64, &f64)) -> bool {
    (one - other).abs() <= NEAR
}

/// Returns `true` if a line matches the shown one.
fn same(shown: &str, came: &str) -> bool {
    if let Some(beginning) = shown.strip_suffix('…') {
        let ((shown, expected), (came, found)) = (skeleton(beginning), skeleton(came));
        return came.starts_with(&shown) && expected.iter().zip(&found).all(near);
    }
    let ((shown, expected), (came, found)) = (skeleton(shown), skeleton(came));
    if shown == came && expected.len() == found.len() && expected.iter().zip(&found).all(near) {
        return true;
    }
    let durations = |line: &str| MEASURED.replace_all(line, "<measured>").into_owned();
    MEASURED.is_match(&shown) && durations(&shown) == durations(&came)
}

/// Returns `true` if the output matches the shown one, line by line.
pub fn compare(shown: &[String], came: &[&str]) -> Result<(), String> {
    let mut came = came.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty());
    let mut skipping = false;
    for line in shown.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()) {
        if line == "…" {
            skipping = true;
            continue;
        }
        let found = came.by_ref().find(|candidate| !skipping || same(line, candidate));
        match found {
            Some(candidate) if same(line, candidate) => skipping = false,
            Some(candidate) => return Err(format!("shown:  {line}\nprinted: {candidate}")),
            None => return Err(format!("shown and not printed: {line}")),
        }
    }
    match came.next() {
        Some(more) if !skipping => Err(format!("printed and not shown: {more}")),
        _ => Ok(()),
    }
}

/// The same where figures hang on what a run met, and on when: the lines without a digit came, in their order.
pub fn compare_words(shown: &[String], came: &[&str]) -> Result<(), String> {
    let stable = |line: &&String| !line.contains(|letter: char| letter.is_ascii_digit() || letter == '…');
    let mut came = came.iter();
    for line in shown.iter().filter(|line| !line.trim().is_empty()).filter(stable) {
        if !came.any(|candidate| skeleton(candidate) == skeleton(line)) {
            return Err(format!("shown and not printed, in this order: {line}"));
        }
    }
    Ok(())
}

#[test]
fn what_is_shown_must_have_come() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let came = [
        "p 0.5012 at 2026-11-24T11:57:57.184Z",
        "state 3dfd5dc9428f at offset 7",
        "",
        "abuse   0.1  -0.0012",
        "end 3",
    ];
    let all =
        "p 0.5034 at 2030-01-01T00:00:00.000Z\nstate 000000000000 at offset 12\nabuse 0.1 -0.0011\nend 3";
    assert_eq!(compare(&shown(all), &came), Ok(()));
    assert_eq!(compare(&shown("p 0.5 at 2030-01-01T00:00:00Z\n…\nend 3"), &came), Ok(()));
    assert_eq!(compare(&shown("p 0.5 at…\n…"), &came), Ok(()));
    for (wrong, why) in [
        ("p 0.5 at 2030-01-01T00:00:00Z\nend 3", "shown:  end 3"),
        ("p 0.6 at 2030-01-01T00:00:00Z\n…", "shown:  p 0.6"),
        ("…\nend 4", "shown and not printed: end 4"),
        ("p 0.5 at 2030-01-01T00:00:00Z", "printed and not shown: state"),
    ] {
        let found = compare(&shown(wrong), &came).unwrap_err();
        assert!(found.starts_with(why), "{found}");
    }
    assert_eq!(compare(&shown("abuse 0.07 12 0.6 ms"), &["abuse  0.07  12  48.11 ms"]), Ok(()));
    let came = ["member weight", "a 0.4", "not erased (yet)"];
    assert_eq!(compare_words(&shown("member  weight\nb 0.9\n…\nnot erased (yet)"), &came), Ok(()));
    assert!(compare_words(&shown("not erased (yet)\nmember weight"), &came).is_err());
}
