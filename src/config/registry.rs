//! `[registry]`

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shown;

/// `[registry]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// The addresses of the registry's Confluent API, separated by commas. If empty, no registry is used.
    #[serde(serialize_with = "shown::addresses")]
    pub url: String,
    /// The user of basic authentication. If empty, none is sent.
    pub user: String,
    /// The user's password. Prefer the environment or `password_file`.
    #[schemars(with = "String")]
    pub password: Secret,
    /// A file with the password. It overrides `password`.
    pub password_file: PathBuf,
    /// The PEM file of trusted certificate authorities. If empty, the system's are trusted.
    pub authorities: PathBuf,
    /// The PEM file of the client certificate. If empty, none is sent.
    pub certificate: PathBuf,
    /// The PEM file of the client certificate's key.
    pub key: PathBuf,
    /// The naming strategy for the subject of decisions.
    pub subjects: Subjects,
    /// If true, the schema of decisions is registered if the registry does not have it.
    pub register: bool,
    /// The timeout of a request, in milliseconds.
    pub request_timeout_ms: u64,
    /// The time for which a record of an unknown schema delays its partition, in milliseconds.
    pub unknown_wait_ms: u64,
    /// The time for which requests to a registry that does not answer are repeated, in milliseconds. After it the role
    /// stops.
    pub outage_wait_ms: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            authorities: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            subjects: Subjects::Topic,
            register: true,
            request_timeout_ms: 5_000,
            unknown_wait_ms: 2_000,
            outage_wait_ms: 30_000,
        }
    }
}

/// The naming strategy of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Subjects {
    /// The subject is `<topic>-value`.
    Topic,
    /// The subject is the record's full name.
    Record,
    /// The subject is `<topic>-<record's full name>`.
    TopicRecord,
}

/// A value that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Creates a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

impl Serialize for Secret {
    /// Writes a placeholder, never the value.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(if self.0.is_empty() { "" } else { shown::HIDDEN })
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Accepts values that TOML reads as numbers, because a type error would show the value.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match toml::Value::deserialize(from)? {
            toml::Value::String(text) => text,
            other => other.to_string(),
        }))
    }
}
