//! What an operator meets: metrics, health, logs, stopping, progress.

pub mod health;
pub mod metrics;
pub mod progress;
pub mod shutdown;
pub mod telemetry;

pub use health::{Health, Server};
pub use progress::Progress;
pub use shutdown::{Asker, Exit, Shutdown};
