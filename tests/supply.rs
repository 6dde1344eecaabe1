//! What the program is made of: every crate comes from where deny.toml says and has a licence that it allows.
//! From Cargo's own metadata, for every platform; advisories are cargo-deny's (`make deny`).

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All packages of the lock file.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let Value::Array(packages) = metadata["packages"].take() else { panic!("no packages") };
    assert!(packages.len() > 100, "{} packages", packages.len());
    packages
}

/// A list of deny.toml.
fn list(section: &str, key: &str) -> Vec<String> {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let list = deny[section][key].as_array().unwrap().iter();
    list.map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Whether an SPDX expression can be met with these licences; older crates write `/` for `OR`.
fn allowed(expression: &str, allow: &[String]) -> bool {
    let plain = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = plain.split_whitespace().collect();
    let (met, rest) = any(&words, allow);
    assert!(rest.is_empty(), "{expression}: cannot be read at {rest:?}");
    met
}

fn any<'a>(words: &'a [&'a str], allow: &[String]) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = all(words, allow);
    while let ["OR", more @ ..] = rest {
        let (one, left) = all(more, allow);
        (met, rest) = (met | one, left);
    }
    (met, rest)
}

fn all<'a>(words: &'a [&'a str], allow: &[String]) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = one(words, allow);
    while let ["AND", more @ ..] = rest {
        let (other, left) = one(more, allow);
        (met, rest) = (met & other, left);
    }
    (met, rest)
}

fn one<'a>(words: &'a [&'a str], allow: &[String]) -> (bool, &'a [&'a str]) {
    let has = |licence: &str| allow.iter().any(|allowed| allowed == licence);
    match words {
        ["(", inner @ ..] => {
            let (met, rest) = any(inner, allow);
            assert_eq!(rest.first(), Some(&")"), "a bracket is open");
            (met, &rest[1..])
        }
        [licence, "WITH", exception, rest @ ..] => (has(&format!("{licence} WITH {exception}")), rest),
        [licence, rest @ ..] => (has(licence), rest),
        [] => panic!("a licence is missing"),
    }
}

#[test]
fn licences_are_allowed() {
    let allow = list("licenses", "allow");
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|licence| allowed(licence, &allow)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:#?}");
}

#[test]
fn sources_are_allowed() {
    let allow = list("sources", "allow-registry");
    let known = |source: &str| {
        source.strip_prefix("registry+").is_some_and(|from| allow.iter().any(|allowed| allowed == from))
    };
    let refused: Vec<String> = packages()
        .iter()
        // The program itself has none.
        .filter(|package| package["name"] != "aegis" || !package["source"].is_null())
        .filter(|package| !package["source"].as_str().is_some_and(known))
        .map(|package| format!("{} from {}", package["name"], package["source"]))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:#?}");
}

#[test]
fn expressions_are_read() {
    let allow = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only/MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("MIT AND (GPL-3.0-only OR Zlib)", true),
        ("GPL-3.0-only AND MIT OR Zlib", true),
        ("Apache-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
    ] {
        assert_eq!(allowed(expression, &allow), met, "{expression}");
    }
}
