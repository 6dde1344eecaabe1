//! The errors of the clients. Every error of librdkafka is classified here and nowhere else.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::connection::RefusedSetting;

/// An error of reading. The names are metric labels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// A setting is refused.
    #[error(transparent)]
    Settings(#[from] RefusedSetting),
    /// The topic does not exist.
    #[error("topic {topic} does not exist: create it with `aegis topics --create`")]
    MissingTopic {
        /// The topic.
        topic: String,
    },
    /// The brokers refuse this client.
    #[error("the brokers do not let this client {doing}: {reason}; check its ACLs and kafka.settings")]
    Denied {
        /// The operation that failed, as an infinitive.
        doing: &'static str,
        /// The brokers' reason.
        reason: String,
    },
    /// There was no answer in time.
    #[error("no answer while trying to {doing}: {reason}; are the brokers up?")]
    Timeout {
        /// The operation that failed, as an infinitive.
        doing: &'static str,
        /// The known cause.
        reason: String,
    },
    /// A topic ends before a position that was read before: it was created again, or lost its last records.
    #[error(
        "topic {topic} partition {partition} ends at {end}, before the known position {position}: it was created again or has lost records; the state built from it must be rebuilt"
    )]
    Truncated {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The position that should exist.
        position: i64,
        /// The end of the partition.
        end: i64,
    },
    /// The client cannot continue.
    #[error("the Kafka client failed while trying to {doing}: {reason}; restart")]
    Client {
        /// The operation that failed, as an infinitive.
        doing: &'static str,
        /// The client's reason.
        reason: String,
    },
}

impl SourceError {
    /// The error's name, as a metric label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Settings(_) => "Settings",
            Self::MissingTopic { .. } => "MissingTopic",
            Self::Denied { .. } => "Denied",
            Self::Timeout { .. } => "Timeout",
            Self::Truncated { .. } => "Truncated",
            Self::Client { .. } => "Client",
        }
    }

    /// Returns `true` if the same call can succeed later without intervention.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    pub(super) fn of(error: &KafkaError, doing: &'static str, topic: &str) -> Self {
        use RDKafkaErrorCode as Code;
        let reason = error.to_string();
        match error.rdkafka_error_code() {
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                Self::MissingTopic { topic: topic.to_owned() }
            }
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::Authentication,
            ) => {
                let reason = if topic.is_empty() { reason } else { format!("{topic}: {reason}") };
                Self::Denied { doing, reason }
            }
            Some(code) if is_retryable(code) => Self::Timeout { doing, reason },
            _ => Self::Client { doing, reason },
        }
    }

    /// As [`of`](Self::of), for a client in `group`. If the group is refused, the error names the group.
    pub(super) fn in_group(error: &KafkaError, doing: &'static str, topic: &str, group: &str) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                Self::of(error, doing, &format!("group {group}"))
            }
            _ => Self::of(error, doing, topic),
        }
    }
}

/// Returns `true` for errors that pass without intervention: unreachable brokers, moving coordinators.
pub(super) fn is_retryable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerDestroy
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::FencedLeaderEpoch
            | Code::LeaderNotAvailable
            | Code::MessageTimedOut
            | Code::NetworkException
            | Code::NotCoordinator
            | Code::NotLeaderForPartition
            | Code::OffsetNotAvailable
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            // Access was checked at the start. Later a handshake fails because a broker shuts down.
            | Code::SSL
            | Code::TimedOutQueue
            | Code::UnknownLeaderEpoch
            | Code::UnstableOffsetCommit
            | Code::WaitingForCoordinator
    )
}

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

/// The action that an error of one step requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Repeat the call.
    Retry,
    /// Abort the transaction.
    Abort,
    /// The producer cannot be used any more: create a new one.
    Unusable,
    /// Another producer has the transactional id, or the brokers aborted a transaction that took too long.
    Fenced,
}

/// Classifies the error of a step of a transaction or of an offset commit.
pub(super) fn classify(error: &KafkaError) -> Class {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    let fenced = matches!(code, Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch));
    match error {
        KafkaError::Transaction(error) if error.is_fatal() && fenced => Class::Fenced,
        KafkaError::Transaction(error) if error.is_fatal() => Class::Unusable,
        KafkaError::Transaction(error) if error.txn_requires_abort() => Class::Abort,
        KafkaError::Transaction(error) if error.is_retriable() => Class::Retry,
        // A flush timed out. The delivery reports say what happened to each record.
        KafkaError::Flush(_) => Class::Abort,
        KafkaError::ConsumerCommit(code) if is_retryable(*code) || *code == Code::RebalanceInProgress => {
            Class::Retry
        }
        KafkaError::ConsumerCommit(_) => Class::Abort,
        _ => Class::Unusable,
    }
}

/// Returns `true` if the brokers refuse this client.
pub(super) fn denied(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TransactionalIdAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
        )
    )
}

/// Returns the time until `until`, which may be zero.
pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Repeats `step` while it fails with a retriable error, until `until`.
pub(super) fn retry<F: FnMut() -> Result<(), KafkaError>>(
    until: Instant,
    mut step: F,
) -> Result<(), KafkaError> {
    loop {
        match step() {
            Err(error) if classify(&error) == Class::Retry && Instant::now() < until => {
                // There is no event for brokers that are ready again. The client backs off as well.
                thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Returns `true` if the group does not have this member, or not in this generation.
pub(super) fn stale(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::IllegalGeneration
                | Code::UnknownMemberId
                | Code::FencedInstanceId
                | Code::AssignmentLost
                | Code::RebalanceInProgress
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_commit_errors_are_classified() {
        use RDKafkaErrorCode as Code;
        let class = |code| classify(&KafkaError::ConsumerCommit(code));
        assert_eq!(class(Code::RebalanceInProgress), Class::Retry);
        assert_eq!(class(Code::NotCoordinator), Class::Retry);
        assert_eq!(class(Code::IllegalGeneration), Class::Abort);
        assert!(stale(&KafkaError::ConsumerCommit(Code::IllegalGeneration)));
        assert!(!stale(&KafkaError::ConsumerCommit(Code::RequestTimedOut)));
        assert_eq!(classify(&KafkaError::Flush(Code::OperationTimedOut)), Class::Abort);
        assert_eq!(classify(&KafkaError::Canceled), Class::Unusable);
    }

    #[test]
    fn a_refusal_names_what_was_refused() {
        use RDKafkaErrorCode as Code;
        let message = |code| {
            let error = KafkaError::MessageConsumption(code);
            SourceError::in_group(&error, "read", "moderation.events", "aegis-score").to_string()
        };
        let of_topic = message(Code::TopicAuthorizationFailed);
        assert!(of_topic.contains("moderation.events") && !of_topic.contains("aegis-score"), "{of_topic}");
        let of_group = message(Code::GroupAuthorizationFailed);
        assert!(of_group.contains("group aegis-score") && !of_group.contains("moderation"), "{of_group}");
    }

    #[test]
    fn a_missing_topic_names_the_command() {
        let error = KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition);
        let shown = SourceError::of(&error, "read", "moderation.events").to_string();
        assert!(shown.contains("moderation.events") && shown.contains("aegis topics --create"), "{shown}");
    }
}
