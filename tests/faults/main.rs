//! Processes that are killed, stopped or held still at every stage, on a real Apache Kafka.

#[path = "../store/support/disk.rs"]
#[allow(dead_code, reason = "each test binary uses what it needs")]
mod disk;
#[path = "../experts/support/mod.rs"]
mod experts_support;
#[path = "../support/mod.rs"]
mod support;

mod crash_points;
mod learner;
mod stopping;
