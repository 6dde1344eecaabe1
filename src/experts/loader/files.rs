//! Reads the folder of experts: the manifests, and the files that they name, whose hashes are verified.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::features::select_features;
use crate::core::hash::hex;
use crate::experts::config::PanelConfig;
use crate::experts::error::PanelError;
use crate::experts::manifest::guard::{GuardModel, Prompt, folder};
use crate::experts::manifest::remote::Api;
use crate::experts::manifest::{Body, HashedFile, Kind, Manifest, Precision};
use crate::guards::{GuardSpec, SpecError};

/// The greatest size of a manifest, in bytes.
const MAX_MANIFEST_SIZE: u64 = 64 << 10;
/// The greatest size of any other file, in bytes: the most that ONNX can hold in one.
const MAX_FILE_SIZE: u64 = 2 << 30;
/// The greatest size of a file of external data, in bytes.
const MAX_EXTERNAL_SIZE: u64 = 64 << 30;

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

/// Reads a file.
///
/// # Errors
/// Returns `File` if it cannot be read, and `Hash` if its hash is not the one in the manifest.
pub(super) fn read_verified(file: &HashedFile) -> Result<Vec<u8>, PanelError> {
    verify(file, read(&file.path, MAX_FILE_SIZE))
}

/// Reads a file of external data.
///
/// # Errors
/// Returns those of [`read_verified`], and `File` if a link leads out of the expert's folder.
pub(super) fn read_external_verified(file: &HashedFile) -> Result<Arc<[u8]>, PanelError> {
    let real = |path: &Path| path.canonicalize().ok();
    if let (Some(target), Some(folder)) = (real(&file.path), file.path.parent().and_then(real))
        && !target.starts_with(&folder)
    {
        return Err(PanelError::File {
            path: file.path.clone(),
            field: format!("{}.file", file.table),
            reason: format!("it is a link to {}, outside of the expert's folder", target.display()),
        });
    }
    verify(file, read_shared(&file.path, MAX_EXTERNAL_SIZE))
}

/// Reads a file into memory that is shared from the start, so that large weights are in memory only once.
fn read_shared(path: &Path, limit: u64) -> Result<Arc<[u8]>, PanelError> {
    let size = size(path, limit)?;
    let mut bytes: Arc<[u8]> = (0..size).map(|_| 0).collect();
    let buffer = Arc::get_mut(&mut bytes).expect("new bytes have one owner");
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(buffer))
        .map_err(|error| unreadable(path, error))?;
    Ok(bytes)
}

fn verify<B: AsRef<[u8]>>(file: &HashedFile, read: Result<B, PanelError>) -> Result<B, PanelError> {
    let field = |name: &str| format!("{}.{name}", file.table);
    let bytes = read.map_err(|error| match error {
        PanelError::Unreadable { path, reason } => PanelError::File { path, field: field("file"), reason },
        other => other,
    })?;
    let found: [u8; 32] = Sha256::digest(bytes.as_ref()).into();
    if found == file.sha256 {
        return Ok(bytes);
    }
    Err(PanelError::Hash {
        path: file.path.clone(),
        field: field("sha256"),
        expected: hex(&file.sha256),
        found: hex(&found),
    })
}

/// The manifests of a folder with their paths, by id.
type ManifestsById = BTreeMap<String, (PathBuf, Manifest)>;

/// Reads the manifests of the configured experts, and of the encoders that they need, in the order of the ids' UTF-8
/// bytes.
///
/// # Errors
/// Returns an error if a manifest of the folder is invalid, if the configuration names an expert that is not there, or if
/// the manifests contradict each other.
pub(super) fn read_manifests(config: &PanelConfig) -> Result<Vec<Manifest>, PanelError> {
    let found = read_all_manifests(&config.folder)?;
    check_configured_ids(config, &found)?;
    let wanted = match &config.only {
        Some(ids) => with_encoders(ids.clone(), &found)?,
        None => with_encoders(found.keys().cloned().collect(), &found)?,
    };
    let models =
        found.values().filter_map(|(_, manifest)| manifest.guard()?.model.clone()).collect::<Vec<_>>();
    let is_wanted = |manifest: &Manifest| {
        wanted.contains(&manifest.id) && (config.remote || manifest.kind != Kind::Remote)
    };
    let mut chosen: Vec<_> = found.into_values().filter(|(_, manifest)| is_wanted(manifest)).collect();
    select_features(&mut chosen)?;
    select_precision(config, &mut chosen)?;
    for (path, manifest) in &mut chosen {
        complete_guard(path, manifest, &models)?;
        complete_remote(path, manifest)?;
    }
    Ok(chosen.into_iter().map(|(_, manifest)| manifest).collect())
}

fn read_all_manifests(folder: &Path) -> Result<ManifestsById, PanelError> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path().join("manifest.toml");
        if !path.is_file() {
            continue;
        }
        let bytes = read(&path, MAX_MANIFEST_SIZE)?;
        let text = String::from_utf8(bytes).map_err(|error| unreadable(&path, error))?;
        let manifest = Manifest::parse(&path, &text)?;
        found.insert(manifest.id.clone(), (path, manifest));
    }
    if found.is_empty() {
        return Err(PanelError::NoExperts { path: folder.to_owned() });
    }
    Ok(found)
}

/// Refuses a configuration that names experts which the folder does not hold.
fn check_configured_ids(config: &PanelConfig, found: &ManifestsById) -> Result<(), PanelError> {
    let known = || found.keys().cloned().collect();
    let unknown = |id: &&String| !found.contains_key(*id);
    if let Some(id) = config.cheap.iter().find(unknown) {
        return Err(PanelError::UnknownExpert { id: id.clone(), known: known() });
    }
    if let Some(id) = config.budgets.keys().find(unknown) {
        return Err(PanelError::UnknownBudget { id: id.clone(), known: known() });
    }
    if let Some(id) = config.only.iter().flatten().find(unknown) {
        return Err(PanelError::UnknownExpert { id: id.clone(), known: known() });
    }
    Ok(())
}

/// Adds the encoders of heads to the ids of experts.
fn with_encoders(mut ids: Vec<String>, found: &ManifestsById) -> Result<Vec<String>, PanelError> {
    for id in ids.clone() {
        let (path, manifest) = &found[&id];
        let Body::Head { encoder, .. } = &manifest.body else {
            continue;
        };
        match found.get(encoder).map(|(_, manifest)| &manifest.body) {
            Some(Body::Encoder { .. }) => ids.push(encoder.clone()),
            _ => {
                return Err(PanelError::Manifest {
                    path: path.clone(),
                    field: "encoder".to_owned(),
                    problem: format!("there is no encoder {encoder} beside it"),
                    remedy: "name the folder of an expert of kind \"encoder\"".to_owned(),
                });
            }
        }
    }
    Ok(ids)
}

/// Fills in what a guard's manifest names in other files: the model of its base, and its spec. It votes only on turns
/// of the roles that its spec judges.
fn complete_guard(path: &Path, manifest: &mut Manifest, models: &[GuardModel]) -> Result<(), PanelError> {
    let refuse = |field: &str, problem: String, remedy: &str| PanelError::Manifest {
        path: path.to_owned(),
        field: field.to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    let Body::Guard(guard) = &mut manifest.body else {
        return Ok(());
    };
    let model = models.iter().find(|model| model.id == guard.base);
    guard.model = Some(model.cloned().ok_or_else(|| {
        let problem = format!("there is no guard {} with a model beside it", guard.base);
        refuse("base", problem, "name the folder of a guard that has [model]")
    })?);
    let spec = read_spec(path, &guard.prompt)?;
    manifest.roles.retain(|role| spec.next_token_roles().contains(role));
    if manifest.roles.is_empty() {
        let problem = format!("names no role whose verdict is the next token of {}", spec.name());
        return Err(refuse("roles", problem, "remove it, or name a role that the spec judges"));
    }
    guard.spec = Some(Arc::new(spec));
    Ok(())
}

/// Fills in the spec of a remote guard. It votes only on turns of the roles that its spec judges.
fn complete_remote(path: &Path, manifest: &mut Manifest) -> Result<(), PanelError> {
    let Body::Remote(remote) = &mut manifest.body else {
        return Ok(());
    };
    let Api::Guard(guard) = &mut remote.api else {
        return Ok(());
    };
    let spec = read_spec(path, &guard.prompt)?;
    manifest.roles.retain(|role| spec.judges(*role));
    if manifest.roles.is_empty() {
        return Err(PanelError::Manifest {
            path: path.to_owned(),
            field: "roles".to_owned(),
            problem: format!("names no role that {} judges", spec.name()),
            remedy: "remove it, or name a role that the spec judges".to_owned(),
        });
    }
    guard.spec = Some(Arc::new(spec));
    Ok(())
}

/// Reads the spec of a guard with this manifest, with the policy text that it names.
pub(super) fn read_spec(manifest: &Path, prompt: &Prompt) -> Result<GuardSpec, PanelError> {
    let refuse = |field: &str, error: SpecError| {
        let (problem, remedy) = match error {
            SpecError::Unknown { name, known } => {
                let problem = format!("no bundled spec is called {name}; there are: {known}");
                (problem, "name one of those, or a .toml file of this folder".to_owned())
            }
            SpecError::Invalid { field, problem, remedy, .. } => (format!("{field}: {problem}"), remedy),
        };
        PanelError::Manifest { path: manifest.to_owned(), field: field.to_owned(), problem, remedy }
    };
    let text = |field: &str, name: &str| {
        let path = folder(manifest).join(name);
        let read = read(&path, MAX_MANIFEST_SIZE).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| unreadable(&path, error.utf8_error()))
        });
        read.map_err(|error| match error {
            PanelError::Unreadable { path, reason } => {
                PanelError::File { path, field: field.to_owned(), reason }
            }
            other => other,
        })
    };
    let spec = if prompt.is_file() {
        GuardSpec::parse(&text("prompt.spec", &prompt.spec)?)
    } else {
        GuardSpec::built_in(&prompt.spec)
    };
    let spec = spec.map_err(|error| refuse("prompt.spec", error))?;
    match &prompt.policy {
        Some(name) => {
            let policy = text("prompt.policy", name)?;
            spec.with_policy_text(&policy).map_err(|error| refuse("prompt.policy", error))
        }
        None => Ok(spec),
    }
}

/// Returns the ids of the panel's encoders that have a graph in each precision.
///
/// # Errors
/// Returns those of [`read_manifests`].
pub fn precisions(config: &PanelConfig) -> Result<Vec<String>, PanelError> {
    let config = PanelConfig { precision: Precision::Float32, ..config.clone() };
    let manifests = read_manifests(&config)?.into_iter();
    Ok(manifests.filter(|manifest| manifest.has_int8()).map(|manifest| manifest.id).collect())
}

/// Selects the graphs of the configured precision. An encoder without an int8 graph stays in float32.
fn select_precision(config: &PanelConfig, manifests: &mut [(PathBuf, Manifest)]) -> Result<(), PanelError> {
    if config.precision == Precision::Float32 {
        return Ok(());
    }
    if config.provider.is_card() {
        let problem = format!("{} has no integer kernels for its graphs", config.provider.word());
        return Err(PanelError::NoInt8 { problem, remedy: ", or experts.provider to cpu" });
    }
    let mut selected = 0;
    for (_, manifest) in manifests {
        selected += usize::from(manifest.select_precision(config.precision));
    }
    if selected == 0 {
        let problem = format!("no encoder of the panel in {} has an int8 graph", config.folder.display());
        return Err(PanelError::NoInt8 {
            problem,
            remedy: ", or make the bundled encoder with `make setup`",
        });
    }
    Ok(())
}
