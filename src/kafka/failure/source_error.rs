//! The errors of reading.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::is_retryable;
use crate::kafka::refused_setting::RefusedSetting;

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
    /// The brokers do not have the configured protocol of groups.
    #[error(
        "the brokers do not have the protocol of kafka.group_protocol = \"{protocol}\": upgrade them to Kafka 4 with the feature group.version=1, or set kafka.group_protocol = \"classic\""
    )]
    GroupProtocol {
        /// The protocol.
        protocol: &'static str,
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
            Self::GroupProtocol { .. } => "GroupProtocol",
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

    /// Returns the error of an operation on a topic.
    pub(in crate::kafka) fn of(error: &KafkaError, doing: &'static str, topic: &str) -> Self {
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
    pub(in crate::kafka) fn in_group(
        error: &KafkaError,
        doing: &'static str,
        topic: &str,
        group: &str,
    ) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                Self::of(error, doing, &format!("group {group}"))
            }
            _ => Self::of(error, doing, topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
