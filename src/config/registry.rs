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
    /// Addresses of the Confluent API, separated by commas; empty: no registry.
    #[serde(serialize_with = "shown::addresses")]
    pub url: String,
    /// User of basic authentication; empty: none.
    pub user: String,
    /// The user's password; better in the environment or in `password_file`.
    #[schemars(with = "String")]
    pub password: Secret,
    /// A file that holds the password; over `password`.
    pub password_file: PathBuf,
    /// PEM file of authorities; empty: the system's.
    pub authorities: PathBuf,
    /// PEM file of this program's certificate; empty: none.
    pub certificate: PathBuf,
    /// PEM file of the certificate's key.
    pub key: PathBuf,
    /// How the subject of decisions is named.
    pub subjects: Subjects,
    /// Whether the schema of decisions is registered where it is not yet.
    pub register: bool,
    /// A request takes at most this long, in milliseconds.
    pub request_timeout_ms: u64,
    /// A record of an unknown schema holds its partition up for this long, in milliseconds.
    pub unknown_wait_ms: u64,
    /// A registry that does not answer is asked again for this long, in milliseconds; then the role stops.
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

/// How a subject is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Subjects {
    /// `<topic>-value`.
    Topic,
    /// The record's full name.
    Record,
    /// `<topic>-<record's full name>`.
    TopicRecord,
}

/// A value that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value itself.
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
    /// As shown: never the value.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(if self.0.is_empty() { "" } else { shown::HIDDEN })
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Digits alone reach here as a number; an error would show what it refuses.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match toml::Value::deserialize(from)? {
            toml::Value::String(text) => text,
            other => other.to_string(),
        }))
    }
}
