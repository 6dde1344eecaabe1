//! The reasons for which a transaction did not commit.

use std::sync::Arc;

use thiserror::Error;

/// The reason for which a transaction did not commit. The names are metric labels.
///
/// After a [retryable](Self::is_retryable) error the caller rewinds its source to the committed offsets and continues. The
/// outbox has already aborted the transaction or dropped its producer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// Nothing is committed. With at-least-once delivery, outputs already written stay, and are written again.
    #[error("the transaction was aborted at {stage}: {reason}; it is repeated from the committed offsets")]
    Aborted {
        /// The step that failed.
        stage: &'static str,
        /// The client's reason.
        reason: String,
    },
    /// The partitions belong to another member, or soon will. Their new owner repeats the transaction.
    #[error("the group has moved on at {stage}: {reason}; the partitions' new owner repeats the transaction")]
    Stale {
        /// The step that failed.
        stage: &'static str,
        /// The client's reason.
        reason: String,
    },
    /// The commit was requested and there was no answer. Re-reading the committed offsets shows the outcome.
    #[error("the outcome of the commit is unknown: {reason}; re-reading the committed offsets")]
    Indefinite {
        /// The client's reason.
        reason: String,
    },
    /// The transaction no longer exists, and was open for longer than its time-out. Either the brokers aborted it, or another
    /// instance took the transactional id; the client cannot tell which.
    #[error(
        "the transaction exceeded its time-out at {stage}: {reason}; it is repeated from the committed offsets"
    )]
    Outlived {
        /// The step that failed.
        stage: &'static str,
        /// The client's reason.
        reason: String,
    },
    /// Another instance has taken the transactional id of this one, whose outbox never works again.
    #[error("another instance has taken over ({reason}): this one must stop")]
    Fenced {
        /// The client's reason.
        reason: String,
    },
    /// A record is larger than the client or the topic accepts.
    #[error(
        "output {index} of the transaction has {bytes} bytes, more than {topic} accepts: raise message.max.bytes and the topic's max.message.bytes, or make it smaller"
    )]
    TooLarge {
        /// The index of the record.
        index: usize,
        /// The size of the record.
        bytes: usize,
        /// The topic of the record.
        topic: Arc<str>,
    },
    /// A topic of outputs does not exist.
    #[error("topic {topic} or its partition does not exist: create it with `aegis topics --create`")]
    MissingTopic {
        /// The topic.
        topic: Arc<str>,
    },
    /// The brokers refuse this client.
    #[error("the brokers do not let this client write at {stage}: {reason}; check its ACLs")]
    Denied {
        /// The step that failed.
        stage: &'static str,
        /// The brokers' reason.
        reason: String,
    },
    /// A producer cannot be created while the brokers are unreachable. No transaction was begun.
    #[error("no producer: {reason}; are the brokers up?")]
    Unavailable {
        /// The client's reason.
        reason: String,
    },
    /// A producer cannot be created with these settings.
    #[error("no producer can be created: {reason}; check kafka.settings")]
    Settings {
        /// The error of the settings.
        reason: String,
    },
}

impl CommitError {
    /// The error's name, as a metric label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Aborted { .. } => "Aborted",
            Self::Stale { .. } => "Stale",
            Self::Indefinite { .. } => "Indefinite",
            Self::Outlived { .. } => "Outlived",
            Self::Fenced { .. } => "Fenced",
            Self::TooLarge { .. } => "TooLarge",
            Self::MissingTopic { .. } => "MissingTopic",
            Self::Denied { .. } => "Denied",
            Self::Unavailable { .. } => "Unavailable",
            Self::Settings { .. } => "Settings",
        }
    }

    /// Returns `true` if the transaction can succeed without intervention if it is repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Aborted { .. }
                | Self::Stale { .. }
                | Self::Indefinite { .. }
                | Self::Outlived { .. }
                | Self::Unavailable { .. }
        )
    }
}
