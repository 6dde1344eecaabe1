//! The encodings of the records that score writes.

use super::{Registry, RegistryError};
use crate::codec::{Encoding, SCHEMAS};
use crate::config::{self, Config, Subjects};

/// The namespace of our schemas.
const NAMESPACE: &str = "aegis.v1";

/// The encodings of the records that score writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encodings {
    /// The encoding of decisions.
    pub decisions: Encoding,
    /// The encoding of review requests.
    pub review: Encoding,
}

impl Encodings {
    /// Returns the encodings that `score.encoding` asks for.
    ///
    /// Confluent's framing contains the ids that the registry gives our schemas; this function requests or registers
    /// them once.
    ///
    /// # Errors
    /// Returns a [`RegistryError`] if the framing needs a registry and none is configured, or if the registry refuses a
    /// schema, does not have it, or does not answer.
    pub fn negotiate(
        config: &Config,
        registry: Option<&Registry>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, RegistryError> {
        let encoding = match config.score.encoding {
            config::Encoding::Avro => Encoding::Avro,
            config::Encoding::Json => Encoding::Json,
            config::Encoding::Confluent => return Self::register(config, registry, stop),
        };
        Ok(Self { decisions: encoding, review: encoding })
    }

    fn register(
        config: &Config,
        registry: Option<&Registry>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, RegistryError> {
        let registry = registry.ok_or_else(|| RegistryError::Settings {
            key: "url",
            reason: "is empty, and score.encoding = \"confluent\" needs a registry".into(),
        })?;
        let register = |topic: &str, (name, schema): (&str, &str)| {
            let subject = subject(config.registry.subjects, topic, name);
            let id = registry.register(&subject, schema, config.registry.register, stop)?;
            tracing::info!(subject, id, "a schema is registered");
            Ok::<_, RegistryError>(Encoding::Confluent(id))
        };
        let [_, _, decision, _, _, review, _] = SCHEMAS;
        Ok(Self {
            decisions: register(&config.topics.decisions, decision)?,
            review: register(&config.topics.review, review)?,
        })
    }
}

/// Returns the subject of the values on `topic` whose schema is our schema `name`.
fn subject(subjects: Subjects, topic: &str, name: &str) -> String {
    match subjects {
        Subjects::Topic => format!("{topic}-value"),
        Subjects::Record => format!("{NAMESPACE}.{name}"),
        Subjects::TopicRecord => format!("{topic}-{NAMESPACE}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_address_there_is_no_registry() {
        let mut config = Config::default();
        assert!(Registry::from_config(&config.registry).unwrap().is_none());
        config.score.encoding = config::Encoding::Confluent;
        let error = Encodings::negotiate(&config, None, &|| false).unwrap_err();
        assert!(error.to_string().contains("registry.url"), "{error}");
        config.registry.url = "localhost:8081".into();
        assert!(Registry::from_config(&config.registry).is_err());
    }

    #[test]
    fn registered_schemas_have_the_names_that_subjects_contain() {
        let [_, _, decision, _, _, review, _] = SCHEMAS;
        assert_eq!((decision.0, review.0), ("Decision", "ReviewRequest"));
        for (name, schema) in [decision, review] {
            assert!(schema.contains(&format!("\"name\": \"{name}\"")));
            assert!(schema.contains(&format!("\"namespace\": \"{NAMESPACE}\"")));
        }
        for (subjects, expected) in [
            (Subjects::Topic, "t-value"),
            (Subjects::Record, "aegis.v1.Decision"),
            (Subjects::TopicRecord, "t-aegis.v1.Decision"),
        ] {
            assert_eq!(subject(subjects, "t", "Decision"), expected);
        }
    }
}
