//! Records as the configuration describes them: the schema registry, where events have their fields, and what
//! decisions and review requests are written with.

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

/// How events and labels are read.
#[must_use]
pub fn defaults(config: &Config) -> codec::Defaults {
    let Config { event_fields, label_fields, .. } = config;
    codec::Defaults {
        tenant: config.defaults.tenant.clone(),
        policy: config.defaults.policy.clone(),
        event_fields: event_fields.is_set().then(|| event_fields.clone()),
        label_fields: label_fields.is_set().then(|| label_fields.clone()),
    }
}

/// How score's records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encodings {
    /// Decisions.
    pub decisions: codec::Encoding,
    /// Review requests.
    pub review: codec::Encoding,
}

/// The encodings of decisions and review requests. Confluent's framing needs the ids that the registry gives
/// our schemas: they are asked for here, once.
///
/// # Errors
/// Where the registry refuses a schema, does not have it, or does not answer.
pub fn encodings(
    config: &Config,
    registry: Option<&Registry>,
    stop: &dyn Fn() -> bool,
) -> Result<Encodings, RegistryError> {
    let both = |encoding| Ok(Encodings { decisions: encoding, review: encoding });
    match (config.score.encoding, registry) {
        (config::Encoding::Avro, _) => both(codec::Encoding::Avro),
        (config::Encoding::Json, _) => both(codec::Encoding::Json),
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
            let register = |topic: &str, (name, schema): (&str, &str)| {
                let subject = subjects.subject(topic, &format!("{NAMESPACE}.{name}"));
                let id = registry.register(&subject, schema, config.registry.register, stop)?;
                tracing::info!(subject, id, "a schema is registered");
                Ok::<_, RegistryError>(codec::Encoding::Confluent(id))
            };
            let [_, _, decision, _, _, review] = SCHEMAS;
            Ok(Encodings {
                decisions: register(&config.topics.decisions, decision)?,
                review: register(&config.topics.review, review)?,
            })
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
        let error = encodings(&config, None, &|| false).unwrap_err();
        assert!(error.to_string().contains("registry.url"), "{error}");
        config.registry.url = "localhost:8081".into();
        assert!(open(&config.registry).is_err());
    }

    #[test]
    fn the_schemas_that_are_registered_have_the_names_that_subjects_are_made_of() {
        let [_, _, decision, _, _, review] = SCHEMAS;
        assert_eq!((decision.0, review.0), ("Decision", "ReviewRequest"));
        for (name, schema) in [decision, review] {
            assert!(schema.contains(&format!("\"name\": \"{name}\"")));
            assert!(schema.contains(&format!("\"namespace\": \"{NAMESPACE}\"")));
        }
    }
}
