//! What can go wrong, and what is done about it: every error of the client is judged here and nowhere else.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::connection::RefusedSetting;

/// Why reading failed. The names are metric labels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// A setting is not taken.
    #[error(transparent)]
    Settings(#[from] RefusedSetting),
    /// The topic does not exist.
    #[error("topic {topic} does not exist: make it with `aegis topics --create`")]
    MissingTopic {
        /// Its name.
        topic: String,
    },
    /// The brokers refuse this client.
    #[error("the brokers do not let this client {doing}: {reason}; check its ACLs and kafka.settings")]
    Denied {
        /// What was tried.
        doing: &'static str,
        /// The brokers' word.
        reason: String,
    },
    /// Nothing came back in time.
    #[error("no answer while trying to {doing}: {reason}; are the brokers up?")]
    Timeout {
        /// What was tried.
        doing: &'static str,
        /// What is known.
        reason: String,
    },
    /// A topic ends before a position that was read once: it was made anew, or lost its end.
    #[error(
        "topic {topic} partition {partition} ends at {end}, before the known position {position}: it was made anew or has lost records; the state built from it must be rebuilt"
    )]
    Truncated {
        /// Its name.
        topic: String,
        /// The partition.
        partition: i32,
        /// The position that should exist.
        position: i64,
        /// Where it ends.
        end: i64,
    },
    /// The client cannot go on.
    #[error("the Kafka client failed while trying to {doing}: {reason}; restart")]
    Client {
        /// What was tried.
        doing: &'static str,
        /// The client's word.
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

    /// Whether the same call can succeed later without anyone's doing.
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

    /// The same of a client that names `group`: where the group is refused, that is what is named.
    pub(super) fn in_group(error: &KafkaError, doing: &'static str, topic: &str, group: &str) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                Self::of(error, doing, &format!("group {group}"))
            }
            _ => Self::of(error, doing, topic),
        }
    }
}

/// Errors that end by themselves: brokers that are away, coordinators that move.
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
            // Whether we are let in was asked at the start; later a handshake is cut off by who goes down.
            | Code::SSL
            | Code::TimedOutQueue
            | Code::UnknownLeaderEpoch
            | Code::UnstableOffsetCommit
            | Code::WaitingForCoordinator
    )
}

/// Why a unit of work did not commit. The names are metric labels.
///
/// After each that [passes](Self::passes) the caller rewinds its source to the committed offsets and goes on;
/// the outbox has already done its part (aborted, or let its producer go).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// Nothing of the unit counts (at-least-once: outputs already written stay, and come again).
    #[error("the unit was given up at {stage}: {reason}; it is done again from the committed offsets")]
    Aborted {
        /// The step that failed.
        stage: &'static str,
        /// The client's word.
        reason: String,
    },
    /// The partitions belong to another member, or soon will: their new owner does the unit.
    #[error("the group has moved on at {stage}: {reason}; the partitions' new owner does the unit again")]
    Stale {
        /// The step that failed.
        stage: &'static str,
        /// The client's word.
        reason: String,
    },
    /// The commit was asked for and its answer never came. The committed offsets say what holds.
    #[error("the answer to the commit is unknown: {reason}; the committed offsets say what holds")]
    Indefinite {
        /// The client's word.
        reason: String,
    },
    /// The transaction is gone, and was open for longer than its time-out: the brokers have given it up, or
    /// another instance has taken the transactional id; to the client both look alike.
    #[error(
        "the unit outlived its transaction's time-out at {stage}: {reason}; it is done again from the committed offsets"
    )]
    Outlived {
        /// The step that failed.
        stage: &'static str,
        /// The client's word.
        reason: String,
    },
    /// Another instance has taken this one's transactional id. This outbox never works again.
    #[error("another instance has taken over ({reason}): this one must stop")]
    Fenced {
        /// The client's word.
        reason: String,
    },
    /// A record is larger than the client or the topic takes.
    #[error(
        "output {index} of the unit has {bytes} bytes, more than {topic} takes: raise message.max.bytes and the topic's max.message.bytes, or make it smaller"
    )]
    TooLarge {
        /// Which of the records sent.
        index: usize,
        /// Its size.
        bytes: usize,
        /// Where it should go.
        topic: Arc<str>,
    },
    /// A topic of outputs does not exist.
    #[error("topic {topic} or its partition does not exist: make it with `aegis topics --create`")]
    MissingTopic {
        /// Its name.
        topic: Arc<str>,
    },
    /// The brokers refuse this client.
    #[error("the brokers do not let this client write at {stage}: {reason}; check its ACLs")]
    Denied {
        /// The step that failed.
        stage: &'static str,
        /// The brokers' word.
        reason: String,
    },
    /// No producer can be made while the brokers are away. Nothing was begun.
    #[error("no producer: {reason}; are the brokers up?")]
    Unavailable {
        /// The client's word.
        reason: String,
    },
    /// No producer can be made with these settings.
    #[error("no producer can be made: {reason}; check kafka.settings")]
    Settings {
        /// What is wrong with them.
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

    /// Whether the unit, done again, can succeed without anyone's doing.
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

/// What the error of one step asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The same call again.
    Retry,
    /// Abort the transaction.
    Abort,
    /// The producer is spent: make it anew.
    Spent,
    /// Somebody else holds the transactional id, or the brokers have given a transaction up that took too long.
    Fenced,
}

/// Judges the error of a step of a transaction or of an offset commit.
pub(super) fn class(error: &KafkaError) -> Class {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    let fenced = matches!(code, Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch));
    match error {
        KafkaError::Transaction(error) if error.is_fatal() && fenced => Class::Fenced,
        KafkaError::Transaction(error) if error.is_fatal() => Class::Spent,
        KafkaError::Transaction(error) if error.txn_requires_abort() => Class::Abort,
        KafkaError::Transaction(error) if error.is_retriable() => Class::Retry,
        // A flush that ran out of time: the records' own reports say what became of them.
        KafkaError::Flush(_) => Class::Abort,
        KafkaError::ConsumerCommit(code) if is_retryable(*code) || *code == Code::RebalanceInProgress => {
            Class::Retry
        }
        KafkaError::ConsumerCommit(_) => Class::Abort,
        _ => Class::Spent,
    }
}

/// Whether the brokers refuse this client.
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

/// What is left of the time.
pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Calls until it succeeds, fails for good, or the time is over.
pub(super) fn again<F: FnMut() -> Result<(), KafkaError>>(
    until: Instant,
    mut step: F,
) -> Result<(), KafkaError> {
    loop {
        match step() {
            Err(error) if class(&error) == Class::Retry && Instant::now() < until => {
                // Nothing tells when the brokers are ready; the client itself backs off as well.
                thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Whether the error means that the group knows this member no more, or not in this generation.
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
    fn offset_commits_are_judged() {
        use RDKafkaErrorCode as Code;
        let judged = |code| class(&KafkaError::ConsumerCommit(code));
        assert_eq!(judged(Code::RebalanceInProgress), Class::Retry);
        assert_eq!(judged(Code::NotCoordinator), Class::Retry);
        assert_eq!(judged(Code::IllegalGeneration), Class::Abort);
        assert!(stale(&KafkaError::ConsumerCommit(Code::IllegalGeneration)));
        assert!(!stale(&KafkaError::ConsumerCommit(Code::RequestTimedOut)));
        assert_eq!(class(&KafkaError::Flush(Code::OperationTimedOut)), Class::Abort);
        assert_eq!(class(&KafkaError::Canceled), Class::Spent);
    }

    #[test]
    fn a_refusal_names_what_was_refused() {
        use RDKafkaErrorCode as Code;
        let said = |code| {
            let error = KafkaError::MessageConsumption(code);
            SourceError::in_group(&error, "read", "moderation.events", "aegis-score").to_string()
        };
        let of_topic = said(Code::TopicAuthorizationFailed);
        assert!(of_topic.contains("moderation.events") && !of_topic.contains("aegis-score"), "{of_topic}");
        let of_group = said(Code::GroupAuthorizationFailed);
        assert!(of_group.contains("group aegis-score") && !of_group.contains("moderation"), "{of_group}");
    }

    #[test]
    fn a_missing_topic_names_the_command() {
        let error = KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition);
        let shown = SourceError::of(&error, "read", "moderation.events").to_string();
        assert!(shown.contains("moderation.events") && shown.contains("aegis topics --create"), "{shown}");
    }
}
