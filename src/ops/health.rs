//! Health over HTTP: `/livez`, `/readyz` (`?verbose`) and `/metrics`.
//!
//! Alive means that the process runs, whatever the broker does: restarting helps against nothing that is seen
//! here. Ready means that every condition holds. Conditions belong to a role; those of a role that has ended never hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use thiserror::Error;
use tokio::sync::watch;

pub use super::http::Limits;
use super::metrics::{COMMIT_STALLED, CONDITION};
use super::{descriptors, http};
use crate::panics;

/// How often histograms are drained where nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default, PartialEq)]
struct Condition {
    holds: bool,
    note: String,
    /// When it ends by itself.
    until: Option<Instant>,
}

impl Condition {
    fn holds(&self) -> bool {
        self.holds && self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// The conditions of a process.
#[derive(Debug, Default)]
struct Conditions {
    by_name: BTreeMap<String, Condition>,
    /// Roles that have ended.
    ended: BTreeSet<&'static str>,
    /// The time since which each role waits for a commit.
    waits: BTreeMap<&'static str, Option<Instant>>,
}

/// The conditions of readiness. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health {
    conditions: Arc<Mutex<Conditions>>,
    /// The role whose conditions this handle sets; empty: those of no role.
    role: &'static str,
}

impl Health {
    /// Conditions that do not hold yet. Without any: ready.
    #[must_use]
    pub fn new(names: &[&'static str]) -> Self {
        let health = Self::default();
        names.iter().for_each(|name| health.set(name, false));
        health
    }

    /// A handle on the same conditions that sets those of `role`. They are named `role: name`.
    #[must_use]
    pub fn of(&self, role: &'static str) -> Self {
        Self { conditions: Arc::clone(&self.conditions), role }
    }

    fn lock(&self) -> MutexGuard<'_, Conditions> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, name: &str) -> String {
        if self.role.is_empty() { name.to_owned() } else { format!("{}: {name}", self.role) }
    }

    fn put(&self, name: &'static str, condition: Condition) {
        let mut conditions = self.lock();
        if conditions.ended.contains(self.role) {
            return;
        }
        let name = self.name(name);
        let same = |known: &Condition| *known == condition && condition.until.is_none();
        if conditions.by_name.get(&name).is_some_and(same) {
            return; // said on every turn of a loop
        }
        CONDITION.with([&name]).set(f64::from(u8::from(condition.holds())));
        conditions.by_name.insert(name, condition);
    }

    /// Says whether a condition holds; an unknown name is a new condition.
    pub fn set(&self, name: &'static str, holds: bool) {
        self.note(name, holds, "");
    }

    /// The same of a condition that holds until then, whoever is still there to take it back: what says it may
    /// itself be waiting for what it speaks of. None: it does not hold.
    pub fn set_until(&self, name: &'static str, until: Option<Instant>) {
        self.put(name, Condition { holds: until.is_some(), note: String::new(), until });
    }

    /// Says since when records wait for a commit of this handle's role, which the condition `name` allows for as long
    /// as `bound`. `None`: nothing waits. The role may itself be waiting for the brokers, so the gauge is computed when
    /// it is read.
    pub fn waits(&self, name: &'static str, since: Option<Instant>, bound: Duration) {
        self.lock().waits.insert(self.role, since);
        let late = |_| format!("records wait, and none have been committed for {} s", bound.as_secs_f64());
        let note = since.map(late).unwrap_or_default();
        self.put(name, Condition { holds: true, note, until: since.map(|since| since + bound) });
        self.gauge();
    }

    /// The time since which records wait for a commit of this handle's role.
    #[must_use]
    pub fn waits_since(&self) -> Option<Instant> {
        self.lock().waits.get(self.role).copied().flatten()
    }

    /// The same with a few words for the operator, e.g. `41 % of the ledger read`.
    pub fn note(&self, name: &'static str, holds: bool, note: &str) {
        self.put(name, Condition { holds, note: note.to_owned(), until: None });
    }

    /// A condition that there is no more; its gauge stays at 1.
    pub fn forget(&self, name: &'static str) {
        let mut conditions = self.lock();
        let name = self.name(name);
        if !conditions.ended.contains(self.role) && conditions.by_name.remove(&name).is_some() {
            CONDITION.with([&name]).set(1.0);
        }
    }

    /// Ends this handle's role: from now on none of its conditions holds, and nothing changes that.
    pub fn end(&self) {
        let mut conditions = self.lock();
        if !conditions.ended.insert(self.role) {
            return;
        }
        conditions.waits.insert(self.role, None);
        let role = self.name("");
        for (name, condition) in conditions.by_name.iter_mut().filter(|(name, _)| name.starts_with(&role)) {
            *condition = Condition { holds: false, note: format!("{} has stopped", self.role), until: None };
            CONDITION.with([name]).set(0.0);
        }
    }

    /// Brings the gauges up to date: a condition's time may be over with nobody there to say so.
    fn gauge(&self) {
        let conditions = self.lock();
        for (name, condition) in &conditions.by_name {
            CONDITION.with([name]).set(f64::from(u8::from(condition.holds())));
        }
        for (role, since) in &conditions.waits {
            COMMIT_STALLED.with([role]).set(since.map_or(0.0, |since| since.elapsed().as_secs_f64()));
        }
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.lock().by_name.values().all(Condition::holds)
    }

    /// Status and text of `/readyz`: the conditions that do not hold, or all of them.
    fn report(&self, verbose: bool) -> (StatusCode, String) {
        let conditions = self.lock().by_name.clone();
        let ready = conditions.values().all(Condition::holds);
        let mut text = String::new();
        for (name, condition) in conditions.iter().filter(|(_, found)| verbose || !found.holds()) {
            // The reason for which a condition has ended is of no use before that.
            let note = if condition.until.is_some() && condition.holds() { "" } else { &condition.note };
            let mark = if condition.holds() { '+' } else { '-' };
            let colon = if note.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "[{mark}] {name}{colon}{note}"); // a String takes everything
        }
        text.push_str(if ready { "ready\n" } else { "not ready\n" });
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
    }
}

/// Why health is not served.
#[derive(Debug, Error)]
pub enum HealthError {
    /// The address cannot be had.
    #[error("health and metrics cannot be served on {address}: {source}; choose another address")]
    Address {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses a thread or a runtime.
    #[error("health and metrics cannot be served: {0}")]
    Thread(#[from] io::Error),
}

/// Serves health until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

async fn readyz(
    State((health, _)): State<(Health, PrometheusHandle)>,
    RawQuery(query): RawQuery,
) -> Response {
    let verbose = query.is_some_and(|query| query.split('&').any(|word| word.starts_with("verbose")));
    health.report(verbose).into_response()
}

async fn metrics(State((health, handle)): State<(Health, PrometheusHandle)>) -> Response {
    health.gauge();
    descriptors::gauge();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response()
}

async fn serve(
    listener: tokio::net::TcpListener,
    health: Health,
    handle: PrometheusHandle,
    limits: Limits,
    stop: watch::Receiver<()>,
) {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state((health, handle.clone()));
    let upkeep = async {
        let (mut ticks, mut told) = (tokio::time::interval(UPKEEP), false);
        loop {
            ticks.tick().await;
            handle.run_upkeep();
            let short = descriptors::gauge();
            if short && !told {
                tracing::warn!(
                    "more than four fifths of the file descriptors are in use: raise the limit, or see what they are"
                );
            }
            told = short;
        }
    };
    tokio::select! {
        () = http::serve(listener, router, limits, stop) => {}
        () = upkeep => {}
    }
}

impl Server {
    /// Serves `health` and the metrics of `handle` on `address`, within `limits`; port 0 takes a free one.
    ///
    /// # Errors
    /// Where the address cannot be had or the system refuses a thread.
    pub fn start(
        address: SocketAddr,
        limits: Limits,
        health: Health,
        handle: PrometheusHandle,
    ) -> Result<Self, HealthError> {
        let refused = |source| HealthError::Address { address, source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = watch::channel(());
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(move || {
            panics::mark_fatal("process");
            runtime.block_on(serve(listener, health, handle, limits, stopped));
        })?;
        Ok(Self { address: bound, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops, after answers under way, and waits until the address is free.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic has been printed
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
