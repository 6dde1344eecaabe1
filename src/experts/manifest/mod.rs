//! Manifests of experts. [`Manifest::parse`] reads the TOML of one and checks that its tables agree with each other.
//!
//! The files that a manifest names are read by the `loader`.

mod ask;
pub(super) mod features;
pub(super) mod guard;
mod languages;
mod parse;
mod raw;
pub(super) mod remote;
mod validate;
mod view;

use std::path::PathBuf;

pub use ask::Ask;
use features::FeatureOutputs;
pub use features::Joint;
use guard::Guard;
pub use languages::Languages;
use remote::Remote;
use serde::Deserialize;
use sha2::{Digest, Sha256};
pub use view::View;

use crate::core::event::Role;

/// The kind of an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Reads text and returns an embedding for heads and features for the learner. It does not vote.
    Encoder,
    /// Votes on an encoder's embedding.
    Head,
    /// Reads text and votes.
    Classifier,
    /// Terms and patterns.
    Rules,
    /// Sends text to an endpoint, which votes.
    Remote,
    /// A causal language model whose next token after a prompt is the verdict.
    Guard,
}

impl Kind {
    /// The kind's name in manifests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Head => "head",
            Self::Classifier => "classifier",
            Self::Rules => "rules",
            Self::Remote => "remote",
            Self::Guard => "guard",
        }
    }
}

/// The arithmetic of an encoder's dense layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single-precision floating point.
    #[default]
    Float32,
    /// Products of bytes, with scales that do not depend on the texts.
    Int8,
}

impl Precision {
    /// The precision's name in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
        }
    }
}

/// Returns `true` if `name` names a file of the expert's own folder.
pub(super) fn is_plain_file(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\', '\0']) && name != "." && name != ".."
}

/// A file of the expert's folder, with the SHA-256 that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashedFile {
    pub(super) path: PathBuf,
    pub(super) sha256: [u8; 32],
    /// The manifest's table, for messages.
    pub(super) table: &'static str,
}

impl HashedFile {
    /// The file's name, as in the manifest.
    ///
    /// # Panics
    /// Panics if the path has no file name. Manifests with such a path are refused.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().expect("a manifest names its files by plain names");
        name.to_string_lossy().into_owned()
    }
}

/// The file of a graph, and the files in which it keeps weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphFiles {
    pub(super) file: HashedFile,
    pub(super) external: Vec<HashedFile>,
}

impl GraphFiles {
    /// The hash that identifies the model in votes: the SHA-256 of the graph, or one over all files if the graph has
    /// external data.
    pub(super) fn sha256(&self) -> [u8; 32] {
        if self.external.is_empty() {
            return self.file.sha256;
        }
        let mut files: Vec<_> = self.external.iter().map(|file| (file.name(), file.sha256)).collect();
        files.sort_unstable();
        let mut hash = Sha256::new();
        hash.update(b"aegis model 1\n");
        hash.update(self.file.sha256);
        for (name, sha256) in files {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(sha256);
        }
        hash.finalize().into()
    }
}

/// The side on which short texts are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Left,
    #[default]
    Right,
}

/// The padding of short texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Padding {
    pub(super) side: Side,
    /// The fixed length in tokens; `None` pads to the longest text of the batch.
    pub(super) to: Option<usize>,
    pub(super) id: u32,
}

/// The tokenizer of a graph, and the graph's inputs for its token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenizerSpec {
    pub(super) file: HashedFile,
    pub(super) max_tokens: usize,
    /// The greatest number of windows of `max_tokens` in which a longer text is read. With one, only its beginning is.
    pub(super) windows: usize,
    pub(super) drop_ids: Vec<u32>,
    pub(super) padding: Padding,
    /// The graph's input for token ids.
    pub(super) ids: String,
    /// The graph's input for the mask: 1 for tokens, 0 for padding.
    pub(super) mask: Option<String>,
    /// The graph's input for token types: zeros.
    pub(super) types: Option<String>,
}

/// The form in which a classifier reads text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TextInput {
    /// Token ids.
    Tokens(TokenizerSpec),
    /// The text itself: the graph has an input of strings, and tokenises them.
    Text {
        /// The graph's input.
        input: String,
        /// The greatest number of characters; longer text is cut.
        max_chars: usize,
    },
}

impl TextInput {
    /// The greatest length of a text, in tokens or characters.
    pub(super) fn max_length(&self) -> usize {
        match self {
            Self::Tokens(spec) => spec.max_tokens,
            Self::Text { max_chars, .. } => *max_chars,
        }
    }

    /// The padding of a batch's texts. Strings are not padded: each counts as one token.
    pub(super) fn padding(&self) -> Padding {
        match self {
            Self::Tokens(spec) => spec.padding,
            Self::Text { .. } => Padding { to: Some(1), ..Padding::default() },
        }
    }
}

/// The meaning of one number of an expert's output.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    pub(super) name: String,
    pub(super) category: Option<String>,
    #[serde(default, rename = "unsafe")]
    pub(super) harmful: bool,
}

/// Platt scaling: sigmoid(a·logit(p) + b).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Calibration {
    pub(super) a: f64,
    pub(super) b: f64,
}

/// The function that turns a graph's logits into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Activation {
    /// For labels that exclude each other.
    Softmax,
    /// For labels that are independent of each other.
    Sigmoid,
}

/// The meaning of an expert's scores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scores {
    /// The graph's output.
    pub(super) output: String,
    /// The function that is applied to the output; `None` if the output already is a probability.
    pub(super) activation: Option<Activation>,
    /// The graph's output for the amount of a text that it read: one number for each text, 0 for nothing.
    pub(super) read: Option<String>,
    pub(super) labels: Vec<Label>,
    pub(super) calibration: Option<Calibration>,
}

/// The tables of a manifest that depend on its kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// `graph` is the one that runs. `int8`: its graph with static integer arithmetic, if it has one.
    Encoder {
        graph: GraphFiles,
        int8: Option<GraphFiles>,
        precision: Precision,
        tokenizer: TokenizerSpec,
        embedding: String,
        /// On a loaded panel: those that are used.
        features: FeatureOutputs,
        /// Of the encoders of a panel that could give the features, the one with the greatest rank does.
        features_rank: u32,
        /// The encoder that gives them together with this one.
        joint: Option<Joint>,
    },
    Head {
        graph: GraphFiles,
        encoder: String,
        embedding: String,
        scores: Scores,
    },
    Classifier {
        graph: GraphFiles,
        input: TextInput,
        scores: Scores,
    },
    Rules {
        file: HashedFile,
    },
    Remote(Box<Remote>),
    Guard(Box<Guard>),
}

/// A manifest whose tables agree with each other.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) id: String,
    /// The SHA-256 of its text.
    pub(super) sha256: [u8; 32],
    pub(super) kind: Kind,
    pub(super) description: String,
    pub(super) licence: String,
    pub(super) source: String,
    /// The graph gets one text at a time, because its output for a text depends on the rest of the batch.
    pub(super) alone: bool,
    /// The part of a conversation that the expert reads.
    pub(super) view: View,
    /// The speakers of judged turns on which the expert votes.
    pub(super) roles: Vec<Role>,
    /// The languages of judged texts on which the expert votes, or to which an encoder gives features.
    pub(super) languages: Languages,
    /// When the expert is asked.
    pub(super) ask: Ask,
    /// The expert is in shadow mode until the configuration says that its votes count.
    pub(super) shadow: bool,
    pub(super) body: Body,
    /// Measurements, for display.
    pub(super) quality: toml::Table,
}

impl Manifest {
    /// The graph's files; `None` for rules and remote experts.
    pub(super) fn graph(&self) -> Option<&GraphFiles> {
        match &self.body {
            Body::Encoder { graph, .. } | Body::Head { graph, .. } | Body::Classifier { graph, .. } => {
                Some(graph)
            }
            Body::Guard(guard) => guard.model.as_ref().map(|model| &model.graph),
            Body::Rules { .. } | Body::Remote(_) => None,
        }
    }

    /// The hash that identifies the model in votes; `None` for rules and remote experts.
    pub(super) fn model(&self) -> Option<[u8; 32]> {
        match &self.body {
            Body::Guard(guard) => Some(guard.sha256()),
            _ => self.graph().map(GraphFiles::sha256),
        }
    }

    /// The tables of a guard.
    pub(super) fn guard(&self) -> Option<&Guard> {
        match &self.body {
            Body::Guard(guard) => Some(guard),
            _ => None,
        }
    }

    /// The id of the expert whose folder holds the graph.
    pub(super) fn graph_owner(&self) -> &str {
        match &self.body {
            Body::Guard(guard) => &guard.base,
            _ => &self.id,
        }
    }

    /// Returns `true` if both are guards whose prompts and runs are the same, so that only their verdicts may differ.
    pub(super) fn shares_runs(&self, other: &Self) -> bool {
        match (&self.body, &other.body) {
            (Body::Guard(guard), Body::Guard(another)) => {
                let prompt = |guard: &Guard| guard.spec().prompt_version();
                (&guard.base, self.view) == (&another.base, other.view)
                    && guard.adapter.as_ref().map(|file| file.sha256)
                        == another.adapter.as_ref().map(|file| file.sha256)
                    && prompt(guard) == prompt(another)
            }
            _ => false,
        }
    }

    /// Selects the graph of an encoder that has one of this precision. Other experts stay as they are. Returns `true` if
    /// the graph of this precision runs.
    pub(super) fn select_precision(&mut self, wanted: Precision) -> bool {
        let Body::Encoder { graph, int8, precision, .. } = &mut self.body else {
            return false;
        };
        if wanted == Precision::Int8
            && let Some(int8) = int8.take()
        {
            (*graph, *precision) = (int8, Precision::Int8);
        }
        *precision == wanted
    }

    /// The encoder with which this one gives the features together.
    pub(super) fn joint(&self) -> Option<&Joint> {
        match &self.body {
            Body::Encoder { joint, .. } => joint.as_ref(),
            _ => None,
        }
    }

    /// Returns `true` if this is an encoder that has an int8 graph beside the selected one.
    pub(super) fn has_int8(&self) -> bool {
        matches!(self.body, Body::Encoder { int8: Some(_), .. })
    }

    /// The precision of an encoder's graph. That of other experts is float32.
    pub(super) fn precision(&self) -> Precision {
        match self.body {
            Body::Encoder { precision, .. } => precision,
            _ => Precision::Float32,
        }
    }

    /// Returns `true` if this is a head of the encoder `id`.
    pub(super) fn is_head_of(&self, id: &str) -> bool {
        matches!(&self.body, Body::Head { encoder, .. } if encoder == id)
    }
}
