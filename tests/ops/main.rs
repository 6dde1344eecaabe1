//! Health, metrics and signals.

mod health;
mod metrics;
mod signals;
