//! Operation of the process: metrics, health, logs, traces, shutdown, progress, output, file descriptors.

pub mod descriptors;
pub mod hangup;
pub mod health;
pub mod http;
pub mod metrics;
pub mod priority;
pub mod progress;
pub mod shutdown;
pub(crate) mod stdout;
pub mod telemetry;
pub mod traces;

pub use self::hangup::Hangup;
pub use self::health::Health;
pub use self::http::Server;
pub use self::priority::lower_priority;
pub use self::progress::Progress;
pub use self::shutdown::{Exit, Shutdown, StopReason, end_process};
pub use self::traces::{Traces, TracesError};
