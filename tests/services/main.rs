//! Aegis beside other services: schema registries, secured brokers, trace collectors, Prometheus.

#[path = "../support/mod.rs"]
mod support;

mod kubernetes;
mod observability;
mod oidc;
mod registry;
mod secure;
mod traces;
