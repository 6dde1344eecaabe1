//! Health over HTTP: `/livez`, `/readyz` (`?verbose`) and `/metrics`.
//!
//! `/livez` succeeds while the process runs, also without a broker, because a restart would not fix that. `/readyz` succeeds if
//! every condition holds. A condition belongs to a role, and conditions of a role that has ended never hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use super::descriptors;
pub use super::http::{Limits, ServeError, Server};
use super::metrics::{COMMIT_STALLED, CONDITION};

/// The interval at which histograms are drained, also without a scraper.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default, PartialEq)]
struct Condition {
    holds: bool,
    note: String,
    /// The time from which the condition no longer holds.
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
    /// The roles that have ended.
    ended: BTreeSet<&'static str>,
    /// The time since which records of each role wait for a commit.
    waits: BTreeMap<&'static str, Option<Instant>>,
}

/// The conditions of readiness. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health {
    conditions: Arc<Mutex<Conditions>>,
    /// The role whose conditions this handle sets. If empty, they belong to no role.
    role: &'static str,
}

impl Health {
    /// Creates conditions that do not hold yet. Without any condition the process is ready.
    #[must_use]
    pub fn new(names: &[&'static str]) -> Self {
        let health = Self::default();
        names.iter().for_each(|name| health.set(name, false));
        health
    }

    /// Returns a handle to the same conditions that sets those of `role`. They are named `role: name`.
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
            return; // roles set their conditions in every iteration of their loops
        }
        CONDITION.with([&name]).set(f64::from(u8::from(condition.holds())));
        conditions.by_name.insert(name, condition);
    }

    /// Sets a condition. An unknown name adds one.
    pub fn set(&self, name: &'static str, holds: bool) {
        self.note(name, holds, "");
    }

    /// Sets a condition that holds until `until`, without a further call: the caller may be blocked when it ends. With
    /// `None` it does not hold.
    pub fn set_until(&self, name: &'static str, until: Option<Instant>) {
        self.put(name, Condition { holds: until.is_some(), note: String::new(), until });
    }

    /// Sets the time since which records of this handle's role wait for a commit, or `None` if none wait. The condition
    /// `name` holds until they have waited for `bound`. The gauge is computed when it is read, because the role may be
    /// blocked.
    pub fn waits(&self, name: &'static str, since: Option<Instant>, bound: Duration) {
        let mut conditions = self.lock();
        if !conditions.ended.contains(self.role) {
            conditions.waits.insert(self.role, since);
        }
        drop(conditions);
        let late = |_| format!("records wait, and none have been committed for {} s", bound.as_secs_f64());
        let note = since.map(late).unwrap_or_default();
        self.put(name, Condition { holds: true, note, until: since.map(|since| since + bound) });
        self.set_gauges();
    }

    /// Returns the time since which records of this handle's role wait for a commit.
    #[must_use]
    pub fn waits_since(&self) -> Option<Instant> {
        self.lock().waits.get(self.role).copied().flatten()
    }

    /// Sets a condition with a note for the operator, e.g. `41 % of the ledger read`.
    pub fn note(&self, name: &'static str, holds: bool, note: &str) {
        self.put(name, Condition { holds, note: note.to_owned(), until: None });
    }

    /// Removes a condition. Its gauge stays at 1.
    pub fn forget(&self, name: &'static str) {
        let mut conditions = self.lock();
        let name = self.name(name);
        if !conditions.ended.contains(self.role) && conditions.by_name.remove(&name).is_some() {
            CONDITION.with([&name]).set(1.0);
        }
    }

    /// Ends this handle's role. From then on none of its conditions holds.
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

    /// Sets the gauges, because the time of a condition may have passed since it was set.
    fn set_gauges(&self) {
        let conditions = self.lock();
        for (name, condition) in &conditions.by_name {
            CONDITION.with([name]).set(f64::from(u8::from(condition.holds())));
        }
        for (role, since) in &conditions.waits {
            COMMIT_STALLED.with([role]).set(since.map_or(0.0, |since| since.elapsed().as_secs_f64()));
        }
    }

    /// Returns `true` if every condition holds.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.lock().by_name.values().all(Condition::holds)
    }

    /// Returns the status and the text of `/readyz`: the conditions that do not hold or, if `verbose`, all of them.
    fn report(&self, verbose: bool) -> (StatusCode, String) {
        let conditions = self.lock().by_name.clone();
        let ready = conditions.values().all(Condition::holds);
        let mut text = String::new();
        for (name, condition) in conditions.iter().filter(|(_, found)| verbose || !found.holds()) {
            // The note of a condition with an end applies from then on.
            let note = if condition.until.is_some() && condition.holds() { "" } else { &condition.note };
            let mark = if condition.holds() { '+' } else { '-' };
            let colon = if note.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "[{mark}] {name}{colon}{note}"); // writing to a String cannot fail
        }
        text.push_str(if ready { "ready\n" } else { "not ready\n" });
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
    }
}

async fn readyz(
    State((health, _)): State<(Health, PrometheusHandle)>,
    RawQuery(query): RawQuery,
) -> Response {
    let verbose = query.is_some_and(|query| query.split('&').any(|word| word.starts_with("verbose")));
    health.report(verbose).into_response()
}

async fn metrics(State((health, handle)): State<(Health, PrometheusHandle)>) -> Response {
    health.set_gauges();
    descriptors::gauge();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response()
}

/// Drains the histograms, and warns if file descriptors run short.
async fn upkeep(handle: PrometheusHandle) {
    let (mut ticks, mut reported) = (tokio::time::interval(UPKEEP_INTERVAL), false);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
        let short = descriptors::gauge();
        if short && !reported {
            tracing::warn!(
                "more than four fifths of the file descriptors are in use: raise the limit, or find out which connections hold them"
            );
        }
        reported = short;
    }
}

impl Server {
    /// Serves `health` and the metrics of `handle` on `address`, within `limits`. Port 0 chooses a free port.
    ///
    /// # Errors
    /// Returns an error if the address is not available or the system refuses a thread.
    pub fn start(
        address: SocketAddr,
        limits: Limits,
        health: Health,
        handle: PrometheusHandle,
    ) -> Result<Self, ServeError> {
        let router = Router::new()
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state((health, handle.clone()));
        Self::open("health and metrics", address, limits, router, upkeep(handle))
    }
}
