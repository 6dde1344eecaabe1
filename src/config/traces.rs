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
    /// The address that spans are sent to by OTLP over HTTP, with the path, e.g. `http://127.0.0.1:4318/v1/traces`. If
    /// empty, no spans are sent.
    #[serde(serialize_with = "shown::addresses")]
    pub endpoint: String,
    /// The service name of the spans.
    pub service: String,
    /// The share, from 0 to 1, of the events and requests without a sampled trace that is traced: of those without a
    /// `traceparent`, and of those whose `traceparent` is not sampled.
    pub sample: f64,
    /// The PEM file of trusted certificate authorities. If empty, the system's are trusted.
    pub authorities: PathBuf,
    /// Files with the values of request headers, by the headers' names, e.g. `authorization`. They are relative to the
    /// configuration's folder.
    pub secrets: BTreeMap<String, PathBuf>,
    /// The headers read from the files of `secrets`.
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
