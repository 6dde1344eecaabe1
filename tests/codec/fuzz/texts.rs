//! Texts that people write: lines, configuration, policies, manifests, rules.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use aegis::codec::time::{EARLIEST, LATEST, format_millis, parse_millis};
use aegis::config::{self, Policies};
use aegis::core::language::Language;
use aegis::experts::rules::Rules;
use aegis::experts::text_folding::fold;
use aegis::experts::{Panel, PanelConfig, external_data};
use aegis::replay::{ReplayArgs, ReplayContext, ReplayError, fold_lines};

use super::corpus::hash;

/// Returns an error's message without the parts that it may quote: numbers, and text in quotation marks.
fn shape(words: &str) -> u64 {
    if let Some(set) = words.strip_prefix("--set ") {
        return hash(set.is_empty());
    }
    let place = FOLDER.display().to_string();
    let words = words.replace(&place, "");
    let plain: String = words.split(['"', '`', '\'']).step_by(2).collect();
    let first: String = plain.lines().next_back().unwrap_or_default().chars().take(60).collect();
    hash(first.replace(|c: char| c.is_ascii_digit() || !c.is_ascii(), ""))
}

/// A folder for inputs that are only read from files, in memory if the system supports it.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    let folder = place.join(format!("aegis-fuzz-{}", std::process::id()));
    fs::create_dir_all(folder.join("panel/expert")).unwrap();
    folder
});

/// Removes the content of [`FOLDER`].
pub fn clean() {
    let _ = fs::remove_dir_all(&*FOLDER);
}

fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

pub fn time(bytes: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(bytes) else { return 1 };
    let Some(millis) = parse_millis(text) else { return 2 };
    let shown = format_millis(millis);
    if (EARLIEST..=LATEST).contains(&millis) {
        assert_eq!(parse_millis(&shown), Some(millis), "{shown} is another time");
    }
    hash((3, shown.len(), millis < 0))
}

/// Folds the lines of a stream or a savepoint.
pub fn replay(bytes: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(bytes) else { return 1 };
    match fold_lines(text.lines()) {
        Ok(states) => hash((0, states.len())),
        Err(ReplayError::Internal(why)) => panic!("a fault of the program: {why}"),
        Err(error) => shape(&error.to_string()),
    }
}

/// Folds a stream in a file with that extension by the fastest learner.
fn replay_file(name: &str, bytes: &[u8]) -> u64 {
    let args = ReplayArgs {
        streams: vec![put(name, bytes)],
        learner: Some("majority".to_owned()),
        ..ReplayArgs::default()
    };
    match aegis::replay::run(&args, &mut ReplayContext::default(), &mut std::io::sink(), &mut std::io::sink())
    {
        Ok(summary) => hash((0, summary.lines.min(16), summary.malformed.min(16), summary.rounds().min(16))),
        Err(ReplayError::Internal(why)) => panic!("a fault of the program: {why}"),
        Err(error) => shape(&error.to_string()),
    }
}

pub fn replay_avro(bytes: &[u8]) -> u64 {
    replay_file("stream.avro", bytes)
}

pub fn replay_gz(bytes: &[u8]) -> u64 {
    replay_file("stream.jsonl.gz", bytes)
}

pub fn replay_zst(bytes: &[u8]) -> u64 {
    replay_file("stream.jsonl.zst", bytes)
}

fn loaded(path: &Path, environment: Vec<(String, String)>, sets: &[String]) -> u64 {
    let shown = config::shown(path, environment.clone(), sets);
    match config::load(path, environment, sets) {
        Ok(loaded) => {
            shown.expect("what can be loaded can be shown");
            hash((0, loaded.config.kafka.settings.len().min(8)))
        }
        Err(error) => shape(&error.to_string()),
    }
}

pub fn config(bytes: &[u8]) -> u64 {
    loaded(&put("aegis.toml", bytes), Vec::new(), &[])
}

/// Reads lines as values of `--set`, and lines that begin like variables as the environment.
pub fn overlay(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let (environment, sets): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("AEGIS__"));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (name.to_owned(), value.to_owned())
    };
    let environment = environment.into_iter().map(pair).collect();
    let sets: Vec<String> = sets.into_iter().map(str::to_owned).collect();
    loaded(&put("empty.toml", b""), environment, &sets)
}

pub fn policies(bytes: &[u8]) -> u64 {
    match Policies::read(&put("policies.toml", bytes)) {
        Ok(read) => hash((0, read.policies.len().min(8), read.taxonomy.len().min(8))),
        Err(error) => shape(&error.to_string()),
    }
}

/// Reads and checks a manifest without its files. Nothing is run.
pub fn manifest(bytes: &[u8]) -> u64 {
    put("panel/expert/manifest.toml", bytes);
    match Panel::open(PanelConfig::new(FOLDER.join("panel"))) {
        Ok(_) => 0,
        Err(error) => shape(&error.to_string()),
    }
}

/// Lists the files that a graph refers to. Nothing is loaded.
pub fn graph(bytes: &[u8]) -> u64 {
    match external_data::locations(bytes) {
        Ok(found) => hash((0, format!("{found:?}").len().min(256))),
        Err(reason) => shape(&reason),
    }
}

pub fn rules(bytes: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(bytes) else { return 1 };
    match Rules::parse(Path::new("rules.toml"), text) {
        Ok(rules) => {
            let Ok(found) = rules.score(&fold(text), Language::Unknown) else { return 2 };
            assert!((0.0..=1.0).contains(&found.score), "{} is no score", found.score);
            hash((0, found.categories.len().min(4)))
        }
        Err(error) => shape(&error.to_string()),
    }
}
