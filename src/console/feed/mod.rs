//! What the topics have said in the last hours, in bounded memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::sync::watch;

use super::App;
use super::server::ConsoleError;
use crate::config::{Config, Live};
use crate::kafka::Connection;

/// The connection to the brokers, as the pages show it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Broker {
    /// `true` if the topics are followed.
    pub ok: bool,
    /// The last error, for the user of the page.
    pub error: Option<String>,
}

#[derive(Default)]
struct State {
    broker: Broker,
}

/// The state that the pages read. Threads write it, and handlers read it.
pub struct Feed {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

impl Feed {
    /// Creates an empty state.
    #[must_use]
    pub fn new(_config: &Config) -> Self {
        Self { state: Mutex::default(), version: watch::Sender::new(0) }
    }

    /// Returns the number of the state, which grows with each change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Returns the connection to the brokers.
    pub fn broker(&self) -> Broker {
        self.state().broker.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads that follow the topics. They end when this is dropped.
pub struct Threads;

impl Threads {
    /// Starts the threads.
    ///
    /// # Errors
    /// Returns an error if the system refuses a thread, or if the registry's settings cannot be used.
    pub fn start(
        _config: &Arc<Config>,
        _policies: &Live,
        _connection: &Connection,
        _feed: &Arc<Feed>,
        _metrics: Option<PrometheusHandle>,
    ) -> Result<Self, ConsoleError> {
        Ok(Self)
    }
}

/// Returns the routes of the data.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
}
