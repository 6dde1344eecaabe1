//! Reads a folder of experts: manifests, and the files that they name.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::config::PanelConfig;
use super::error::PanelError;
use super::info::{EncoderInfo, State};
use super::manifest::{Artefact, Body, GraphFiles, Manifest, Reading};

/// Greatest size of a manifest.
const MAX_MANIFEST: u64 = 64 << 10;
/// Greatest size of any other file: what ONNX can hold in one.
const MAX_FILE: u64 = 2 << 30;
/// Greatest size of a file of external data.
const MAX_EXTERNAL: u64 = 64 << 30;

fn unreadable(path: &Path, error: impl std::fmt::Display) -> PanelError {
    PanelError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

fn size(path: &Path, limit: u64) -> Result<usize, PanelError> {
    let size = fs::metadata(path).map_err(|error| unreadable(path, error))?.len();
    if size > limit {
        return Err(unreadable(path, format!("it has {size} bytes, more than {limit}")));
    }
    usize::try_from(size).map_err(|error| unreadable(path, error))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, PanelError> {
    size(path, limit)?;
    fs::read(path).map_err(|error| unreadable(path, error))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file's bytes, if they are the ones that the manifest means.
pub(super) fn verified(artefact: &Artefact) -> Result<Vec<u8>, PanelError> {
    checked(artefact, read(&artefact.path, MAX_FILE))
}

/// The same of a file of external data, which has to be in the expert's folder itself: no link may lead out of it.
pub(super) fn verified_beside(artefact: &Artefact) -> Result<Arc<[u8]>, PanelError> {
    let real = |path: &Path| path.canonicalize().ok();
    if let (Some(file), Some(folder)) = (real(&artefact.path), artefact.path.parent().and_then(real))
        && !file.starts_with(&folder)
    {
        return Err(PanelError::File {
            path: artefact.path.clone(),
            field: format!("{}.file", artefact.table),
            reason: format!("it is a link to {}, outside of the expert's folder", file.display()),
        });
    }
    checked(artefact, read_shared(&artefact.path, MAX_EXTERNAL))
}

/// Bytes that are read where they stay: weights need room once.
fn read_shared(path: &Path, limit: u64) -> Result<Arc<[u8]>, PanelError> {
    let size = size(path, limit)?;
    let mut bytes: Arc<[u8]> = (0..size).map(|_| 0).collect();
    if let Some(room) = Arc::get_mut(&mut bytes) {
        let read = fs::File::open(path).and_then(|mut file| file.read_exact(room));
        read.map_err(|error| unreadable(path, error))?;
    }
    Ok(bytes)
}

fn checked<B: AsRef<[u8]>>(artefact: &Artefact, read: Result<B, PanelError>) -> Result<B, PanelError> {
    let field = |name: &str| format!("{}.{name}", artefact.table);
    let bytes = read.map_err(|error| match error {
        PanelError::Unreadable { path, reason } => PanelError::File { path, field: field("file"), reason },
        other => other,
    })?;
    let found: [u8; 32] = Sha256::digest(bytes.as_ref()).into();
    if found == artefact.sha256 {
        return Ok(bytes);
    }
    Err(PanelError::Hash {
        path: artefact.path.clone(),
        field: field("sha256"),
        expected: hex(&artefact.sha256),
        found: hex(&found),
    })
}

/// The manifests of the folder, by the UTF-8 bytes of their ids: all, or those asked for with the
/// encoders that they need.
pub(super) fn manifests(config: &PanelConfig) -> Result<Vec<Manifest>, PanelError> {
    let folder = config.folder.as_path();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path().join("manifest.toml");
        if !path.is_file() {
            continue;
        }
        let text = String::from_utf8(read(&path, MAX_MANIFEST)?).map_err(|error| unreadable(&path, error))?;
        let manifest = Manifest::parse(&path, &text)?;
        found.insert(manifest.id.clone(), (path, manifest));
    }
    if found.is_empty() {
        return Err(PanelError::NoExperts { path: folder.to_owned() });
    }
    let known: Vec<String> = found.keys().cloned().collect();
    let unknown = |id: &&String| !found.contains_key(*id);
    if let Some(id) = config.cheap.iter().find(unknown) {
        return Err(PanelError::UnknownExpert { id: id.clone(), known });
    }
    if let Some(id) = config.budgets.keys().find(unknown) {
        return Err(PanelError::UnknownBudget { id: id.clone(), known });
    }
    let mut wanted = config.only.clone().unwrap_or_else(|| known.clone());
    for id in wanted.clone() {
        let Some((path, manifest)) = found.get(&id) else {
            return Err(PanelError::UnknownExpert { id, known });
        };
        let Body::Head { encoder, .. } = &manifest.body else {
            continue;
        };
        match found.get(encoder).map(|(_, manifest)| &manifest.body) {
            Some(Body::Encoder { .. }) => wanted.push(encoder.clone()),
            _ => {
                return Err(PanelError::Manifest {
                    path: path.clone(),
                    field: "encoder".to_owned(),
                    problem: format!("there is no encoder {encoder} beside it"),
                    mend: "name the folder of an expert of kind \"encoder\"".to_owned(),
                });
            }
        }
    }
    let kept: Vec<_> = found.into_values().filter(|(_, manifest)| wanted.contains(&manifest.id)).collect();
    let with_features =
        |manifest: &Manifest| matches!(manifest.body, Body::Encoder { features: Some(_), .. });
    let mut reading = kept.iter().filter(|(_, manifest)| with_features(manifest));
    if let (Some((_, first)), Some((path, _))) = (reading.next(), reading.next()) {
        return Err(PanelError::Manifest {
            path: path.clone(),
            field: "outputs.features".to_owned(),
            problem: format!("{} gives features already, and a panel has one reading", first.id),
            mend: "remove it here, or leave one of the two out with experts.only".to_owned(),
        });
    }
    Ok(kept.into_iter().map(|(_, manifest)| manifest).collect())
}

/// How an encoder reads, as one line: part of its identity.
fn reading_line(reading: &Reading) -> String {
    let mut line = format!("judged turn; {} tokens; mean; whitened int8 v1", reading.max_tokens);
    if !reading.drop_ids.is_empty() {
        line += &format!("; without tokens {:?}", reading.drop_ids);
    }
    line
}

pub(super) fn encoder_info(
    manifest: &Manifest,
    graph: &GraphFiles,
    reading: &Reading,
    provider: &str,
) -> EncoderInfo {
    let line = reading_line(reading);
    let mut hash = Sha256::new();
    hash.update(b"aegis encoder 1\n");
    hash.update(graph.sha256());
    hash.update(reading.tokenizer.sha256);
    hash.update(line.as_bytes());
    EncoderInfo {
        id: manifest.id.clone(),
        encoder: hash.finalize().into(),
        reading: line,
        description: manifest.description.clone(),
        licence: manifest.licence.clone(),
        source: manifest.source.clone(),
        provider: provider.to_owned(),
        state: State::Loaded,
    }
}
