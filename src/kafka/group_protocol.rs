//! The protocol of consumer groups, and whether the brokers have it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of the request by which a member of [`GroupProtocol::Consumer`] joins its group and stays in it.
const HEARTBEAT_API: &str = "(68)";
/// The version of that request that the client sends. Kafka 3.7 to 3.9 have only version 0, which was a preview.
const HEARTBEAT_VERSION: i16 = 1;
/// The lines of the client's log that follow the requests that a broker has.
const AFTER_LIST: [&str; 2] = ["Enabling feature", "Disabling feature"];

/// The protocol with which the members of a consumer group share partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GroupProtocol {
    /// The members share the partitions, and each member sets its own session time-out.
    #[default]
    Classic,
    /// The brokers share the partitions (KIP-848), and set the session time-out of all members. Needs Kafka 4.
    Consumer,
}

impl GroupProtocol {
    /// The protocol's name in librdkafka's `group.protocol` and in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// The part of the brokers' list of requests that concerns [`GroupProtocol::Consumer`].
///
/// The client has no call for that list, and waits silently for a broker that has the protocol. Its log contains the list
/// if `debug` contains `feature`, once for each connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Support {
    /// No list was read to its end.
    #[default]
    Unknown,
    /// The list does not have the protocol's request.
    Missing,
    /// The brokers have the protocol's request.
    Present,
}

impl Support {
    /// Notes a line of the client's log.
    pub(super) fn read(&mut self, line: &str) {
        if *self == Self::Unknown && AFTER_LIST.iter().any(|after| line.contains(after)) {
            *self = Self::Missing;
        }
        let Some((_, versions)) = line.split_once(HEARTBEAT_API) else { return };
        let Some((least, most)) =
            versions.trim().strip_prefix("Versions ").and_then(|all| all.split_once(".."))
        else {
            return;
        };
        if let (Ok(least), Ok(most)) = (least.parse::<i16>(), most.parse::<i16>())
            && (least..=most).contains(&HEARTBEAT_VERSION)
        {
            *self = Self::Present;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_requests_says_whether_the_protocol_is_there() {
        let after = |lines: &[&str]| {
            let mut support = Support::default();
            lines.iter().for_each(|line| support.read(line));
            support
        };
        let (end, other) = ("b/1: Enabling feature MsgVer1", "b/1:   ApiKey JoinGroup (11) Versions 2..9");
        let heartbeat =
            |versions: &str| format!("b/1:   ApiKey ConsumerGroupHeartbeat (68) Versions {versions}");
        assert_eq!(after(&[other]), Support::Unknown);
        assert_eq!(after(&[other, end]), Support::Missing);
        assert_eq!(after(&[other, &heartbeat("0..0"), end]), Support::Missing);
        assert_eq!(after(&[&heartbeat("0..1"), other, end]), Support::Present);
    }
}
