//! The errors of the clients. Every error of librdkafka is classified here and nowhere else.

mod commit_error;
mod source_error;

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub use commit_error::CommitError;
pub use source_error::SourceError;

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
                | Code::FencedMemberEpoch
                | Code::StaleMemberEpoch
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
        // Under the consumer protocol, outside of transactions.
        assert!(stale(&KafkaError::ConsumerCommit(Code::StaleMemberEpoch)));
        assert!(!stale(&KafkaError::ConsumerCommit(Code::RequestTimedOut)));
        assert_eq!(classify(&KafkaError::Flush(Code::OperationTimedOut)), Class::Abort);
        assert_eq!(classify(&KafkaError::Canceled), Class::Unusable);
    }
}
