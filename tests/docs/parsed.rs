//! Every command line of Aegis in any page is one: its commands and flags exist.

use std::process::Command;

use crate::command::commands;
use crate::page::{Page, names, root};

/// Placeholders of the reader's own values, and the values that are parsed instead.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("PARTITION:OFFSET", "0:0"),
    ("bash|zsh|fish|elvish|powershell", "bash"),
    ("show|history|diff", "show"),
    ("list|show|replay", "list"),
    ("show|schema", "show"),
    ("…", ""),
];

/// Code in pages that begins like a command and is none.
const NO_COMMANDS: &[(&str, &str)] = &[
    ("aegis encoder 1", "the words under which a reading's hash is made"),
    ("aegis encoder together 1", "the words under which the hash of two encoders is made"),
    (
        "aegis encoder beside int8 1",
        "the words under which the hash of a panel with int8 graphs beside the encoder is made",
    ),
    ("aegis head on int8 1", "the words under which the hash of a head on an int8 encoder is made"),
    ("aegis model 1", "the words under which the hash of a model with external data is made"),
];

/// The words of the commands of Aegis in a text: each up to where the shell takes over.
fn words(text: &str) -> Vec<Vec<String>> {
    let text = PLACEHOLDERS
        .iter()
        .fold(text.replace("\\\n", " "), |text, (shown, parsed)| text.replace(shown, parsed));
    let lines = text.lines().flat_map(|line| line.split(" && ")).flat_map(|part| part.split(" | "));
    let lines = lines.filter_map(|line| line.trim().strip_prefix("aegis "));
    let quoted = |line: &str| {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for letter in line.chars() {
            match quote {
                Some(open) if letter == open => quote = None,
                None if letter == '\'' || letter == '"' => quote = Some(letter),
                None if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
                _ => word.push(letter),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        let end = words.iter().position(|word| word == "&" || word.contains('>'));
        words.truncate(end.unwrap_or(words.len()));
        words
    };
    lines.map(quoted).collect()
}

/// Returns the error of a command line. With `--help` at the end everything before it is parsed, and nothing is run.
fn wrong(words: &[String]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_aegis")).args(words).arg("--help").output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_command_line_of_aegis_parses() {
    let mut found = Vec::new();
    let mut count = 0;
    for name in names() {
        let page = Page::read(&name);
        let shown = commands(&page).into_iter().map(|command| (command.line, command.text));
        for (line, text) in page.code().into_iter().chain(shown) {
            if NO_COMMANDS.iter().any(|(code, _)| *code == text) {
                continue;
            }
            for words in words(&text) {
                count += 1;
                found.extend(wrong(&words).map(|why| format!("{name}:{line}: {text}\n{why}")));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(count > 100, "only {count} are found");
    let all: Vec<_> = names().iter().flat_map(|name| Page::read(name).code()).collect();
    for (code, why) in NO_COMMANDS {
        assert!(
            all.iter().any(|(_, text)| text == code),
            "{code} is in no page any more ({why}): take it out"
        );
    }
}

#[test]
fn what_does_not_exist_is_told() {
    let parse = |text: &str| words(text).iter().find_map(|words| wrong(words));
    assert_eq!(words("a && aegis run 2> log | aegis x 'y z'"), [vec!["run"], vec!["x", "y z"]]);
    for good in ["aegis", "aegis dlq show PARTITION:OFFSET", "aegis explain e1 --output json | head"] {
        assert_eq!(parse(good), None, "{good}");
    }
    for bad in ["aegis explian e1", "aegis check --cfg x", "aegis tune --rounds none", "aegis weights shwo"] {
        assert!(parse(bad).is_some(), "{bad}");
    }
}

#[test]
fn every_target_of_make_exists() {
    let targets = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let exists = |target: &str| targets.lines().any(|line| line.starts_with(&format!("{target}:")));
    for name in names() {
        let page = Page::read(&name);
        let shown = commands(&page).into_iter().map(|command| (command.line, command.text));
        for (line, text) in page.code().into_iter().chain(shown) {
            let Some(words) = text.strip_prefix("make ") else { continue };
            for target in words.split_whitespace().filter(|word| !word.contains('=')) {
                assert!(exists(target), "{name}:{line}: there is no make {target}");
            }
        }
    }
}
