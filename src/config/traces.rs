//! `[traces]`

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, shown};

/// `[traces]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// Where spans of moderated events go: OTLP over HTTP, with the path, e.g. `http://127.0.0.1:4318/v1/traces`;
    /// empty: nowhere.
    #[serde(serialize_with = "shown::addresses")]
    pub endpoint: String,
    /// Name of the service that they are shown under.
    pub service: String,
    /// Share of the events that nobody upstream records, from 0 to 1, which is traced all the same: those without
    /// a `traceparent`, and those whose `traceparent` is not sampled.
    pub sample: f64,
    /// PEM file of authorities; empty: the system's.
    pub authorities: PathBuf,
    /// Files that hold values of headers that go with every request, by the headers' names, e.g. `authorization`.
    /// Relative to the configuration's folder.
    pub secrets: BTreeMap<String, PathBuf>,
    /// The headers, read from these files.
    #[serde(skip)]
    pub headers: BTreeMap<String, Secret>,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            service: "aegis".into(),
            sample: 0.0,
            authorities: PathBuf::new(),
            secrets: BTreeMap::new(),
            headers: BTreeMap::new(),
        }
    }
}
