//! The demo's error type.

use std::path::PathBuf;

use super::texts::TextsError;
use crate::codec;
use crate::config::ConfigError;
use crate::console::ConsoleError;
use crate::experts::PanelError;
use crate::kafka::embedded::{EmbeddedError, KEPT_BYTES};
use crate::kafka::{CommitError, SourceError};
use crate::learn::LearnError;
use crate::ops::Exit;
use crate::score::ScoreError;

/// The reason why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The texts are missing.
    #[error(transparent)]
    Texts(#[from] TextsError),
    /// The experts are missing.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// The embedded broker does not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The stream is too large for the embedded broker.
    #[error(
        "{events} events are too many for the embedded broker, which keeps {KEPT_BYTES} bytes of the ledger and \
         would silently drop the rest: take fewer, or --broker host:port of an Apache Kafka"
    )]
    TooMany {
        /// Events asked for.
        events: u32,
    },
    /// Reading from the brokers failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Writing to the brokers failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A record cannot be read.
    #[error(transparent)]
    Decode(#[from] codec::DecodeError),
    /// A record cannot be written.
    #[error(transparent)]
    Encode(#[from] codec::EncodeError),
    /// The console cannot be started.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The metrics that the console shows cannot be installed.
    #[error("the metrics cannot be installed: {0}")]
    Metrics(String),
    /// Scoring stopped.
    #[error("score stopped: {0}")]
    Score(#[from] ScoreError),
    /// Learning stopped.
    #[error("learn stopped: {0}")]
    Learn(#[from] LearnError),
    /// A role's thread panicked.
    #[error("{0} panicked: an error of this program")]
    Panicked(&'static str),
    /// No outcomes come.
    #[error("no outcome for two minutes: {outcomes} of {expected} events have one")]
    Silent {
        /// Outcomes seen.
        outcomes: usize,
        /// Outcomes expected.
        expected: usize,
    },
    /// An operation of the system failed.
    #[error("{path}: {reason}")]
    Io {
        /// The path, or another name of the object.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
    /// The rounds cannot be folded.
    #[error("the rounds read back cannot be folded: {0}")]
    Fold(String),
    /// Counts or hashes that must be equal differ.
    #[error("the demo's books do not balance: {0}")]
    Unbalanced(String),
}

impl DemoError {
    /// Returns the exit code of the process.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Interrupted => Exit::Interrupted,
            Self::TooMany { .. } => Exit::Usage,
            Self::Config(_) => Exit::Config,
            Self::Decode(_) | Self::Encode(_) | Self::Fold(_) | Self::Unbalanced(_) | Self::Panicked(_) => {
                Exit::Internal
            }
            _ => Exit::Unavailable,
        }
    }
}
