//! Both roles on an Apache Kafka that requires a password or a certificate, and allows only the operations that
//! docs/security.md lists.

mod acls;
mod flow;
mod needed;
mod refused;
mod site;
