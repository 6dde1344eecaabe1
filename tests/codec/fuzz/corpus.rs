//! The inputs that mutations begin with.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::targets::Target;

/// Returns a number for outcomes and names.
pub fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns the inputs of a target, which are fixtures of the codec and its own files, in a fixed order.
pub fn of(target: &Target) -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut paths: Vec<_> = ["v1", "v2", "v3", "v4", "v5", "v6", "v7"]
        .iter()
        .flat_map(|version| {
            let folder = tests.join("fixtures/records").join(version);
            target.fixtures.iter().map(move |name| folder.join(name))
        })
        .filter(|path| path.exists())
        .collect();
    let own = tests.join("codec/fuzz/corpus").join(target.folder);
    if let Ok(entries) = fs::read_dir(own) {
        let mut own: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        own.sort();
        paths.extend(own);
    }
    let mut inputs = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            inputs.extend(bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
        inputs.push(bytes);
    }
    assert!(!inputs.is_empty(), "{} has no corpus", target.name);
    inputs
}
