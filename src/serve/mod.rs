//! Moderation over HTTP: a request in, a decision out.
//!
//! # The path of a request
//!
//! | stage | what happens | file |
//! |---|---|---|
//! | 1. admit | the key is found, and its limit is checked | `caller`, `keys`, `rate` |
//! | 2. read | the body becomes events, one for each text to judge | `openai`, `decisions`, `litellm`, `agentgateway`, `nemo`; `content` |
//! | 3. decide | the events go to the panel, beside those of the stream | `decide`, [`RequestScorer`] |
//! | 4. record | each event is written to the topic of events, with its decision; a scorer makes it the event's outcome | `recorder` |
//! | 5. answer | the decisions become the answer that the endpoint documents, or a refusal | the endpoint's file, `refusal` |
//! | 6. report | metrics are counted, and the spans of a traced request are sent | `server`, `trace` |
//!
//! Everything that a client can make the server hold is bounded: connections, bodies, texts of a request, texts that are
//! accepted and not answered, records that are not written.

mod agentgateway;
mod caller;
mod content;
mod decide;
mod decisions;
mod endpoints;
pub mod keys;
mod litellm;
mod nemo;
mod openai;
mod openapi;
mod rate;
mod reason;
mod recorder;
mod refusal;
mod server;
mod trace;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::kafka::CommitError;
use crate::ops::http::{Limits, ServeError, Server};
use crate::ops::{Health, Traces, traces};
use crate::panics;
use crate::score::{RecordKey, RequestScorer, Score, ScoreError};
pub use endpoints::document;
use keys::KeysError;
use recorder::Recorder;
use server::App;

/// The name of this role in conditions and metrics.
pub const ROLE: &str = "http";
/// The time within which the head of a request must arrive.
const IDLE: Duration = Duration::from_secs(30);
/// The interval at which the role checks whether one of its threads has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The reason for which requests cannot be answered any more.
#[derive(Debug, thiserror::Error)]
pub enum ModerationError {
    /// Deciding has failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The address or a thread is not available.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The API keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Records cannot be written, now or later.
    #[error("the records of requests cannot be written: {0}")]
    Record(#[from] CommitError),
    /// The secret of records is missing.
    #[error("{path:?} has no secret: write one, e.g. with `openssl rand -hex 32`")]
    NoRecordKey {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses a thread.
    #[error("a thread cannot be started: {0}; allow this process more threads")]
    Thread(#[from] std::io::Error),
}

/// The role that answers moderation requests.
pub struct Moderation {
    /// The configuration, policies, panel and brokers. The delivery is not used.
    pub score: Score,
    /// The address.
    pub address: SocketAddr,
}

impl Moderation {
    /// Answers requests until shutdown is requested, then the requests that were accepted, and writes their records.
    ///
    /// # Errors
    /// Returns an error if answering again cannot succeed, or if records cannot be written.
    pub fn run(self) -> Result<(), ModerationError> {
        let Self { score, address } = self;
        let (config, shutdown) = (Arc::clone(&score.config), score.shutdown.clone());
        let settings = &config.http.moderation;
        let health = score.health.of(ROLE);
        let keys = keys::open(&settings.keys)?;
        // It is dropped last, which delivers the remaining spans.
        let traces = Traces::open(&traces::Settings::from_config(&config)).map_err(ScoreError::from)?;
        let traces = Arc::new(traces);
        let recorder = match RecordKey::new(settings.record_key.expose()).filter(|_| settings.record) {
            Some(key) => Some(Recorder::start(&config, &score.connection, key, &health, &shutdown)?),
            None if settings.record => {
                return Err(ModerationError::NoRecordKey { path: settings.record_key_file.clone() });
            }
            None => None,
        };
        // Texts whose requests were given up take a place too, until the scorer has room and skips them.
        let (requests, received) = bounded(settings.queue);
        let policies = score.policies.clone();
        let Some(scorer) = RequestScorer::open(score, &health, received)? else { return Ok(()) };
        let deciding = Builder::new().name("requests".into()).spawn(move || {
            panics::mark_fatal(ROLE);
            scorer.run()
        })?;
        let handle = recorder.as_ref().map(Recorder::handle);
        let app = App::new(&config, policies, keys, requests, handle, Arc::clone(&traces));
        let finish = settings.deadline() + server::GRACE;
        let limits = Limits { connections: settings.max_connections, idle: IDLE, finish };
        let router = server::router(Arc::new(app));
        let server = Server::open("the moderation API", address, limits, router, std::future::pending())?;
        tracing::info!(address = %server.address(), "moderation over HTTP");
        health.set("listening", true);
        while !shutdown.wait_for(CHECK_INTERVAL)
            && !deciding.is_finished()
            && recorder.as_ref().is_none_or(|recorder| !recorder.has_ended())
        {}
        health.set("listening", false);
        // Requests in flight are answered first: the server has the only sender of requests.
        server.stop();
        let decided = join(deciding)?;
        recorder.map_or(Ok(()), Recorder::finish)?;
        Ok(decided?)
    }
}

/// Returns the result of a thread, or continues its panic.
fn join<T>(thread: JoinHandle<T>) -> Result<T, ModerationError> {
    thread.join().map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
}

/// The conditions of the role's readiness.
pub const CONDITIONS: &[&str] = &["experts loaded", "weights followed", "predictors usable", "listening"];

/// Sets the conditions of a role that has not begun.
pub fn register(health: &Health) {
    CONDITIONS.iter().for_each(|name| health.of(ROLE).set(name, false));
}
