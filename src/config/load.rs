//! From the file, what lies over it and what lies under it, to a configuration.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::{Config, ConfigError, Encoding, Policies, Secret, Tuned, machine, overlay, tuned};

/// A configuration with its policies.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration; its paths are relative to the working directory.
    pub config: Config,
    /// The policies.
    pub policies: Policies,
}

/// Reads the file, lays environment and `--set` over it, and reads the policies.
///
/// # Errors
/// Where a file is missing, a key unknown, or a value of no use.
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Loaded, ConfigError> {
    let config = configuration(path, environment, sets)?;
    let policies = if config.policies.as_os_str().is_empty() {
        Policies::default()
    } else {
        Policies::read(&config.policies)?
    };
    Ok(Loaded { config, policies })
}

/// Reads the file and lays environment and `--set` over it, without the policies.
///
/// # Errors
/// As [`load`].
pub fn configuration(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Config, ConfigError> {
    effective(path, said(path, environment, sets)?)
}

/// As [`configuration`], but nothing of `tuned.toml` counts.
///
/// # Errors
/// As [`load`].
pub fn untuned(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Config, ConfigError> {
    settled(path, said(path, environment, sets)?, None)
}

/// What the file, the environment and `--set` say.
fn said(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<toml::Table, ConfigError> {
    let mut table = file(path)?;
    overlay::environment(&mut table, environment);
    overlay::sets(&mut table, sets)?;
    Ok(table)
}

/// The file as it is.
pub(super) fn file(path: &Path) -> Result<toml::Table, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|reason| ConfigError::Read { path: path.into(), reason })?;
    text.parse().map_err(|error| ConfigError::Toml { path: path.into(), reason: unquoted(&text, &error) })
}

/// The configuration of a file with everything that lies over it.
pub(super) fn effective(path: &Path, mut table: toml::Table) -> Result<Config, ConfigError> {
    let tuned = tuned::under(&mut table, path.parent().unwrap_or(Path::new("")))?;
    settled(path, table, tuned)
}

/// The same once all lies over it: `tuned` is what came of that file.
fn settled(path: &Path, table: toml::Table, tuned: Option<Tuned>) -> Result<Config, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut config: Config = table.try_into().map_err(|error: toml::de::Error| ConfigError::Value {
        path: path.into(),
        reason: overlay::explain(&error),
    })?;
    config.tuned = tuned;
    for file in [
        &mut config.experts.folder,
        &mut config.experts.runtime,
        &mut config.learn.store,
        &mut config.registry.password_file,
        &mut config.registry.authorities,
        &mut config.registry.certificate,
        &mut config.registry.key,
        &mut config.traces.authorities,
        &mut config.policies,
    ] {
        if !file.as_os_str().is_empty() {
            *file = folder.join(&*file);
        }
    }
    if config.experts.runtime.as_os_str().is_empty() {
        config.experts.runtime = config.experts.folder.join("runtime/libonnxruntime.so");
    }
    for (name, file) in &mut config.kafka.secrets {
        *file = folder.join(&*file);
        config.kafka.settings.insert(name.clone(), secret(file)?);
    }
    registry(&mut config, path)?;
    let fields = config.event_fields.check().and_then(|()| config.label_fields.check());
    fields.map_err(|reason| ConfigError::Value { path: path.into(), reason })?;
    for (name, file) in &mut config.traces.secrets {
        *file = folder.join(&*file);
        config.traces.headers.insert(name.clone(), Secret::new(secret(file)?));
    }
    if !(0.0..=1.0).contains(&config.traces.sample) {
        let reason = "traces.sample is a share of events: write a number from 0 to 1".into();
        return Err(ConfigError::Value { path: path.into(), reason });
    }
    let shares =
        [("score", config.score.max_dead_letter_share), ("learn", config.learn.max_dead_letter_share)];
    if let Some((role, _)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
        let reason =
            format!("{role}.max_dead_letter_share is a share of records: write a number from 0 to 1");
        return Err(ConfigError::Value { path: path.into(), reason });
    }
    if config.http.max_connections == 0 || config.http.idle_timeout_ms == 0 {
        let reason = "http.max_connections or http.idle_timeout_ms is 0: health and metrics would not answer; write a \
                      number above 0"
            .into();
        return Err(ConfigError::Value { path: path.into(), reason });
    }
    if config.score.member.is_empty() {
        config.score.member = machine::host().ok_or_else(|| ConfigError::Value {
            path: path.into(),
            reason:
                "score.member is empty and the system does not tell the host's name: set it, to something \
                     that no other scorer has"
                    .into(),
        })?;
    }
    Ok(config)
}

/// Greatest secret read from a file, in bytes: a key with its certificates fits.
const MAX_SECRET: u64 = 64 << 10;

/// What a file holds, without the line's end that editors leave.
fn secret(path: &Path) -> Result<String, ConfigError> {
    let refused = |reason| ConfigError::Read { path: path.into(), reason };
    let mut text = String::new();
    let file = File::open(path).map_err(refused)?;
    file.take(MAX_SECRET + 1).read_to_string(&mut text).map_err(refused)?;
    if text.len() as u64 > MAX_SECRET {
        return Err(refused(io::Error::other(format!("a secret of more than {MAX_SECRET} bytes"))));
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// Where a text is no TOML, without quoting it: the line may hold a password.
fn unquoted(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    format!("line {line}, column {column}: {}", error.message())
}

/// Reads the registry's password where it lies in a file, and checks what serde cannot.
fn registry(config: &mut Config, path: &Path) -> Result<(), ConfigError> {
    let settings = &mut config.registry;
    if !settings.password_file.as_os_str().is_empty() {
        settings.password = Secret::new(secret(&settings.password_file)?);
    }
    let wrong = |reason: &str| Err(ConfigError::Value { path: path.into(), reason: reason.into() });
    if settings.certificate.as_os_str().is_empty() != settings.key.as_os_str().is_empty() {
        return wrong("registry.certificate and registry.key go together: set both or neither");
    }
    if config.score.encoding == Encoding::Confluent && settings.url.is_empty() {
        return wrong("score.encoding = \"confluent\" needs a schema registry: set registry.url");
    }
    Ok(())
}
