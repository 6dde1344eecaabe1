//! Whole flows: on the embedded broker, and on a real Apache Kafka.

#[path = "../experts/support/mod.rs"]
mod experts_support;
#[path = "../services/registry/server.rs"]
#[allow(dead_code, reason = "the registry's own tests use all of it")]
mod registry_server;
#[path = "../store/support/mod.rs"]
mod store_support;
#[path = "../support/mod.rs"]
mod support;

mod decisive;
mod demo;
mod embedded;
mod estimated;
mod kafka;
mod languages;
mod pinned;
mod roles;
mod sampling;
mod upgrade;
mod verify;

/// Returns the metrics of this process, in which only one recorder can be installed.
fn metrics_page() -> &'static metrics_exporter_prometheus::PrometheusHandle {
    static PAGE: std::sync::OnceLock<metrics_exporter_prometheus::PrometheusHandle> =
        std::sync::OnceLock::new();
    PAGE.get_or_init(|| aegis::ops::metrics::install().unwrap())
}
