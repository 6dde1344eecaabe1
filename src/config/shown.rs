//! The settings in effect with their sources, and without secrets.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Serialize, Serializer};
use toml::{Table, Value};

use super::load::{parse, with_tuned};
use super::{ConfigError, overlay};

/// The text that is shown instead of a secret.
pub const HIDDEN: &str = "***";

/// The settings of librdkafka whose values are shown. All others, including those of later versions, may be secrets.
const OPEN: &[&str] = &[
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.type",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "security.protocol",
    "ssl.endpoint.identification.algorithm",
];
/// The endings of further ones: times, sizes and paths.
const OPEN_ENDINGS: &[&str] = &[".ms", ".bytes", ".kbytes", ".messages", ".location"];

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The value is not set.
    Default,
    /// `tuned.toml` beside the configuration file.
    Tuned,
    /// The configuration file.
    File,
    /// The environment.
    Environment,
    /// `--set` on the command line.
    Set,
}

impl Origin {
    /// Returns the name of the source.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Tuned => "tuned",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Set => "--set",
        }
    }
}

/// A setting in effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// The key: `section.key`.
    pub key: String,
    /// The value, without secrets. Paths are relative to the working directory.
    pub value: Value,
    /// The source of the value.
    pub from: Origin,
    /// The environment variable that sets it.
    pub environment: String,
}

/// Returns every setting in effect, by key. The policies are not read.
///
/// # Errors
/// As [`load`](super::load).
pub fn shown(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Vec<Shown>, ConfigError> {
    let mut table = parse(path)?;
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    let mut written = Vec::new();
    flatten("", &table, &mut written);
    origins.extend(written.into_iter().map(|(key, _)| (key, Origin::File)));
    let by_environment = overlay::environment(&mut table, environment);
    origins.extend(by_environment.into_iter().map(|key| (key, Origin::Environment)));
    origins.extend(overlay::sets(&mut table, sets)?.into_iter().map(|key| (key, Origin::Set)));
    let config = with_tuned(path, table)?;
    let tuned = config.tuned.iter().flat_map(|tuned| &tuned.taken);
    origins.extend(tuned.map(|key| (key.clone(), Origin::Tuned)));
    for name in config.kafka.secrets.keys() {
        if let Some(from) = origins.get(&format!("kafka.secrets.{name}")).cloned() {
            origins.insert(format!("kafka.settings.{name}"), from);
        }
    }
    let shown = Table::try_from(&config)
        .map_err(|error| ConfigError::Value { path: path.into(), reason: error.to_string() })?;
    let mut values = Vec::new();
    flatten("", &shown, &mut values);
    let of = |(key, value): (String, Value)| {
        let from = origins.get(&key).cloned().unwrap_or(Origin::Default);
        let environment = overlay::variable(&key);
        Shown { key, value, from, environment }
    };
    Ok(values.into_iter().map(of).collect())
}

/// Collects the leaves of a table by their keys. An empty table counts as a leaf.
fn flatten(prefix: &str, table: &Table, found: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(&key, inner, found),
            _ => found.push((key, value.clone())),
        }
    }
}

/// Serializes librdkafka's settings without secrets.
pub fn settings<S: Serializer>(settings: &BTreeMap<String, String>, to: S) -> Result<S::Ok, S::Error> {
    let open = |name: &str| OPEN.contains(&name) || OPEN_ENDINGS.iter().any(|ending| name.ends_with(ending));
    to.collect_map(settings.iter().map(|(name, value)| (name, if open(name) { value } else { HIDDEN })))
}

/// Serializes addresses without the user and password that they may contain.
#[expect(clippy::ptr_arg, reason = "serde hands a String")]
pub fn addresses<S: Serializer>(urls: &String, to: S) -> Result<S::Ok, S::Error> {
    let plain = |url: &str| {
        let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
        match rest.rsplit_once('@') {
            Some((_, host)) if scheme.is_empty() => format!("{HIDDEN}@{host}"),
            Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}"),
            None => url.to_owned(),
        }
    };
    to.serialize_str(&urls.split(',').map(plain).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, environment: &[(&str, &str)], sets: &[&str]) -> BTreeMap<String, Shown> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aegis.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let sets: Vec<String> = sets.iter().map(|set| (*set).into()).collect();
        let shown = shown(&path, environment, &sets).unwrap();
        shown.into_iter().map(|shown| (shown.key.clone(), shown)).collect()
    }

    #[test]
    fn every_value_has_its_source() {
        let shown = show(
            "[topics]\nevents = 'a'\nlabels = 'a'\n[score]\nwindow = 3",
            &[("AEGIS__TOPICS__LABELS", "b"), ("AEGIS__SCORE__WINDOW", "4"), ("HOME", "/")],
            &["score.window=5"],
        );
        let of = |key: &str| (shown[key].value.to_string(), shown[key].from.word());
        assert_eq!(of("topics.events"), ("\"a\"".into(), "file"));
        assert_eq!(of("topics.labels"), ("\"b\"".into(), "environment"));
        assert_eq!(of("score.window"), ("5".into(), "--set"));
        assert_eq!(of("topics.dlq"), ("\"moderation.dlq\"".into(), "default"));
        assert_eq!(shown["kafka.brokers"].environment, "AEGIS__KAFKA__BROKERS");
    }

    #[test]
    fn secrets_are_hidden_everywhere() {
        let shown = show(
            "[kafka.settings]\n\"sasl.password\" = \"hunter2\"\n\"sasl.jaas.config\" = \"hunter2\"\n\
             \"ssl.ca.location\" = \"ca.pem\"\n\"security.protocol\" = \"SASL_SSL\"\n\
             [registry]\nurl = \"https://me:hunter2@one:8081,https://two:8081\"\n",
            &[("AEGIS__REGISTRY__PASSWORD", "hunter2")],
            &["kafka.settings.ssl.key.password=hunter2"],
        );
        let all = format!("{shown:?}");
        assert!(!all.contains("hunter2"), "{all}");
        let of = |key: &str| shown[key].value.as_str().unwrap().to_owned();
        assert_eq!(of("registry.url"), "https://***@one:8081,https://two:8081");
        assert_eq!(
            (of("registry.password"), of("kafka.settings.sasl.password")),
            ("***".into(), "***".into())
        );
        assert_eq!(shown["kafka.settings.ssl.key.password"].from, Origin::Set);
        assert_eq!(of("kafka.settings.ssl.ca.location"), "ca.pem");
        assert_eq!(of("kafka.settings.security.protocol"), "SASL_SSL");
    }
}
