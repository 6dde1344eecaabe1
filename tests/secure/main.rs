//! Both roles on an Apache Kafka that demands a password or a certificate, and allows only what docs/security.md lists.

#[path = "../support/mod.rs"]
mod support;

mod acls;
mod flow;
mod needed;
mod refused;
mod site;
