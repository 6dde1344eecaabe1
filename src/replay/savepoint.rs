//! Savepoints: the ledger and the state, from which a later run continues. A savepoint is a replay file with one more
//! line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ReplayError;
use super::header::HeaderPolicy;
use super::load::Loader;
use super::write::{FORMAT, Policy, Writer};
use crate::core::fold::Fold;
use crate::core::hash::hex;

/// Writes a file completely or not at all: under another name first, then renamed. `.gz` and `.zst` are compressed.
pub(super) fn write_atomically(
    path: &Path,
    fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<(), ReplayError> {
    let part = part_path(path);
    let write = || {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&part)?);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => {
                let mut packed = flate2::write::GzEncoder::new(&mut out, flate2::Compression::default());
                fill(&mut packed)?;
                packed.finish()?;
            }
            Some("zst") => {
                let mut packed = zstd::stream::write::Encoder::new(&mut out, 3)?;
                fill(&mut packed)?;
                packed.finish()?;
            }
            _ => fill(&mut out)?,
        }
        out.flush()?;
        out.get_ref().sync_all()?;
        std::fs::rename(&part, path)
    };
    write().map_err(|error| {
        // The error to report is the one of writing.
        let _ = std::fs::remove_file(&part);
        ReplayError::writing(path, &error)
    })
}

/// Returns the path of the incomplete file, which is in the same directory as the file.
fn part_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Writes the headers and the ledger as a stream.
pub(super) fn write_records(path: &Path, loader: &Loader) -> Result<(), ReplayError> {
    write_atomically(path, |out| {
        let mut writer = Writer::new(&mut *out);
        headers(&mut writer, loader)?;
        loader.ledger.records().try_for_each(|record| writer.record(&record))
    })
}

fn headers(writer: &mut Writer<&mut dyn io::Write>, loader: &Loader) -> io::Result<()> {
    let keyed = |header: &HeaderPolicy| {
        let mut header = header.clone();
        // A policy without rounds has no fold, and its seed may be missing: its header is written as it was read.
        let _ = header.set_seed(loader.seed.as_deref());
        header.settings
    };
    let headers: Vec<Policy> = loader.headers.values().map(keyed).collect();
    if headers.is_empty() { Ok(()) } else { writer.header(&headers) }
}

/// Writes the headers that were read, the learner of the flags, the hashes of the states, and the ledger.
pub(super) fn write(path: &Path, loader: &Loader, folds: &[Fold]) -> Result<(), ReplayError> {
    let states: BTreeMap<&str, String> = folds
        .iter()
        .map(|fold| (fold.settings().policy.as_str(), hex(&fold.state_hash(&loader.ledger))))
        .collect();
    let learner = loader.learner.as_ref().map(super::figures::named);
    let mut own = json!({ "position": loader.position, "states": states });
    if let Value::Object(own) = &mut own {
        if let Some(timed) = loader.timed {
            own.insert("timed".to_owned(), timed.into());
        }
        if let Some(learner) = learner {
            own.insert("learner".to_owned(), learner.name.into());
            own.insert("parameters".to_owned(), json!(learner.parameters));
        }
    }
    let line = json!({ "aegis": "savepoint", "format": FORMAT, "policies": { "": own } });
    write_atomically(path, |out| {
        let mut writer = Writer::new(&mut *out);
        headers(&mut writer, loader)?;
        let out = writer.into_inner();
        writeln!(out, "{line}")?;
        let mut writer = Writer::new(out);
        loader.ledger.records().try_for_each(|record| writer.record(&record))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_incomplete_file_is_beside_the_file() {
        for (path, part) in [
            ("out.jsonl", "out.jsonl.part"),
            ("/data/out.gz", "/data/out.gz.part"),
            ("/data/out/", "/data/out.part"),
            ("/data/out/.", "/data/out.part"),
        ] {
            assert_eq!(part_path(Path::new(path)), Path::new(part), "{path}");
        }
    }
}
