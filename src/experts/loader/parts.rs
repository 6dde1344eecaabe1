//! The parts of a panel that the loader makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::experts::backend::ModelBackend;
use crate::experts::backend::onnx::session::Graph;
use crate::experts::backend::remote::RemoteExpert;
use crate::experts::batcher::Limits;
use crate::experts::config::PanelConfig;
use crate::experts::error::PanelError;
use crate::experts::info::{EncoderInfo, ExpertInfo};
use crate::experts::manifest::features::FeatureOutputs;
use crate::experts::manifest::{Padding, View};
use crate::experts::prompts::GuardPrompts;
use crate::experts::rules::Rules;
use crate::experts::tokenizer::ModelTokenizer;

/// An encoder with its heads, or a classifier. Its texts run in batches of their own, on the backend with the same
/// index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// The id of the encoder or classifier.
    pub(crate) id: String,
    /// The index of its tokenizer. Models with the same tokenizer share a text's tokens. `None` for guards, which read
    /// prompts.
    pub(crate) tokenizer: Option<usize>,
    pub(crate) padding: Padding,
    /// The indexes of the experts that vote by its output.
    pub(crate) experts: Vec<usize>,
    /// The experts that read more than the judged turn, by view.
    pub(crate) views: Vec<(View, Arc<[usize]>)>,
    /// Its outputs for the learner's features.
    pub(crate) features: FeatureOutputs,
    /// It is asked under load as well.
    pub(crate) cheap: bool,
    /// Its texts run one by one.
    pub(crate) alone: bool,
    /// The hashes of its graphs, that of its encoder or classifier first. A later load must find the same.
    pub(crate) hashes: Vec<[u8; 32]>,
    /// The hash of the manifest of its encoder, classifier or first guard.
    pub(crate) manifest: [u8; 32],
}

impl Model {
    /// Returns `true` if it is an encoder that computes features together with another one, which leads.
    pub(crate) fn is_partner(&self) -> bool {
        self.features.alone.is_none() && self.features.part.is_some()
    }

    /// Returns `true` if a later load found the same model. Whether a guard's texts run one by one is found out by
    /// running it, and manifests may get other notes.
    pub(crate) fn is_same(&self, known: &Self) -> bool {
        *self == Self { alone: self.alone, manifest: self.manifest, ..known.clone() }
    }

    /// The limits of its batches.
    pub(crate) fn limits(&self, config: &PanelConfig) -> Limits {
        let usual = if self.padding.to.is_some() { config.fixed_batch } else { config.batch };
        let tokens = config.budgets.get(&self.id).copied().unwrap_or(usual.tokens);
        Limits { tokens, rows: if self.alone { 1 } else { usual.rows }, ..usual }
    }
}

/// The parts of a model that could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MissingParts {
    /// The indexes of the experts that abstain because of it.
    pub(crate) experts: Vec<usize>,
    /// The encoder or classifier itself is missing.
    pub(crate) whole_model: bool,
}

impl MissingParts {
    /// Returns `true` if nothing is missing.
    pub(crate) fn is_empty(&self) -> bool {
        self.experts.is_empty() && !self.whole_model
    }

    /// Returns `true` if everything that is missing here is missing in `other` as well.
    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        self.whole_model <= other.whole_model
            && self.experts.iter().all(|expert| other.experts.contains(expert))
    }
}

/// The backends of one worker, by model.
pub(crate) type Backends = Vec<ModelBackend>;

/// The parts of a panel.
pub(crate) struct PanelParts {
    pub(crate) experts: Vec<ExpertInfo>,
    pub(crate) encoder: Option<EncoderInfo>,
    pub(crate) tokenizers: Vec<ModelTokenizer>,
    pub(crate) models: Vec<Model>,
    /// By model; `None` for those that have a tokenizer.
    pub(crate) prompts: Vec<Option<Arc<GuardPrompts>>>,
    /// By model.
    pub(crate) missing: Vec<MissingParts>,
    /// The rules experts, each with its index.
    pub(crate) rules: Vec<(usize, Arc<Rules>)>,
    /// The remote experts, by model.
    pub(crate) remotes: BTreeMap<usize, Arc<RemoteExpert>>,
    /// By worker, then by model.
    pub(crate) backends: Vec<Backends>,
}

/// The graphs of one expert, one for each worker, or the reason why they could not be loaded.
pub(super) type Graphs = Result<Vec<Graph>, String>;

/// An error of loading one expert.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The panel must be refused.
    Refused(PanelError),
    /// The expert cannot be loaded now: it abstains, unless all experts are required.
    NotLoaded(String),
}

impl From<PanelError> for LoadError {
    fn from(error: PanelError) -> Self {
        Self::Refused(error)
    }
}
