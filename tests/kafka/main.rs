//! Sources, followers and the outbox: on the embedded broker, and on a real Apache Kafka.

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod copier;
mod embedded;
mod exactly_once;
mod group_protocol;
mod soak;
