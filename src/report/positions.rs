//! The positions at which the decisions of a period begin.

use std::time::Duration;

use crate::core::event::Millis;
use crate::kafka::{Connection, Follower, From, SourceError, at_time};

/// The greatest difference between the clocks of brokers and producers, in milliseconds. Decisions are found by the time at
/// which they were written, which is later than their round time.
const MAX_CLOCK_SKEW: Millis = 600_000;

/// Returns the positions of the first decisions that can have a round time of at least `since`; of all for `None`.
///
/// # Errors
/// Returns an error if the topic is missing, or if the brokers do not answer within `timeout`.
pub fn beginning(
    connection: &Connection,
    topic: &str,
    since: Option<Millis>,
    timeout: Duration,
) -> Result<From, SourceError> {
    let Some(since) = since else { return Ok(From::Beginning) };
    let since = since.saturating_sub(MAX_CLOCK_SKEW).max(0);
    let mut begins = at_time(connection, topic, since, timeout)?;
    // Partitions without such a record are read from their end.
    let all = Follower::open(connection, topic, &From::Beginning, timeout)?;
    for (partition, end) in all.ends() {
        begins.entry(partition).or_insert(end);
    }
    Ok(From::Offsets(begins))
}
