//! The directions of imports: main, cli -> score, learn, replay, demo -> edges -> core.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms that it may import from.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("access", &["codec", "core"]),
    ("crash", &[]),
    ("panics", &[]),
    ("charts", &[]),
    ("guards", &["core"]),
    ("codec", &["core", "crash"]),
    ("http", &[]),
    ("language", &["core"]),
    ("experts", &["core", "crash", "panics", "guards", "http", "language"]),
    ("kafka", &["core", "crash", "panics"]),
    ("store", &["core", "crash", "panics"]),
    ("config", &["core", "codec", "kafka"]),
    ("ops", &["core", "panics", "config", "http"]),
    ("registry", &["core", "codec", "panics", "config", "http"]),
    ("dead_letter", &["core", "kafka"]),
    ("rows", &["codec", "panics"]),
    ("replay", &["core", "charts", "codec", "experts", "rows"]),
    ("report", &["core", "charts", "codec", "config", "kafka", "ops", "registry", "replay", "rows"]),
    (
        "score",
        &[
            "access",
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
        ],
    ),
    ("serve", &["access", "core", "crash", "panics", "codec", "config", "kafka", "ops", "score"]),
    ("learn", &["core", "crash", "codec", "kafka", "store", "ops", "config", "dead_letter", "registry"]),
    ("labels", &["core", "codec", "kafka", "rows"]),
    ("review", &["core", "codec", "kafka", "ops", "config", "registry", "panics"]),
    (
        "console",
        &[
            "access",
            "core",
            "codec",
            "kafka",
            "ops",
            "config",
            "dead_letter",
            "registry",
            "http",
            "panics",
            "review",
        ],
    ),
    ("evaluate", &["core", "charts", "codec", "experts", "language", "replay", "rows", "ops"]),
    ("verify", &["core", "codec", "kafka", "config", "dead_letter", "registry"]),
    (
        "demo",
        &[
            "core", "codec", "experts", "kafka", "store", "ops", "config", "replay", "score", "learn",
            "console",
        ],
    ),
    (
        "cli",
        &[
            "core",
            "charts",
            "panics",
            "codec",
            "experts",
            "kafka",
            "store",
            "ops",
            "config",
            "console",
            "replay",
            "report",
            "rows",
            "score",
            "serve",
            "learn",
            "demo",
            "evaluate",
            "labels",
            "verify",
            "dead_letter",
            "registry",
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

/// Returns the rooms that a file names after `crate::`, in code and in nested imports.
fn imports(text: &str) -> Vec<String> {
    names_after(text, "crate::")
}

/// Returns the names that a file imports after a prefix, in code and in nested imports.
fn names_after(text: &str, prefix: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    code.split(prefix)
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

/// Returns the modules of a room, which are its files and folders, each with the modules of the same room that it
/// imports.
fn modules(room: &str) -> BTreeMap<String, BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let (mut all, mut modules) = (Vec::new(), BTreeMap::<String, BTreeSet<String>>::new());
    files(&folder, &mut all);
    for file in all {
        let inner = file.strip_prefix(&folder).unwrap();
        let depth = inner.components().count();
        let first = inner.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        if module == "mod" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let mut names = names_after(code, &format!("crate::{room}::"));
        if depth == 1 {
            names.extend(names_after(code, " super::"));
        }
        modules.entry(module.clone()).or_default().extend(names.into_iter().filter(|name| *name != module));
    }
    modules
}

/// Returns the modules of an import circle, if there is one.
fn circle(modules: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut left = modules.clone();
    loop {
        let known: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, imports| imports.iter().any(|name| known.contains(name)));
        if left.is_empty() {
            return None;
        }
        if left.len() == before {
            let mut way = vec![left.keys().next()?.clone()];
            loop {
                let next = left[way.last()?].iter().find(|name| left.contains_key(*name))?.clone();
                if let Some(place) = way.iter().position(|name| *name == next) {
                    return Some(way.split_off(place));
                }
                way.push(next);
            }
        }
    }
}

#[test]
fn modules_of_the_experts_have_no_import_circle() {
    let modules = modules("experts");
    let imports: usize = modules.values().map(BTreeSet::len).sum();
    assert!(modules.len() > 12 && imports > 30, "the test found only {imports} imports in {modules:?}");
    assert_eq!(circle(&modules), None);
}

#[test]
fn the_parser_of_this_test_sees_imports() {
    assert_eq!(
        imports("use crate::kafka::Source; // crate::no\nuse crate::{codec, ops::health};"),
        ["kafka", "codec", "ops"]
    );
    assert_eq!(names_after("use super::kafka; use super::{a, b::c};", " super::"), ["kafka", "a", "b"]);
    let graph = |edges: &[(&str, &str)]| {
        let edge = |(from, to): &(&str, &str)| ((*from).to_owned(), BTreeSet::from([(*to).to_owned()]));
        edges.iter().map(edge).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(circle(&graph(&[("a", "b"), ("b", "c"), ("c", "d")])), None);
    assert_eq!(circle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])).map(|way| way.len()), Some(2));
}
