//! What a panel tells about its experts.

use super::manifest::{Body, Kind, Manifest};
use crate::core::features::EncoderId;

/// Whether an expert could be loaded at the start. One that could not be is tried again: [`Panel::down`] says how it
/// stands now.
///
/// [`Panel::down`]: super::Panel::down
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It could.
    Loaded,
    /// It could not, and abstains until it can be.
    NotLoaded {
        /// Why, for people.
        reason: String,
    },
}

impl State {
    /// The state's word, for people.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::NotLoaded { .. } => "not loaded",
        }
    }

    /// Why it could not be loaded.
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
    /// What it is.
    pub kind: Kind,
    /// SHA-256 of its graph or rule file; of a graph with external data one over all its files.
    pub model: [u8; 32],
    /// One line for people.
    pub description: String,
    /// Licence of the model.
    pub licence: String,
    /// Where the model is from.
    pub source: String,
    /// Slugs of the categories it scores, sorted; empty for rules, whose file says.
    pub categories: Vec<String>,
    /// The encoder that a head votes by.
    pub encoder: Option<String>,
    /// AUC on the set that its manifest names, where it names one.
    pub auc: Option<f64>,
    /// What runs it: `cpu`, `cuda:0`, or `-` for rules.
    pub provider: String,
    /// Whether it could be loaded at the start.
    pub state: State,
}

impl ExpertInfo {
    /// What the manifest tells; `None` for encoders, which do not vote.
    pub(super) fn of(manifest: &Manifest, provider: &str) -> Option<Self> {
        let (model, encoder, provider) = match &manifest.body {
            Body::Encoder { .. } => return None,
            Body::Head { graph, encoder, .. } => (graph.sha256(), Some(encoder.clone()), provider),
            Body::Classifier { graph, .. } => (graph.sha256(), None, provider),
            Body::Rules { file } => (file.sha256, None, "-"),
        };
        let mut categories: Vec<String> = match &manifest.body {
            Body::Head { scores, .. } | Body::Classifier { scores, .. } => {
                scores.labels.iter().filter_map(|label| label.category.clone()).collect()
            }
            Body::Encoder { .. } | Body::Rules { .. } => Vec::new(),
        };
        categories.sort_unstable();
        categories.dedup();
        Some(Self {
            id: manifest.id.clone(),
            kind: manifest.kind,
            model,
            description: manifest.description.clone(),
            licence: manifest.licence.clone(),
            source: manifest.source.clone(),
            categories,
            encoder,
            auc: manifest.quality.get("auc").and_then(toml::Value::as_float),
            provider: provider.to_owned(),
            state: State::Loaded,
        })
    }
}

/// An encoder with its heads, or a classifier: texts for it run in batches of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneInfo {
    /// The encoder's or classifier's id.
    pub id: String,
    /// The experts that vote on what it gives.
    pub experts: Vec<String>,
    /// Texts are padded to one length, whatever theirs is.
    pub fixed: bool,
    /// Texts run one by one.
    pub alone: bool,
}

/// The encoder that makes the features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderInfo {
    /// Its folder.
    pub id: String,
    /// What its features are stored under.
    pub encoder: EncoderId,
    /// How it reads, the line that is part of [`EncoderInfo::encoder`].
    pub reading: String,
    /// One line for people.
    pub description: String,
    /// Licence of the model.
    pub licence: String,
    /// Where the model is from.
    pub source: String,
    /// What runs it.
    pub provider: String,
    /// Whether it could be loaded at the start.
    pub state: State,
}
