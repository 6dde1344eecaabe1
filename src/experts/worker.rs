//! Worker threads: each owns its stations and takes work from the desk, so that one that hangs holds up nobody
//! else. One that does not come back is replaced; an expert that costs too many workers is disabled (`board`).

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::backend::onnx::session::guarded;
use super::backend::onnx::{Heads, RowResult, Spent, Station};
use super::backend::run::Call;
use super::breaker::longer;
use super::error::PanelError;
use super::fold::fold;
use super::load::{Stations, Want};
use super::panel::RunCost;
use super::reload::{Remake, mend};
use super::rules::Rules;
use super::scheduler::state::Errand;
use super::scheduler::{Desk, Job, RulesRow, Same, Work};
use crate::core::vote::Abstention;
use crate::{crash, panics};

/// The role that ends if one of a panel's threads panics: a text that it had in hand would never be answered.
pub(super) const ROLE: &str = "score";
/// How long the end waits for a worker that hangs.
const FAREWELL: Duration = Duration::from_secs(2);

/// Rules experts with their slots.
pub(super) type RulesBySlot = Arc<[(usize, Arc<Rules>)]>;

/// Loads the stations of one more worker.
pub(super) type Spare = Box<dyn Fn(&Desk) -> Result<Stations, PanelError> + Send + Sync>;

/// Threads that have been started.
type Threads = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// The threads.
pub(super) struct Workers {
    desk: Arc<Desk>,
    /// Disconnected when the last thread is done.
    ended: Receiver<()>,
    threads: Threads,
}

impl Workers {
    /// Starts one thread for each set of stations, the watch, and where something could not be loaded the one that
    /// tries again; `pause`: after that long at first.
    pub(super) fn start(
        desk: Arc<Desk>,
        stations: Vec<Stations>,
        rules: RulesBySlot,
        spare: Spare,
        pause: Duration,
        remake: Remake,
    ) -> Result<Self, PanelError> {
        let (alive, ended) = bounded::<()>(0);
        // From here on a failure ends what has been started.
        let threads = Threads::default();
        let workers = Self { desk: Arc::clone(&desk), ended, threads: Arc::clone(&threads) };
        for stations in stations {
            note(&threads, spawn(&desk, &rules, &alive, false, Box::new(move || Ok(stations)))?);
        }
        let failed = |error: std::io::Error| PanelError::Threads { reason: error.to_string() };
        if !desk.wants().iter().all(Want::is_none) {
            let (desk, alive) = (Arc::clone(&desk), alive.clone());
            let mending = move || {
                panics::mark_fatal(ROLE);
                let _alive = alive;
                mend(&desk, pause, &remake);
            };
            let mending = thread::Builder::new().name("expert-mend".into()).spawn(mending);
            note(&threads, mending.map_err(failed)?);
        }
        let spare = Arc::new(spare);
        let started = Arc::clone(&threads);
        let watch = move || {
            panics::mark_fatal(ROLE);
            while let Some(lost) = desk.watch() {
                for _ in 0..lost {
                    let (spare, known) = (Arc::clone(&spare), Arc::clone(&desk));
                    match spawn(
                        &desk,
                        &rules,
                        &alive,
                        true,
                        Box::new(move || patiently(&known, &spare, pause)),
                    ) {
                        Ok(thread) => note(&started, thread),
                        Err(error) => {
                            tracing::error!(%error, "a worker could not be replaced");
                            desk.leave();
                        }
                    }
                }
            }
        };
        let watch = thread::Builder::new().name("expert-watch".into()).spawn(watch);
        note(&threads, watch.map_err(failed)?);
        Ok(workers)
    }
}

impl Drop for Workers {
    /// Ends the threads. Where one hangs in a run they are left behind.
    fn drop(&mut self) {
        self.desk.close();
        if self.ended.recv_timeout(FAREWELL) != Err(RecvTimeoutError::Disconnected) {
            return;
        }
        // All are done, but what the runtime keeps for each thread goes after that: a process that ended meanwhile
        // could take the runtime away from under it.
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = thread.join();
        }
    }
}

fn note(threads: &Threads, thread: JoinHandle<()>) {
    threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
}

type Load = Box<dyn FnOnce() -> Result<Stations, PanelError> + Send>;

/// Starts a worker, in the place of one that hangs or not. It loads its stations itself, so that nobody waits for it.
fn spawn(
    desk: &Arc<Desk>,
    rules: &RulesBySlot,
    alive: &Sender<()>,
    replaces: bool,
    load: Load,
) -> Result<JoinHandle<()>, PanelError> {
    let (desk, rules, alive) = (Arc::clone(desk), Arc::clone(rules), alive.clone());
    let number = desk.sign_in(replaces);
    let run = move || {
        panics::mark_fatal(ROLE);
        let _alive = alive;
        let mut stations = match load() {
            Ok(stations) => stations,
            Err(error) => return tracing::error!(%error, "a worker could not load its experts"),
        };
        while let Some(job) = desk.next(number) {
            if !serve(&desk, number, &mut stations, &rules, job) {
                return;
            }
        }
    };
    thread::Builder::new()
        .name(format!("expert-{number}"))
        .spawn(run)
        .map_err(|error| PanelError::Threads { reason: error.to_string() })
}

/// Loads the stations of a worker that replaces another, again and again while that fails: memory may be short only for
/// the moment. There is one worker less meanwhile.
fn patiently(desk: &Desk, spare: &Spare, mut pause: Duration) -> Result<Stations, PanelError> {
    let mut error = match spare(desk) {
        Ok(stations) => return Ok(stations),
        Err(error) => error,
    };
    desk.leave();
    loop {
        let seconds = pause.as_secs();
        tracing::error!(%error, seconds, "a worker could not load its experts; tried again later");
        if desk.closes_within(pause) {
            return Err(error);
        }
        pause = longer(pause);
        match spare(desk) {
            Ok(stations) => {
                desk.join();
                return Ok(stations);
            }
            Err(another) => error = another,
        }
    }
}

/// Does a job; false where the worker is to end.
fn serve(desk: &Desk, worker: usize, stations: &mut Stations, rules: &RulesBySlot, job: Job) -> bool {
    crash::point("expert.serve");
    let Job { work, call, parts } = job;
    for (lane, station) in parts {
        if let Some(place) = stations.get_mut(lane) {
            *place = station;
        }
    }
    match work {
        Work::Batch { lane, rows, padded, without } => {
            let (rows, cost) = run(stations, lane, rows, padded, &without, &call);
            desk.land(worker, rows, cost)
        }
        Work::Rules { texts } => {
            let (rows, cost) = judge(rules, texts, &call);
            desk.land_rules(worker, rows, cost)
        }
    }
}

fn run(
    stations: &mut Stations,
    lane: usize,
    rows: Vec<Same>,
    padded: usize,
    without: &[(usize, Abstention)],
    call: &Call,
) -> (Vec<(Same, RowResult)>, RunCost) {
    let mut spent = Spent::default();
    let ids: Vec<&[u32]> = rows.iter().map(|run| run.ids.as_ref()).collect();
    let heads = rows.iter().any(|run| run.heads).then_some(Heads { without });
    let results = match stations.get_mut(lane) {
        Some(station) => station.run(&ids, heads, call, &mut spent),
        None => Vec::new(),
    };
    let tokens = stations.get(lane).is_some_and(Station::counts_tokens);
    let real: usize = ids.iter().map(|ids| ids.len()).sum();
    let cost = RunCost {
        texts: rows.len(),
        real_tokens: if tokens { real } else { 0 },
        padded_tokens: if tokens { padded } else { 0 },
        encoder: spent.encoder,
        experts: spent.experts,
    };
    (rows.into_iter().zip(results).collect(), cost)
}

/// What all rules say of texts.
fn judge(rules: &RulesBySlot, texts: Vec<Errand>, call: &Call) -> (Vec<RulesRow>, RunCost) {
    let mut experts: Vec<_> = rules.iter().map(|(slot, _)| (*slot, Duration::ZERO)).collect();
    let mut one = |Errand { question, text }: Errand| {
        let folded = guarded(|| Ok(fold(&text)));
        let truncated = folded.as_ref().is_ok_and(|folded| folded.truncated);
        let mut row = RowResult::default();
        for ((slot, rules), (_, took)) in rules.iter().zip(&mut experts) {
            let started = Instant::now();
            let found = match &folded {
                Ok(folded) => guarded(|| Ok(rules.judge(folded))).map_err(|fault| fault.reason),
                Err(fault) => Err(fault.reason),
            };
            let found = if call.over() { Err(Abstention::TimedOut) } else { found };
            let found = found.and_then(|found| found.ok_or(Abstention::NothingRead));
            row.outcomes.push((*slot, found.map(|found| (found.score, found.categories))));
            *took += started.elapsed();
        }
        (question, row, truncated)
    };
    let rows = texts.into_iter().map(&mut one).collect();
    (rows, RunCost { experts, ..RunCost::default() })
}
