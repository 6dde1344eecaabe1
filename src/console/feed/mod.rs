//! The state that the pages show, read from the topics: the last hours, in bounded memory.
//!
//! One thread follows decisions, dead letters, labels and predictors without a group, so that a console takes nothing from
//! the roles and commits nothing. Another asks the brokers for the lag of the roles' groups, and reads metrics. Handlers
//! read the state that both write.

mod experts;
mod follow;
mod gauges;
mod lag;
mod letters;
mod minutes;
mod recent;
mod rounds;
mod views;
mod why;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use super::server::ConsoleError;
use crate::codec::Schemas;
use crate::config::{Config, Live};
use crate::core::event::Millis;
use crate::core::label::Label;
use crate::kafka::{Connection, Consumed, SourceError};
use crate::panics;
use crate::registry::Registry;
use experts::Experts;
use gauges::Gauges;
use lag::Lags;
use letters::Letters;
use minutes::Minutes;
use recent::{Decisions, Predictors, Recent};
use rounds::Rounds;
pub use views::routes;

/// The number of policies that are shown. A configuration has fewer.
const MAX_POLICIES: usize = 64;
/// The number of decisions that are fetched from the brokers at a time.
const MAX_FETCHES: usize = 2;
/// The pause after a turn that has found nothing.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause after an error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The interval at which lags and metrics are read.
const LAG_INTERVAL: Duration = Duration::from_secs(4);
/// The interval at which the topics are asked for new partitions.
const GROW_INTERVAL: Duration = Duration::from_secs(60);

/// Returns the time, in milliseconds since 1970.
fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The connection to the brokers, as the pages show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Broker {
    /// `true` if the topics are followed and the brokers answer.
    pub ok: bool,
    /// The last error.
    pub error: Option<String>,
    /// The time since which it has been so.
    pub since: Millis,
}

/// All that the pages show.
struct State {
    /// The errors of the two threads: following, and asking for lags. `None` before the first attempt has ended.
    connected: [Option<Result<(), String>>; 2],
    broker: Broker,
    started: Millis,
    minutes: Minutes,
    decisions: Decisions,
    rounds: Rounds,
    experts: Experts,
    letters: Letters,
    predictors: Predictors,
    lags: Option<Lags>,
    gauges: Gauges,
    /// The decisions and predictors that could not be decoded.
    unreadable: u64,
}

impl State {
    fn new(hours: u32) -> Self {
        Self {
            connected: [None, None],
            broker: Broker { since: now(), ..Broker::default() },
            started: now(),
            minutes: Minutes::new(hours),
            decisions: Decisions::default(),
            rounds: Rounds::default(),
            experts: Experts::new(hours),
            letters: Letters::default(),
            predictors: Predictors::default(),
            lags: None,
            gauges: Gauges::default(),
            unreadable: 0,
        }
    }

    fn decision(&mut self, recent: Recent, now: Millis) {
        let time = recent.time.unwrap_or(now);
        self.minutes.decision(recent.decision.action, time, now);
        self.experts.decision(&recent.decision, time, now);
        self.rounds.decision(&recent.decision);
        self.decisions.add(recent);
    }

    fn letter(&mut self, record: &Consumed, now: Millis) {
        // A dead letter has the timestamp of its original.
        if let Some(minute) = self.minutes.at(record.timestamp.unwrap_or(now), now) {
            minute.letters += 1;
        }
        self.letters.add(record);
    }

    fn labels(&mut self, labels: &[(Option<f64>, Label)], time: Option<Millis>, now: Millis) {
        if let Some(minute) = self.minutes.at(time.unwrap_or(now), now) {
            minute.labels += labels.len() as u64;
        }
        for (value, label) in labels {
            self.rounds.label(label, *value, time);
        }
    }

    /// Sets the outcome of one thread.
    fn connected(&mut self, thread: usize, outcome: Result<(), String>) {
        self.connected[thread] = Some(outcome);
        let ok = self.connected.iter().all(|outcome| matches!(outcome, Some(Ok(()))));
        let error = self.connected.iter().find_map(|outcome| outcome.as_ref()?.as_ref().err().cloned());
        let since = if ok == self.broker.ok { self.broker.since } else { now() };
        self.broker = Broker { ok, error, since };
    }
}

/// The state that the pages read.
pub struct Feed {
    state: Mutex<State>,
    version: watch::Sender<u64>,
    /// Each fetch of a decision that is no longer in memory opens a client.
    fetches: Arc<Semaphore>,
}

impl Feed {
    /// Creates an empty state.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let state = State::new(config.console.history_hours);
        Self {
            state: Mutex::new(state),
            version: watch::Sender::new(0),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
        }
    }

    /// Returns the number of the state, which grows with each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Returns the connection to the brokers.
    #[must_use]
    pub fn broker(&self) -> Broker {
        self.state().broker.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn connected(&self, thread: usize, outcome: Result<(), SourceError>) {
        let before = self.broker();
        self.state().connected(thread, outcome.map_err(|error| error.to_string()));
        if self.broker() != before {
            self.changed();
        }
    }
}

/// The threads that write the state. They end when this is dropped.
pub struct Threads {
    stop: Vec<mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts the threads.
    ///
    /// # Errors
    /// Returns an error if the system refuses a thread, or if the settings of registry or metrics cannot be used.
    pub fn start(
        config: &Arc<Config>,
        policies: &Live,
        connection: &Connection,
        feed: &Arc<Feed>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, ConsoleError> {
        let registry = Registry::from_config(&config.registry)?;
        let gauges = gauges::Reader::new(metrics, &config.console.metrics).map_err(ConsoleError::Metrics)?;
        let mut threads = Self { stop: Vec::new(), threads: Vec::new() };
        let mut reader = follow::Reader::new(config, policies, connection);
        let own = Arc::clone(feed);
        threads
            .spawn("console-topics", move |stop| follow_topics(&mut reader, &own, registry.as_ref(), stop))?;
        let (mut watcher, own) = (lag::Watcher::new(config, connection), Arc::clone(feed));
        threads.spawn("console-lag", move |stop| watch_lag(&mut watcher, &gauges, &own, stop))?;
        Ok(threads)
    }

    fn spawn(
        &mut self,
        name: &str,
        mut work: impl FnMut(&mpsc::Receiver<()>) + Send + 'static,
    ) -> Result<(), ConsoleError> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // A console must not end the roles of its process. A panic is logged, and the thread continues.
            while panics::survive(|| work(&stopped)).is_err() && !stops(&stopped, RETRY_PAUSE) {}
        })?;
        self.stop.push(stop);
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // the hook has printed its panic
        }
    }
}

/// Waits. Returns `true` if the thread is to stop.
fn stops(stop: &mpsc::Receiver<()>, pause: Duration) -> bool {
    stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout)
}

fn follow_topics(
    reader: &mut follow::Reader,
    feed: &Feed,
    registry: Option<&Registry>,
    stop: &mpsc::Receiver<()>,
) {
    let never = || false;
    let waiting = registry.map(|registry| registry.waiting(&never));
    let schemas = waiting.as_ref().map(|waiting| waiting as &dyn Schemas);
    let mut grown = Instant::now();
    loop {
        let turned = reader.open().and_then(|()| {
            if grown.elapsed() >= GROW_INTERVAL {
                grown = Instant::now();
                reader.grow()?;
            }
            reader.turn(feed, schemas)
        });
        let pause = match &turned {
            Ok(true) => Duration::ZERO,
            Ok(false) => PAUSE,
            Err(_) => RETRY_PAUSE,
        };
        if matches!(turned, Ok(true)) {
            feed.changed();
        }
        feed.connected(0, turned.map(drop));
        if stops(stop, pause) {
            return;
        }
    }
}

fn watch_lag(watcher: &mut lag::Watcher, gauges: &gauges::Reader, feed: &Feed, stop: &mpsc::Receiver<()>) {
    loop {
        let (lags, gauges) = (watcher.ask(), gauges.read());
        {
            let mut state = feed.state();
            state.gauges = gauges;
            if let Ok(lags) = &lags {
                state.lags = Some(lags.clone());
            }
        }
        feed.changed();
        feed.connected(1, lags.map(drop));
        if stops(stop, LAG_INTERVAL) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_is_there_when_both_threads_say_so() {
        let mut state = State::new(1);
        assert!(!state.broker.ok);
        state.connected(0, Ok(()));
        assert!(!state.broker.ok, "the other has not answered yet");
        state.connected(1, Ok(()));
        assert!(state.broker.ok);
        state.connected(1, Err("no answer".into()));
        assert_eq!((state.broker.ok, state.broker.error.as_deref()), (false, Some("no answer")));
        state.connected(1, Ok(()));
        assert_eq!((state.broker.ok, state.broker.error.as_deref()), (true, None));
    }
}
