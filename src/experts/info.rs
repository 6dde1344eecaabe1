//! Descriptions of a panel's experts.

use sha2::{Digest, Sha256};

use super::manifest::{Ask, Body, Kind, Manifest, TokenizerSpec, View};
use crate::core::event::Role;
use crate::core::features::EncoderId;

/// The outcome of loading an expert when the panel was opened. An expert that could not be loaded is tried again;
/// [`Panel::down`] has its present state.
///
/// [`Panel::down`]: super::Panel::down
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The expert was loaded.
    Loaded,
    /// The expert could not be loaded, and abstains until it can be.
    NotLoaded {
        /// The reason.
        reason: String,
    },
}

impl State {
    /// The state's name, for display.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::NotLoaded { .. } => "not loaded",
        }
    }

    /// The reason why the expert could not be loaded; `None` if it was.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Loaded => None,
            Self::NotLoaded { reason } => Some(reason),
        }
    }
}

/// An expert of the panel.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertInfo {
    /// Its id, the name of its folder.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// The SHA-256 of its graph or rule file; of a graph with external data, one over all its files; of a remote expert,
    /// one over the settings that can change its votes.
    pub model: [u8; 32],
    /// The SHA-256 of its manifest.
    pub manifest: [u8; 32],
    /// The model and the prompt's version of a remote expert, which its votes name instead of `model`.
    pub revision: Option<String>,
    /// A description of one line, for display.
    pub description: String,
    /// The model's licence.
    pub licence: String,
    /// The model's origin.
    pub source: String,
    /// The slugs of the categories that it scores, sorted; empty for rules, whose file lists them.
    pub categories: Vec<String>,
    /// The id of the encoder on whose embedding a head votes.
    pub encoder: Option<String>,
    /// The part of a conversation that it reads.
    pub view: View,
    /// The speakers of judged turns on which it votes.
    pub roles: Vec<Role>,
    /// When it is asked.
    pub ask: Ask,
    /// The AUC on the data set that its manifest names, if it names one.
    pub auc: Option<f64>,
    /// The execution provider that runs it: `cpu`, `cuda:0`, or `-` for rules and remote experts.
    pub provider: String,
    /// The outcome of loading it when the panel was opened.
    pub state: State,
}

impl ExpertInfo {
    /// An expert for tests, which is asked only if its vote matters.
    #[cfg(test)]
    pub(crate) fn example(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            kind: Kind::Head,
            model: [1; 32],
            manifest: [2; 32],
            revision: None,
            description: String::new(),
            licence: String::new(),
            source: String::new(),
            categories: Vec::new(),
            encoder: Some("encoder".to_owned()),
            view: View::Turn,
            roles: Role::ALL.to_vec(),
            ask: Ask::WhenDecisive,
            auc: None,
            provider: "cpu".to_owned(),
            state: State::Loaded,
        }
    }

    /// The description in a manifest; `None` for encoders, which do not vote.
    pub(super) fn of(manifest: &Manifest, provider: &str) -> Option<Self> {
        let (model, encoder, provider) = match &manifest.body {
            Body::Encoder { .. } => return None,
            Body::Head { graph, encoder, .. } => (graph.sha256(), Some(encoder.clone()), provider),
            Body::Classifier { graph, .. } => (graph.sha256(), None, provider),
            Body::Rules { file } => (file.sha256, None, "-"),
            Body::Remote(remote) => (remote.hash(), None, "-"),
            Body::Guard(guard) => (guard.sha256(), None, provider),
        };
        let mut categories: Vec<String> = match &manifest.body {
            Body::Head { scores, .. } | Body::Classifier { scores, .. } => {
                scores.labels.iter().filter_map(|label| label.category.clone()).collect()
            }
            Body::Remote(remote) => remote.categories(),
            Body::Guard(guard) if guard.categories => guard.spec().reported_categories(),
            Body::Encoder { .. } | Body::Rules { .. } | Body::Guard(_) => Vec::new(),
        };
        categories.sort_unstable();
        categories.dedup();
        Some(Self {
            id: manifest.id.clone(),
            kind: manifest.kind,
            model,
            manifest: manifest.sha256,
            revision: None,
            description: manifest.description.clone(),
            licence: manifest.licence.clone(),
            source: manifest.source.clone(),
            categories,
            encoder,
            view: manifest.view,
            roles: manifest.roles.clone(),
            ask: manifest.ask,
            auc: manifest.quality.get("auc").and_then(toml::Value::as_float),
            provider: provider.to_owned(),
            state: State::Loaded,
        })
    }
}

/// An encoder with its heads, or a classifier. Texts for it run in batches of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The encoder's or classifier's id.
    pub id: String,
    /// The ids of the experts that vote by its output.
    pub experts: Vec<String>,
    /// All texts are padded to one fixed length.
    pub fixed: bool,
    /// Texts run one by one.
    pub alone: bool,
}

/// The encoder that makes the features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderInfo {
    /// Its id, the name of its folder.
    pub id: String,
    /// The id under which its features are stored.
    pub encoder: EncoderId,
    /// One line that describes how text becomes features. It is part of [`EncoderInfo::encoder`].
    pub reading: String,
    /// A description of one line, for display.
    pub description: String,
    /// The model's licence.
    pub licence: String,
    /// The model's origin.
    pub source: String,
    /// The execution provider that runs it.
    pub provider: String,
    /// The outcome of loading it when the panel was opened.
    pub state: State,
}

impl EncoderInfo {
    /// The description in a manifest; `None` if the expert gives no features.
    pub(super) fn of(manifest: &Manifest, provider: &str) -> Option<Self> {
        let Body::Encoder { graph, tokenizer, features: Some(_), .. } = &manifest.body else {
            return None;
        };
        let reading = reading_line(tokenizer);
        let mut hash = Sha256::new();
        hash.update(b"aegis encoder 1\n");
        hash.update(graph.sha256());
        hash.update(tokenizer.file.sha256);
        hash.update(reading.as_bytes());
        Some(Self {
            id: manifest.id.clone(),
            encoder: hash.finalize().into(),
            reading,
            description: manifest.description.clone(),
            licence: manifest.licence.clone(),
            source: manifest.source.clone(),
            provider: provider.to_owned(),
            state: State::Loaded,
        })
    }
}

/// One line that describes how text becomes features. A change here changes the encoder's id.
fn reading_line(tokenizer: &TokenizerSpec) -> String {
    let mut line = format!("judged turn; {} tokens; mean; whitened int8 v1", tokenizer.max_tokens);
    if !tokenizer.drop_ids.is_empty() {
        line += &format!("; without tokens {:?}", tokenizer.drop_ids);
    }
    line
}
