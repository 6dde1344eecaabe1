//! The tables of a remote expert's manifest: its endpoint, its request and how the response is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::guard::Prompt;
use super::raw::RawManifest;
use super::validate::Validator;
use super::{Kind, Label, Scores};
use crate::experts::error::PanelError;
use crate::guards::GuardSpec;

/// The greatest `endpoint.max_in_flight`.
const MAX_IN_FLIGHT: usize = 4_096;
/// The greatest `endpoint.rate`.
const MAX_RATE: f64 = 100_000.0;
/// The greatest `endpoint.deadline_ms`.
const MAX_DEADLINE_MS: u64 = 600_000;
/// The greatest `endpoint.retries`.
const MAX_RETRIES: u32 = 10;
/// The greatest `endpoint.max_chars`.
const MAX_CHARS: usize = 262_144;
/// The greatest length of `endpoint.model`, in bytes. It is part of every vote.
const MAX_MODEL: usize = 128;
/// The greatest number of `endpoint.headers`.
const MAX_HEADERS: usize = 16;

/// The API of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::experts) enum ApiKind {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's completions.
    Completions,
    /// OpenAI's moderations.
    Moderations,
    /// Any API that takes and returns JSON.
    Json,
}

impl ApiKind {
    fn word(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Moderations => "moderations",
            Self::Json => "json",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEndpoint {
    url: String,
    protocol: ApiKind,
    #[serde(default)]
    model: String,
    key_file: Option<PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, PathBuf>,
    authorities: Option<PathBuf>,
    #[serde(default = "default_in_flight")]
    max_in_flight: usize,
    rate: Option<f64>,
    #[serde(default = "default_deadline_ms")]
    deadline_ms: u64,
    #[serde(default = "default_retries")]
    retries: u32,
    max_chars: Option<usize>,
    #[serde(default = "default_logprobs")]
    logprobs: bool,
}

fn default_in_flight() -> usize {
    32
}

fn default_deadline_ms() -> u64 {
    5_000
}

fn default_retries() -> u32 {
    2
}

fn default_logprobs() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRequest {
    body: String,
}

/// The way to an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::experts) struct Endpoint {
    pub(in crate::experts) url: String,
    /// The model's name in requests; empty if the API takes none.
    pub(in crate::experts) model: String,
    /// The file of the API key.
    pub(in crate::experts) key_file: Option<PathBuf>,
    /// Files with the values of further headers, by name.
    pub(in crate::experts) headers: BTreeMap<String, PathBuf>,
    /// The PEM file of trusted authorities; `None` trusts the system's.
    pub(in crate::experts) authorities: Option<PathBuf>,
    pub(in crate::experts) max_in_flight: usize,
    /// Requests a second; `None` is no limit.
    pub(in crate::experts) rate: Option<f64>,
    /// The time from the question to the vote.
    pub(in crate::experts) deadline: Duration,
    /// The greatest number of repetitions of a request.
    pub(in crate::experts) retries: u32,
    /// The greatest number of characters of a conversation that are sent, or of bytes of a guard's prompt.
    pub(in crate::experts) max_chars: Option<usize>,
}

/// The form of requests and responses.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::experts) enum Api {
    /// The names of labels are the categories of the API.
    Moderations { scores: Scores },
    /// The names of labels are JSON pointers into the response. `body` is a template.
    Json { body: String, scores: Scores },
    /// A guard that a server runs.
    Guard(GuardApi),
}

/// A guard that a server runs.
#[derive(Debug, Clone)]
pub(in crate::experts) struct GuardApi {
    /// The turns are sent as the messages of a chat; otherwise the whole prompt as text.
    pub(in crate::experts) is_chat: bool,
    pub(in crate::experts) prompt: Prompt,
    /// `None` until its file is read.
    pub(in crate::experts) spec: Option<Arc<GuardSpec>>,
    /// The categories of unsafe turns are read.
    pub(in crate::experts) categories: bool,
    /// The probabilities of tokens are asked for.
    pub(in crate::experts) logprobs: bool,
}

impl PartialEq for GuardApi {
    fn eq(&self, other: &Self) -> bool {
        let version = |guard: &Self| guard.spec.as_ref().map(|spec| spec.version());
        (self.is_chat, &self.prompt, self.categories, self.logprobs, version(self))
            == (other.is_chat, &other.prompt, other.categories, other.logprobs, version(other))
    }
}

impl GuardApi {
    /// The spec.
    ///
    /// # Panics
    /// Panics before the loader has filled it in.
    pub(in crate::experts) fn spec(&self) -> &Arc<GuardSpec> {
        self.spec.as_ref().expect("the loader fills in the spec of every guard")
    }
}

/// A remote expert.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::experts) struct Remote {
    pub(in crate::experts) endpoint: Endpoint,
    pub(in crate::experts) api: Api,
}

impl Api {
    /// The labels of the response; `None` for guards, whose verdicts have names in their spec.
    pub(in crate::experts) fn scores(&self) -> Option<&Scores> {
        match self {
            Self::Moderations { scores } | Self::Json { scores, .. } => Some(scores),
            Self::Guard(_) => None,
        }
    }
}

impl Remote {
    /// The slugs of the categories that it scores.
    pub(in crate::experts) fn categories(&self) -> Vec<String> {
        match &self.api {
            Api::Guard(guard) if guard.categories => guard.spec().reported_categories(),
            Api::Guard(_) => Vec::new(),
            Api::Moderations { scores } | Api::Json { scores, .. } => {
                scores.labels.iter().filter_map(|label| label.category.clone()).collect()
            }
        }
    }

    /// The names of the model and of the prompt with its version.
    pub(in crate::experts) fn revision(&self) -> String {
        let model = &self.endpoint.model;
        match &self.api {
            Api::Guard(guard) => format!("{model}; {} {}", guard.spec().name(), guard.spec().version()),
            Api::Moderations { .. } | Api::Json { .. } => model.clone(),
        }
    }

    /// The hash over everything in the manifest that can change a vote. Each part is preceded by its length.
    pub(in crate::experts) fn hash(&self) -> [u8; 32] {
        let Self { endpoint, api } = self;
        let mut hash = Sha256::new();
        hash.update(b"aegis remote 1\n");
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&endpoint.url);
        add(&endpoint.model);
        add(&endpoint.max_chars.map(|max_chars| max_chars.to_string()).unwrap_or_default());
        match api {
            Api::Moderations { .. } => add("moderations"),
            Api::Json { body, .. } => {
                add("json");
                add(body);
            }
            Api::Guard(guard) => {
                add(if guard.is_chat { "chat" } else { "completions" });
                add(&guard.spec().version());
                add(if guard.categories { "categories" } else { "" });
                add(if guard.logprobs { "logprobs" } else { "" });
            }
        }
        if let Some(scores) = api.scores() {
            for Label { name, category, harmful } in &scores.labels {
                add(name);
                add(category.as_deref().unwrap_or_default());
                add(if *harmful { "unsafe" } else { "" });
            }
            if let Some(calibration) = scores.calibration {
                add(&format!("{} {}", calibration.a, calibration.b));
            }
        }
        hash.finalize().into()
    }
}

/// The categories of OpenAI's moderations, each with the category of the taxonomy to which it belongs.
const MODERATIONS: &[(&str, &str)] = &[
    ("harassment", "harassment"),
    ("harassment/threatening", "threat"),
    ("hate", "hate"),
    ("hate/threatening", "hate"),
    ("illicit", "criminal-planning"),
    ("illicit/violent", "criminal-planning"),
    ("self-harm", "self-harm"),
    ("self-harm/intent", "self-harm"),
    ("self-harm/instructions", "self-harm"),
    ("sexual", "sexual"),
    ("sexual/minors", "sexual-minor"),
    ("violence", "violence"),
    ("violence/graphic", "violence"),
];

fn default_labels() -> Vec<Label> {
    let label = |(name, category): &(&str, &str)| Label {
        name: (*name).to_owned(),
        category: Some((*category).to_owned()),
        harmful: true,
    };
    MODERATIONS.iter().map(label).collect()
}

/// Returns the problem with an address, and its remedy.
fn invalid_url(url: &str) -> Option<(&'static str, &'static str)> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if host.contains('@') {
        // Addresses are logged.
        return Some((
            "contains a user or a password",
            "put the API key in the file that endpoint.key_file names",
        ));
    }
    let valid = !host.is_empty() && !url.contains('#') && url.parse::<hyper::Uri>().is_ok();
    (!valid).then_some(("is not an address", "write http://host:port/path or https://..."))
}

impl Validator<'_> {
    fn endpoint(&self, raw: RawEndpoint) -> Result<Endpoint, PanelError> {
        if let Some((problem, remedy)) = invalid_url(&raw.url) {
            return Err(self.error("endpoint.url", problem, remedy));
        }
        if raw.model.len() > MAX_MODEL || raw.model.chars().any(char::is_control) {
            let remedy = format!("give at most {MAX_MODEL} bytes without control characters");
            return Err(self.error("endpoint.model", "is too long, or has control characters", remedy));
        }
        self.check_range("endpoint.max_in_flight", raw.max_in_flight, MAX_IN_FLIGHT)?;
        if let Some(max_chars) = raw.max_chars {
            self.check_range("endpoint.max_chars", max_chars, MAX_CHARS)?;
        }
        if !(1..=MAX_DEADLINE_MS).contains(&raw.deadline_ms) {
            let remedy = format!("give 1 to {MAX_DEADLINE_MS}");
            return Err(self.error("endpoint.deadline_ms", "is out of range", remedy));
        }
        if raw.retries > MAX_RETRIES {
            let remedy = format!("give 0 to {MAX_RETRIES}");
            return Err(self.error("endpoint.retries", "is out of range", remedy));
        }
        if raw.rate.is_some_and(|rate| !(rate > 0.0 && rate <= MAX_RATE)) {
            let remedy = format!("give a number above 0, up to {MAX_RATE}, or remove it");
            return Err(self.error("endpoint.rate", "is out of range", remedy));
        }
        if raw.headers.len() > MAX_HEADERS {
            return Err(self.error(
                "endpoint.headers",
                "are too many",
                format!("give at most {MAX_HEADERS}"),
            ));
        }
        let beside = |file: PathBuf| self.path.parent().unwrap_or(Path::new("")).join(file);
        Ok(Endpoint {
            url: raw.url,
            model: raw.model,
            key_file: raw.key_file.map(beside),
            headers: raw.headers.into_iter().map(|(name, file)| (name, beside(file))).collect(),
            authorities: raw.authorities.map(beside),
            max_in_flight: raw.max_in_flight,
            rate: raw.rate,
            deadline: Duration::from_millis(raw.deadline_ms),
            retries: raw.retries,
            max_chars: raw.max_chars,
        })
    }

    /// The tables of a remote expert.
    pub(super) fn remote(&self, raw: &mut RawManifest, mut labels: Vec<Label>) -> Result<Remote, PanelError> {
        let raw_endpoint = self.require(raw.endpoint.take(), "endpoint", Kind::Remote)?;
        let (protocol, logprobs) = (raw_endpoint.protocol, raw_endpoint.logprobs);
        let endpoint = self.endpoint(raw_endpoint)?;
        let body = raw.request.take().map(|request| request.body);
        let no_meaning = |field: &str| {
            let problem = format!("means nothing for protocol = \"{}\"", protocol.word());
            self.error(field, problem, "remove it")
        };
        if matches!(protocol, ApiKind::Chat | ApiKind::Completions) {
            let others = [
                ("request", body.is_some()),
                ("labels", !labels.is_empty()),
                ("calibration", raw.calibration.is_some()),
            ];
            if let Some((field, _)) = others.into_iter().find(|(_, present)| *present) {
                return Err(no_meaning(field));
            }
            if endpoint.model.is_empty() {
                let remedy = "give the name by which the server knows the model";
                return Err(self.error("endpoint.model", "is missing", remedy));
            }
            let prompt = self.prompt(raw.prompt.take(), Kind::Remote)?;
            let (is_chat, categories) = (protocol == ApiKind::Chat, raw.categories);
            let guard = GuardApi { is_chat, prompt, spec: None, categories, logprobs };
            return Ok(Remote { endpoint, api: Api::Guard(guard) });
        }
        let guards_only = [("prompt", raw.prompt.is_some()), ("categories", raw.categories)];
        if let Some((field, _)) = guards_only.into_iter().find(|(_, present)| *present) {
            return Err(no_meaning(field));
        }
        if protocol == ApiKind::Moderations && labels.is_empty() {
            labels = default_labels();
        }
        let scores = self.labels(labels, raw.calibration, "")?;
        let api = match (protocol, body) {
            (ApiKind::Moderations, None) => Api::Moderations { scores },
            (ApiKind::Moderations, Some(_)) => return Err(no_meaning("request")),
            (_, Some(body)) => {
                self.check_pointers(&scores.labels)?;
                Api::Json { body, scores }
            }
            (_, None) => {
                let remedy = "protocol = \"json\" needs a template of its requests";
                return Err(self.error("request.body", "is missing", remedy));
            }
        };
        Ok(Remote { endpoint, api })
    }

    /// Checks that the names of labels are JSON pointers.
    fn check_pointers(&self, labels: &[Label]) -> Result<(), PanelError> {
        match labels.iter().find(|label| !label.name.starts_with('/')) {
            Some(Label { name, .. }) => {
                let problem = format!("{name:?} is not a JSON pointer");
                Err(self.error("labels.name", problem, "write the way to a number, such as \"/scores/0\""))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
