//! Both roles on an Apache Kafka that demands a password or a certificate, and allows only what docs/security.md lists.

mod acls;
mod flow;
mod needed;
mod refused;
mod site;
