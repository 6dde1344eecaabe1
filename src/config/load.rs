//! Loads a configuration: `tuned.toml`, the file, the environment and `--set`. Each overrides those before it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::{Config, ConfigError, Encoding, Policies, Secret, Tuned, machine, overlay, tuned};

/// A configuration with its policies.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration. Its paths are relative to the working directory.
    pub config: Config,
    /// The policies.
    pub policies: Policies,
}

/// Reads the file, applies the environment and `--set` to it, and reads the policies.
///
/// # Errors
/// Returns an error if a file cannot be read, a key is unknown, or a value is not valid.
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

/// Reads the file and applies the environment and `--set` to it, without the policies.
///
/// # Errors
/// As [`load`].
pub fn configuration(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Config, ConfigError> {
    with_tuned(path, merged(path, environment, sets)?)
}

/// As [`configuration`], but without the values of `tuned.toml`.
///
/// # Errors
/// As [`load`].
pub fn untuned(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Config, ConfigError> {
    resolve(path, merged(path, environment, sets)?, None)
}

/// Returns the values of the file, the environment and `--set`.
fn merged(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<toml::Table, ConfigError> {
    let mut table = parse(path)?;
    overlay::environment(&mut table, environment);
    overlay::sets(&mut table, sets)?;
    Ok(table)
}

/// Parses the file.
pub(super) fn parse(path: &Path) -> Result<toml::Table, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|reason| ConfigError::Read { path: path.into(), reason })?;
    text.parse().map_err(|error| ConfigError::Toml { path: path.into(), reason: syntax_error(&text, &error) })
}

/// Adds the values of `tuned.toml` to a merged table, and builds the configuration.
pub(super) fn with_tuned(path: &Path, mut table: toml::Table) -> Result<Config, ConfigError> {
    let tuned = tuned::merge_into(&mut table, folder(path))?;
    resolve(path, table, tuned)
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn wrong(path: &Path, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { path: path.into(), reason: reason.into() }
}

/// Builds the configuration from a merged table: resolves paths, reads secrets, and checks the values.
fn resolve(path: &Path, table: toml::Table, tuned: Option<Tuned>) -> Result<Config, ConfigError> {
    let deserialized = table.try_into();
    let mut config: Config =
        deserialized.map_err(|error: toml::de::Error| wrong(path, overlay::explain(&error)))?;
    config.tuned = tuned;
    resolve_paths(&mut config, folder(path));
    read_secrets(&mut config)?;
    if config.score.member.is_empty() {
        let reason = "score.member is empty and the system does not report a host name: set it to a name that no other \
                      scorer has";
        config.score.member = machine::host().ok_or_else(|| wrong(path, reason))?;
    }
    validate(&config).map_err(|reason| wrong(path, reason))?;
    Ok(config)
}

/// Makes paths relative to the working directory instead of the configuration's folder.
fn resolve_paths(config: &mut Config, folder: &Path) {
    for file in [
        &mut config.experts.folder,
        &mut config.experts.runtime,
        &mut config.learn.store,
        &mut config.registry.password_file,
        &mut config.registry.authorities,
        &mut config.registry.certificate,
        &mut config.registry.key,
        &mut config.traces.authorities,
        &mut config.console.credentials,
        &mut config.console.proxy_secret_file,
        &mut config.http.moderation.keys,
        &mut config.http.moderation.record_key_file,
        &mut config.policies,
    ] {
        if !file.as_os_str().is_empty() {
            *file = folder.join(&*file);
        }
    }
    for file in config.kafka.secrets.values_mut().chain(config.traces.secrets.values_mut()) {
        *file = folder.join(&*file);
    }
    if config.experts.runtime.as_os_str().is_empty() {
        config.experts.runtime = config.experts.folder.join("runtime/libonnxruntime.so");
    }
}

/// Reads the secrets that lie in files.
fn read_secrets(config: &mut Config) -> Result<(), ConfigError> {
    for (name, file) in &config.kafka.secrets {
        config.kafka.settings.insert(name.clone(), read_secret(file)?);
    }
    if !config.registry.password_file.as_os_str().is_empty() {
        config.registry.password = Secret::new(read_secret(&config.registry.password_file)?);
    }
    if !config.console.proxy_secret_file.as_os_str().is_empty() {
        config.console.proxy_secret = Secret::new(read_secret(&config.console.proxy_secret_file)?);
    }
    if !config.http.moderation.record_key_file.as_os_str().is_empty() {
        config.http.moderation.record_key =
            Secret::new(read_secret(&config.http.moderation.record_key_file)?);
    }
    for (name, file) in &config.traces.secrets {
        config.traces.headers.insert(name.clone(), Secret::new(read_secret(file)?));
    }
    Ok(())
}

/// Checks the constraints that the types do not express.
fn validate(config: &Config) -> Result<(), String> {
    let registry = &config.registry;
    if registry.certificate.as_os_str().is_empty() != registry.key.as_os_str().is_empty() {
        return Err("registry.certificate and registry.key go together: set both or neither".into());
    }
    if config.score.encoding == Encoding::Confluent && registry.url.is_empty() {
        return Err("score.encoding = \"confluent\" needs a schema registry: set registry.url".into());
    }
    config.event_fields.check()?;
    config.label_fields.check()?;
    config.console.check()?;
    config.http.moderation.check()?;
    let is_share = |share: f64| (0.0..=1.0).contains(&share);
    if !is_share(config.traces.sample) {
        return Err("traces.sample is a share of events: write a number from 0 to 1".into());
    }
    if !is_share(config.experts.explore) {
        return Err("experts.explore is a share of events: write a number from 0 to 1".into());
    }
    for (role, share) in
        [("score", config.score.max_dead_letter_share), ("learn", config.learn.max_dead_letter_share)]
    {
        if !is_share(share) {
            return Err(format!(
                "{role}.max_dead_letter_share is a share of records: write a number from 0 to 1"
            ));
        }
    }
    if config.report.window_days > 3_650 {
        return Err("report.window_days is more than ten years: write a number up to 3650".into());
    }
    if config.report.interval_ms == 0 {
        return Err(
            "report.interval_ms is 0: write a number above 0; report.window_days = 0 turns the figures off"
                .into(),
        );
    }
    if config.http.max_connections == 0 || config.http.idle_timeout_ms == 0 {
        return Err("http.max_connections or http.idle_timeout_ms is 0: health and metrics would not answer; write a \
                    number above 0"
            .into());
    }
    Ok(())
}

/// The largest secret that is read from a file, in bytes. A key with its certificates fits.
const MAX_SECRET: u64 = 64 << 10;

/// Returns the contents of a file without the line ends that editors add.
fn read_secret(path: &Path) -> Result<String, ConfigError> {
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

/// Describes a syntax error with its position. The line is not quoted, because it may hold a password.
fn syntax_error(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    format!("line {line}, column {column}: {}", error.message())
}
