//! Both roles on an Apache Kafka that lets nobody in without a password or a certificate, and allows nothing
//! that docs/security.md does not list.

mod acls;
mod flow;
mod needed;
mod refused;
mod site;
