//! The manifest of an expert's folder: what it says.

use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What an expert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Reads text; its embedding feeds heads, its features the learner. It does not vote.
    Encoder,
    /// Votes by an encoder's embedding.
    Head,
    /// Reads text and votes.
    Classifier,
    /// Terms and patterns.
    Rules,
}

impl Kind {
    /// The kind's word in manifests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Head => "head",
            Self::Classifier => "classifier",
            Self::Rules => "rules",
        }
    }
}

/// A file of the folder, with the SHA-256 it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Artefact {
    pub(super) path: PathBuf,
    pub(super) sha256: [u8; 32],
    /// The manifest's table, for messages.
    pub(super) table: &'static str,
}

impl Artefact {
    /// The file's name, as the manifest has it.
    pub(super) fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// A graph's file, and those in which it keeps weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphFiles {
    pub(super) file: Artefact,
    pub(super) external: Vec<Artefact>,
}

impl GraphFiles {
    /// What a model is known by in votes: the SHA-256 of its graph, and with external data one over all its files.
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

/// Which end short texts are filled up at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Left,
    #[default]
    Right,
}

/// How short texts are filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Padding {
    pub(super) side: Side,
    /// Fixed length; without one, to the longest of the batch.
    pub(super) to: Option<usize>,
    pub(super) id: u32,
}

/// How text becomes numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) tokenizer: Artefact,
    pub(super) max_tokens: usize,
    /// Windows of `max_tokens` that a longer text is read in, at most; with one only its beginning is.
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

/// How a classifier takes its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Intake {
    /// As token ids.
    Tokens(Reading),
    /// As it is: the graph has an input of strings, and reads them itself.
    Text {
        /// The graph's input.
        input: String,
        /// Characters it is given; longer text is cut.
        max_chars: usize,
    },
}

impl Intake {
    /// The most tokens, or characters, of a text.
    pub(super) fn room(&self) -> usize {
        match self {
            Self::Tokens(reading) => reading.max_tokens,
            Self::Text { max_chars, .. } => *max_chars,
        }
    }

    /// How texts of a batch are filled up; strings are not.
    pub(super) fn padding(&self) -> Padding {
        match self {
            Self::Tokens(reading) => reading.padding,
            Self::Text { .. } => Padding { to: Some(1), ..Padding::default() },
        }
    }
}

/// One number of an expert's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    pub(super) name: String,
    pub(super) category: Option<String>,
    #[serde(default, rename = "unsafe")]
    pub(super) harmful: bool,
}

/// sigmoid(a·logit(p) + b).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Calibration {
    pub(super) a: f64,
    pub(super) b: f64,
}

/// What makes probabilities of a graph's output that has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Activation {
    /// Labels that exclude each other.
    Softmax,
    /// Labels that stand for themselves.
    Sigmoid,
}

/// What an expert's scores mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scores {
    /// The graph's output.
    pub(super) output: String,
    pub(super) activation: Option<Activation>,
    /// The graph's output for how much of a text it read: one number for each text, 0 for nothing.
    pub(super) read: Option<String>,
    pub(super) labels: Vec<Label>,
    pub(super) calibration: Option<Calibration>,
}

/// What differs by kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Encoder { graph: GraphFiles, reading: Reading, embedding: String, features: Option<String> },
    Head { graph: GraphFiles, encoder: String, embedding: String, scores: Scores },
    Classifier { graph: GraphFiles, intake: Intake, scores: Scores },
    Rules { file: Artefact },
}

/// A manifest that holds together.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) description: String,
    pub(super) licence: String,
    pub(super) source: String,
    /// The graph is given one text at a time: what it gives hangs on what else is in a batch.
    pub(super) alone: bool,
    pub(super) body: Body,
    /// For people.
    pub(super) quality: toml::Table,
}

impl Manifest {
    /// Its graph; rules have none.
    pub(super) fn graph(&self) -> Option<&GraphFiles> {
        match &self.body {
            Body::Encoder { graph, .. } | Body::Head { graph, .. } | Body::Classifier { graph, .. } => {
                Some(graph)
            }
            Body::Rules { .. } => None,
        }
    }

    /// What its graph is known by; nothing for rules.
    pub(super) fn model(&self) -> Option<[u8; 32]> {
        self.graph().map(GraphFiles::sha256)
    }
}
