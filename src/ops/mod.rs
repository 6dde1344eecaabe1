//! Metrics, health, logs, shutdown.
