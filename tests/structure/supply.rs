//! Checks the dependencies from Cargo's metadata, for every platform: every crate comes from a source and has a licence
//! that deny.toml allows. cargo-deny checks advisories (`make deny`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::root;

/// Returns all packages of the lock file.
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

/// Returns a list of deny.toml.
fn list(section: &str, key: &str) -> Vec<String> {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let list = deny[section][key].as_array().unwrap().iter();
    list.map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Returns `true` if these licences satisfy an SPDX expression. Older crates write `/` for `OR`.
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

/// Returns `true` for the packages of this workspace, which have no source.
fn is_ours(package: &Value) -> bool {
    package["source"].is_null() && package["name"].as_str().is_some_and(|name| name.starts_with("aegis"))
}

#[test]
fn sources_are_allowed() {
    let allow = list("sources", "allow-registry");
    let known = |source: &str| {
        source.strip_prefix("registry+").is_some_and(|from| allow.iter().any(|allowed| allowed == from))
    };
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| !is_ours(package))
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

/// Returns the paths that the Dockerfile copies from the build context in this stage, or in every stage for `all`.
fn copied(stage: &str) -> Vec<String> {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let (mut at, mut copied) = ("", Vec::new());
    for line in dockerfile.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["FROM", _, "AS", name] => at = name,
            ["COPY", from, ..] if from.starts_with("--from=") => {}
            ["COPY", sources @ .., _] if stage == at || stage == "all" => {
                copied.extend(sources.iter().map(|&source| source.to_owned()));
            }
            _ => {}
        }
    }
    assert!(!copied.is_empty(), "the Dockerfile copies nothing in {stage}");
    copied
}

/// Returns `true` if .dockerignore, which excludes everything except for listed paths, includes a path.
fn sent(path: &str) -> bool {
    let ignore = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let mut lines = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    lines.any(|line| {
        let kept =
            line.strip_prefix('!').unwrap_or_else(|| panic!(".dockerignore: {line} is not understood here"));
        path == kept || path.starts_with(&format!("{kept}/"))
    })
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// A manifest that declares a test whose file is missing is refused by commands that would build. `cargo metadata`
/// accepts it.
#[test]
fn the_image_gets_all_that_cargo_needs() {
    for source in copied("all") {
        assert!(root().join(&source).exists(), "the Dockerfile copies {source}, which is not there");
        assert!(sent(&source), "the Dockerfile copies {source}, which .dockerignore leaves out");
    }
    let stage = tempfile::tempdir().unwrap();
    for source in copied("program") {
        copy(&root().join(&source), &stage.path().join(&source));
    }
    let fetched = Command::new(env!("CARGO")).args(["fetch", "--locked"]).current_dir(stage.path()).output();
    let fetched = fetched.unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    // Files beside the source that it includes at build time.
    for path in sources(&stage.path().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        for taken in text.split("include_str!(").skip(1).filter_map(|rest| rest.split('"').nth(1)) {
            let file = path.parent().unwrap().join(taken);
            assert!(file.exists(), "{} takes in {taken}, which the Dockerfile does not copy", path.display());
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

/// The bill of materials lists everything that Cargo.lock and the set-up pin, each with its hash.
#[test]
fn the_bill_of_materials_is_whole() {
    let made =
        Command::new("python3").arg(root().join("deploy/sbom.py")).arg(env!("CARGO")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bill: Value = serde_json::from_slice(&made.stdout).unwrap();
    let components = bill["components"].as_array().unwrap();
    let has = |name: &str, version: &str, hash: Option<&str>| {
        components.iter().any(|one| {
            let hashes = one["hashes"].as_array().map_or(&[][..], Vec::as_slice);
            let found = hashes.iter().find(|hash| hash["alg"] == "SHA-256");
            let found = found.and_then(|hash| hash["content"].as_str());
            one["name"] == name && one["version"] == version && found == hash
        })
    };
    let mut missing = Vec::new();
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let crates = lock["package"].as_array().unwrap();
    assert!(crates.len() > 300);
    for one in crates.iter().filter(|one| !one["name"].as_str().is_some_and(|name| name.starts_with("aegis")))
    {
        let (name, version) = (one["name"].as_str().unwrap(), one["version"].as_str().unwrap());
        let hash = one["checksum"].as_str().unwrap();
        if !has(name, version, Some(hash)) {
            missing.push(format!("{name} {version} {hash}"));
        }
    }
    for list in ["packages.json", "cuda.json"] {
        let text = fs::read_to_string(root().join("experts").join(list)).unwrap();
        let packages: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert!(list != "packages.json" || packages.contains_key("onnxruntime"));
        for (name, of) in &packages {
            let files = match of["by_platform"].as_object() {
                Some(platforms) => platforms.values().collect(),
                None => vec![of],
            };
            for file in files {
                let version = of["version"].as_str().unwrap();
                if !has(name, version, file["sha256"].as_str()) {
                    missing.push(format!("{name} {version} {}", file["file"]));
                }
            }
        }
    }
    assert!(missing.is_empty(), "not in the bill: {missing:#?}");
    // Dependencies of tests only have another scope than distributed ones.
    let scope = |name: &str| components.iter().find(|one| one["name"] == name).map(|one| &one["scope"]);
    assert_eq!((scope("proptest"), scope("rdkafka")), (Some(&"excluded".into()), Some(&Value::Null)));
}
