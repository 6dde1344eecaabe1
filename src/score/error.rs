//! The errors that end the scoring role.

use crate::codec::EncodeError;
use crate::core::predictor::PredictorError;
use crate::experts::PanelError;
use crate::kafka::{CommitError, SourceError};
use crate::ops::TracesError;
use crate::registry::RegistryError;

/// The reason for which scoring stopped.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// Reading failed, and reading again does not help.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A batch cannot be committed, now or later.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A policy's learner does not accept the panel's experts.
    #[error(transparent)]
    Predictor(#[from] PredictorError),
    /// A decision or a review request cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The schema registry refuses a request or is not available.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The topic of events has more partitions than a topic of outputs.
    #[error(
        "{events} has a partition {partition}, and {topic} has only {count} partitions: an output is written to the \
         partition number of its event. Nothing is lost: add the missing partitions with `aegis topics --create`, \
         and start again"
    )]
    Partitions {
        /// The topic of events.
        events: String,
        /// The highest partition that was assigned.
        partition: i32,
        /// The topic of outputs that lacks this partition.
        topic: String,
        /// The number of partitions of the topic of outputs.
        count: i32,
    },
    /// The panel cannot continue.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// The commit thread cannot be started.
    #[error("the commit thread cannot be started: {reason}; allow this process more threads")]
    Thread {
        /// The operating system's reason.
        reason: String,
    },
    /// Spans cannot be sent with the configured settings.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// There were too many dead letters within a minute.
    #[error(
        "more than {limit} dead letters within a minute, the last one for {reason}, and more than \
         score.max_dead_letter_share of the records read: something upstream is wrong. Everything read before is \
         committed, so `aegis dlq list` shows it: fix the producer, or raise score.max_dead_letters_per_minute or \
         score.max_dead_letter_share, and start again"
    )]
    Surge {
        /// The configured number of dead letters per minute.
        limit: u64,
        /// The name of the last dead letter's reason.
        reason: &'static str,
    },
    /// An invariant of the pipeline is broken. The role ends, so that no offset passes an event without an outcome.
    #[error("an invariant of the scoring pipeline is broken: {what}; report this as a bug")]
    Invariant {
        /// The invariant, and the event or record for which it does not hold.
        what: String,
    },
}

impl ScoreError {
    /// Returns `true` if the same operation can succeed later without intervention.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            _ => false,
        }
    }
}
