//! Functions that record what both roles do: commits, dead letters, partitions, and reloaded policies.

use std::time::Duration;

use super::float;
use super::learning::active;
use super::list::{
    COMMIT_SECONDS, DEAD_LETTERS, KAFKA_ERRORS, PANEL_SHRUNK, PARTITIONS, POLICIES_CURRENT, POLICY_RELOADS,
    RECORDS_LOST, SPANS, TOMBSTONES, TRANSACTION_RECORDS, TRANSACTIONS,
};
use super::scoring::queue;

/// Records a committed dead letter, by its side (`event` or `label`).
pub fn dead_letter(side: &'static str, reason: &'static str) {
    DEAD_LETTERS.with([side, reason]).increment(1);
}

/// Records committed records with a null value that were skipped, by their side (`event` or `label`).
pub fn skipped(side: &'static str, count: u64) {
    if count > 0 {
        TOMBSTONES.with([side]).increment(count);
    }
}

/// Records the commit of a transaction, or of an at-least-once batch.
pub fn commit(role: &'static str, records: usize, took: Duration) {
    TRANSACTIONS.with([role, "committed"]).increment(1);
    TRANSACTION_RECORDS.with([role]).record(float(records as u64));
    COMMIT_SECONDS.with([role]).record(took);
}

/// Records an aborted transaction with the name of the error.
pub fn aborted(role: &'static str, error: &'static str) {
    TRANSACTIONS.with([role, "aborted"]).increment(1);
    KAFKA_ERRORS.with([role, error]).increment(1);
}

/// Records that another process has taken over.
pub fn fenced(role: &'static str) {
    TRANSACTIONS.with([role, "fenced"]).increment(1);
}

/// Sets the number of partitions that this role reads in this process.
pub fn partitions(role: &'static str, count: usize) {
    PARTITIONS.with([role]).set(float(count as u64));
}

/// Records the number of a partition's offsets that were deleted before this group had read them.
pub fn lost(topic: &str, partition: i32, offsets: i64) {
    RECORDS_LOST.with([topic, &partition.to_string()]).increment(u64::try_from(offsets).unwrap_or(0));
}

/// Sets the gauges of a role's work to 0 when dropped, because a role that has ended does no work.
#[derive(Debug)]
pub struct RoleMetrics(pub &'static str);

impl Drop for RoleMetrics {
    fn drop(&mut self) {
        role_ended(self.0);
    }
}

/// Sets the gauges of a role that has ended to 0.
pub fn role_ended(role: &'static str) {
    partitions(role, 0);
    match role {
        "score" => {
            queue(0);
            PANEL_SHRUNK.with([]).set(0.0);
        }
        "learn" => active(false),
        _ => {}
    }
}

/// Records a change of the policies file, taken or refused.
pub fn policies(taken: bool) {
    POLICY_RELOADS.with([if taken { "taken" } else { "refused" }]).increment(1);
    policies_current(taken);
}

/// Records if the policies in force are those of the file.
pub fn policies_current(current: bool) {
    POLICIES_CURRENT.with([]).set(f64::from(current));
}

/// Records the outcome of a number of spans.
pub fn spans(outcome: &'static str, spans: usize) {
    SPANS.with([outcome]).increment(spans as u64);
}
