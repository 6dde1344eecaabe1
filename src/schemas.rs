//! The schema registry as the configuration describes it, and what decisions are written with.

use std::time::Duration;

use crate::codec::{self, SCHEMAS, Schemas};
use crate::config::{self, Config};
use crate::registry::{Registry, RegistryError, Settings, Subjects};

/// The registry; `None` where none is configured.
///
/// # Errors
/// Where the settings are of no use, or the system has no thread to give.
pub fn open(settings: &config::Registry) -> Result<Option<Registry>, RegistryError> {
    if settings.url.is_empty() {
        return Ok(None);
    }
    let path = |path: &std::path::PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
    let settings = Settings {
        urls: settings.url.split(',').map(|url| url.trim().to_owned()).collect(),
        user: settings.user.clone(),
        password: settings.password.expose().to_owned(),
        authorities: path(&settings.authorities),
        identity: path(&settings.certificate).zip(path(&settings.key)),
        request: Duration::from_millis(settings.request_timeout_ms),
        unknown: Duration::from_millis(settings.unknown_wait_ms),
        outage: Duration::from_millis(settings.outage_wait_ms),
    };
    Registry::open(settings).map(Some)
}

/// The registry as the codec asks it.
#[must_use]
pub fn of(registry: Option<&Registry>) -> Option<&dyn Schemas> {
    registry.map(|registry| registry as &dyn Schemas)
}

/// The encoding of decisions. Confluent's framing needs the id that the registry gives our schema: it is
/// asked for here, once.
///
/// # Errors
/// Where the registry refuses the schema, does not have it, or does not answer.
pub fn encoding(
    config: &Config,
    registry: Option<&Registry>,
    stop: &dyn Fn() -> bool,
) -> Result<codec::Encoding, RegistryError> {
    match (config.score.encoding, registry) {
        (config::Encoding::Avro, _) => Ok(codec::Encoding::Avro),
        (config::Encoding::Json, _) => Ok(codec::Encoding::Json),
        (config::Encoding::Confluent, None) => {
            let reason = "is empty, and score.encoding = \"confluent\" needs a registry".into();
            Err(RegistryError::Settings { key: "url", reason })
        }
        (config::Encoding::Confluent, Some(registry)) => {
            let subjects = match config.registry.subjects {
                config::Subjects::Topic => Subjects::Topic,
                config::Subjects::Record => Subjects::Record,
                config::Subjects::TopicRecord => Subjects::TopicRecord,
            };
            let [_, _, (name, schema), ..] = SCHEMAS;
            let subject = subjects.subject(&config.topics.decisions, &format!("{NAMESPACE}.{name}"));
            let id = registry.register(&subject, schema, config.registry.register, stop)?;
            tracing::info!(subject, id, "the schema of decisions is registered");
            Ok(codec::Encoding::Confluent(id))
        }
    }
}

/// The namespace of our schemas.
const NAMESPACE: &str = "aegis.v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_address_there_is_no_registry() {
        let mut config = Config::default();
        assert!(open(&config.registry).unwrap().is_none());
        config.score.encoding = config::Encoding::Confluent;
        let error = encoding(&config, None, &|| false).unwrap_err();
        assert!(error.to_string().contains("registry.url"), "{error}");
        config.registry.url = "localhost:8081".into();
        assert!(open(&config.registry).is_err());
    }

    #[test]
    fn the_schema_of_decisions_has_the_name_that_subjects_are_made_of() {
        let [_, _, (name, schema), ..] = SCHEMAS;
        assert_eq!(name, "Decision");
        assert!(schema.contains(&format!("\"namespace\": \"{NAMESPACE}\"")));
    }
}
