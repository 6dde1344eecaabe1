//! Leaves a group of the classic protocol before its client is closed.
//!
//! librdkafka 2.12 does not sign off a member without partitions that is closed: the brokers wait for the end of its session,
//! and an answer about the group that comes after the close makes the client read a null pointer
//! (`rd_kafka_cgrp_handle_LeaveGroup`, confluentinc/librdkafka#5347). A member that has unsubscribed is signed off, so
//! a member unsubscribes first, and is closed when it has left. `docs/decisions/0025` has the details.

#![expect(unsafe_code, reason = "rdkafka 0.39 does not wrap rd_kafka_memberid")]

use std::time::{Duration, Instant};

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::{Member, Rebalance, assign, unassign};

/// The time that leaving may take. A rebalance that has begun ends first, and it waits for all members.
const LIMIT: Duration = Duration::from_secs(5);
/// The time after which the end is looked for again.
const PAUSE: Duration = Duration::from_millis(20);

/// Gives all partitions back and leaves the group. Waits at most [`LIMIT`].
pub(super) fn leave(consumer: &BaseConsumer<Member>) {
    let until = Instant::now() + LIMIT;
    consumer.context().close();
    // The client waits for what it was not told yet.
    while let Some(rebalance) = consumer.context().next_rebalance() {
        let applied = match rebalance {
            Rebalance::Assign(partitions) => assign(consumer, &partitions),
            Rebalance::Revoke(partitions) => unassign(consumer, &partitions),
        };
        if let Err(error) = applied {
            tracing::warn!(target: "kafka", %error, "a rebalance failed while leaving the group");
        }
    }
    consumer.unsubscribe();
    while is_member(consumer) && Instant::now() < until {
        // Serves the rebalance that gives the partitions back. Records that are still fetched stay uncommitted.
        let _ = consumer.poll(PAUSE);
    }
}

/// Returns `true` from the first answer of the group's coordinator until the member leaves.
fn is_member(consumer: &BaseConsumer<Member>) -> bool {
    let handle = consumer.client().native_ptr();
    // SAFETY: `handle` lives as long as `consumer`. The id is null or a string that ends in a zero, belongs to the caller, and
    // is freed once, after it was read.
    unsafe {
        let id = native::rd_kafka_memberid(handle);
        if id.is_null() {
            return false;
        }
        let is_named = *id != 0;
        native::rd_kafka_mem_free(handle, id.cast());
        is_named
    }
}
