//! The directions of imports: main, cli -> score, learn, replay, demo -> edges -> core.

use std::fs;
use std::path::{Path, PathBuf};

/// A room and the rooms that it may import from.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("crash", &[]),
    ("panics", &[]),
    ("codec", &["core", "crash"]),
    ("experts", &["core", "crash", "panics"]),
    ("kafka", &["core", "crash", "panics"]),
    ("store", &["core", "crash", "panics"]),
    ("config", &["core", "codec", "kafka"]),
    ("ops", &["core", "panics", "config"]),
    ("registry", &["core", "codec", "panics", "config"]),
    ("dead_letter", &["core", "kafka"]),
    ("schemas", &["config", "codec", "registry"]),
    ("replay", &["core", "codec", "experts"]),
    (
        "score",
        &[
            "core",
            "crash",
            "panics",
            "codec",
            "experts",
            "kafka",
            "ops",
            "config",
            "dead_letter",
            "registry",
            "schemas",
        ],
    ),
    (
        "learn",
        &["core", "crash", "codec", "kafka", "store", "ops", "config", "dead_letter", "registry", "schemas"],
    ),
    ("evaluate", &["core", "experts", "replay", "ops"]),
    ("verify", &["core", "codec", "kafka", "config", "dead_letter", "registry"]),
    ("demo", &["core", "codec", "experts", "kafka", "store", "ops", "config", "replay", "score", "learn"]),
    (
        "cli",
        &[
            "core",
            "panics",
            "codec",
            "experts",
            "kafka",
            "store",
            "ops",
            "config",
            "replay",
            "score",
            "learn",
            "demo",
            "evaluate",
            "verify",
            "dead_letter",
            "schemas",
        ],
    ),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a file names after `crate::`, in code and in nested imports.
fn imports(text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| {
            let names = match rest.strip_prefix('{') {
                Some(group) => group
                    .split('}')
                    .next()
                    .unwrap_or("")
                    .split(',')
                    .map(str::trim)
                    .map(String::from)
                    .collect(),
                None => vec![rest.to_owned()],
            };
            names.into_iter().map(|name| {
                name.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
            })
        })
        .filter(|name: &String| !name.is_empty())
        .collect()
}

#[test]
fn imports_go_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    let mut all = Vec::new();
    files(&source, &mut all);
    for file in all {
        let inner = file.strip_prefix(&source).unwrap();
        let first = inner.components().next().unwrap().as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{} is a room that this test does not know", inner.display()));
            continue;
        };
        for name in imports(&fs::read_to_string(&file).unwrap()) {
            seen += 1;
            if name != room && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} imports {name}", inner.display()));
            }
        }
    }
    assert!(seen > 50, "the test found only {seen} imports: it no longer reads the code");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn core_knows_no_clock_no_files_and_no_threads() {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/aegis-core/src"), &mut all);
    for file in all {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in [
            "std::time",
            "std::fs",
            "std::net",
            "std::thread",
            "tokio",
            "metrics::",
            "tracing",
            "rdkafka",
            "println!",
        ] {
            assert!(!code.contains(word), "{} uses {word}", file.display());
        }
    }
}

#[test]
fn the_parser_of_this_test_sees_imports() {
    assert_eq!(
        imports("use crate::kafka::Source; // crate::no\nuse crate::{codec, ops::health};"),
        ["kafka", "codec", "ops"]
    );
}
