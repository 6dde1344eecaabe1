//! The desk: where texts wait for workers, and what is being run.
//!
//! All of it lies behind one lock. Workers take batches themselves as soon as they are free, so none waits for
//! anybody while there is work; a batch is formed from what waits at that moment. A text that waits or runs
//! already is not run again for another who asks: both get the same answer, as does who asks later, from the
//! cache.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ort::session::RunOptions;

use super::batch::Limits;
use super::cache::Cache;
use super::panel::Run;
use super::question::Question;
use super::queue::Queue;
use super::standing::Standing;
use super::station::{Call, RowResult};
use crate::core::vote::Abstention;

/// Texts that a rules job holds at most.
const RULES_TEXTS: usize = 32;
/// How long a run that was stopped may take to come back. Then its worker is lost.
const GRACE: Duration = Duration::from_secs(1);

/// What is one and the same run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Same {
    pub(super) lane: usize,
    pub(super) ids: Arc<[u32]>,
    /// Whether an encoder's heads are asked as well.
    pub(super) heads: bool,
}

/// A part of a question for a lane: the run, and the length that it is padded to, alone.
pub(super) type Part = (Same, usize);

/// A question as it comes to the desk.
pub(super) struct Entry {
    pub(super) question: Arc<Question>,
    pub(super) parts: Vec<Part>,
    /// For the rules, where they are asked.
    pub(super) text: Option<Arc<str>>,
}

/// Texts for a rules expert, by its number.
struct Errand {
    rules: usize,
    question: Arc<Question>,
    text: Arc<str>,
}

/// What a worker is to do.
pub(super) enum Work {
    /// A batch of texts for a lane.
    Batch { lane: usize, rows: Vec<Same>, padded: usize },
    /// Texts for the rules of that number.
    Rules { rules: usize, texts: Vec<(Arc<Question>, Arc<str>)> },
}

/// What rules say of a text, and whether they read only its beginning.
pub(super) type RulesRow = (Arc<Question>, RowResult, bool);

/// Work with what stops it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) call: Arc<Call>,
}

/// What a worker is at.
struct Running {
    call: Arc<Call>,
    rows: Vec<Same>,
    stopped: Option<Instant>,
}

/// What the desk knows of a lane.
pub(super) struct Facts {
    /// For people.
    pub(super) name: String,
    pub(super) limits: Limits,
    /// The experts that vote at its end.
    pub(super) slots: Vec<usize>,
    /// How long it is left alone at first where it fails.
    pub(super) pause: Duration,
}

/// A lane, seen from the desk.
struct Place {
    name: String,
    slots: Vec<usize>,
    queue: Queue<Same, Instant>,
    standing: Standing,
}

impl Place {
    /// What is said of a text that does not get to run.
    fn abstention(&self, reason: Abstention) -> RowResult {
        RowResult { outcomes: self.slots.iter().map(|&slot| (slot, Err(reason))).collect(), features: None }
    }
}

struct State {
    lanes: Vec<Place>,
    errands: VecDeque<Errand>,
    /// Who waits for a run that waits or is under way.
    askers: HashMap<Same, Vec<Arc<Question>>>,
    /// By deadline, then by number.
    open: BTreeMap<(Instant, u64), Arc<Question>>,
    entered: u64,
    /// By worker.
    running: Vec<Option<Running>>,
    closed: bool,
}

/// The desk.
pub(super) struct Desk {
    state: Mutex<State>,
    /// Something to do, for workers.
    work: Condvar,
    /// Something to watch.
    watched: Condvar,
    /// Rules experts.
    rules: usize,
    cache: Cache,
}

impl Desk {
    /// A desk for lanes, so many rules experts, and a cache.
    pub(super) fn new(lanes: impl IntoIterator<Item = Facts>, rules: usize, cache: Cache) -> Self {
        let place = |Facts { name, limits, slots, pause }| {
            let (queue, standing) = (Queue::new(limits), Standing::new(pause));
            Place { name, slots, queue, standing }
        };
        let state = State {
            lanes: lanes.into_iter().map(place).collect(),
            errands: VecDeque::new(),
            askers: HashMap::new(),
            open: BTreeMap::new(),
            entered: 0,
            running: Vec::new(),
            closed: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new(), watched: Condvar::new(), rules, cache }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parts that the rules add to a question.
    pub(super) fn rules(&self) -> usize {
        self.rules
    }

    /// Questions come. They are worked on by `due`, or earlier in full batches.
    pub(super) fn enter(&self, entries: Vec<Entry>, due: Instant) {
        let mut state = self.state();
        let (one, now) = (entries.len() == 1, Instant::now());
        for Entry { question, parts, text } in entries {
            if parts.is_empty() && (text.is_none() || self.rules == 0) {
                question.close();
                continue;
            }
            for (run, length) in parts {
                if let Some(result) = self.cache.get(&run) {
                    question.put(&result, false, true);
                    continue;
                }
                if let Some(askers) = state.askers.get_mut(&run) {
                    askers.push(Arc::clone(&question));
                    continue;
                }
                let Some(lane) = state.lanes.get_mut(run.lane) else {
                    continue;
                };
                if let Err(reason) = lane.standing.admit(now) {
                    question.put(&lane.abstention(reason), false, false);
                    continue;
                }
                lane.queue.push(length, due, run.clone());
                state.askers.insert(run, vec![Arc::clone(&question)]);
            }
            if let Some(text) = text {
                let errand =
                    |rules| Errand { rules, question: Arc::clone(&question), text: Arc::clone(&text) };
                state.errands.extend((0..self.rules).map(errand));
            }
            if !question.is_open() {
                continue;
            }
            state.entered += 1;
            let number = state.entered;
            state.open.insert((question.deadline, number), question);
            if state.open.first_key_value().is_some_and(|((_, first), _)| *first == number) {
                self.watched.notify_one();
            }
        }
        drop(state);
        if one { self.work.notify_one() } else { self.work.notify_all() }
    }

    /// A new worker's number.
    pub(super) fn sign_in(&self) -> usize {
        let mut state = self.state();
        state.running.push(None);
        state.running.len() - 1
    }

    /// The next thing to do; waits for it. None: no more.
    pub(super) fn next(&self, worker: usize) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            if let Some((work, deadline)) = state.pick(now) {
                if state.lanes.iter().any(|lane| lane.queue.due().is_some()) || !state.errands.is_empty() {
                    self.work.notify_one();
                }
                let (rows, options) = match &work {
                    Work::Batch { rows, .. } => (rows.clone(), RunOptions::new().ok()),
                    Work::Rules { .. } => (Vec::new(), None),
                };
                let call = Arc::new(Call { deadline, options });
                if let Some(place) = state.running.get_mut(worker) {
                    *place = Some(Running { call: Arc::clone(&call), rows, stopped: None });
                }
                return Some(Job { work, call });
            }
            let due = state.lanes.iter().filter_map(|lane| lane.queue.due()).min();
            state = match due {
                Some(due) => {
                    let patience = due.saturating_duration_since(now);
                    self.work.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// What came of a batch. False: the worker was given up meanwhile, and is to end.
    pub(super) fn land(&self, worker: usize, rows: Vec<(Same, RowResult)>, cost: Run) -> bool {
        let mut state = self.state();
        let Some(running) = state.running.get_mut(worker).and_then(Option::take) else {
            return false;
        };
        if running.stopped.is_none() {
            if let Some(first) = rows.iter().find_map(|(run, _)| state.askers.get(run)?.first()) {
                first.asker.tell(cost);
            }
            state.judge(&rows);
            for (run, result) in rows {
                for (place, question) in state.askers.remove(&run).unwrap_or_default().iter().enumerate() {
                    question.put(&result, false, place > 0);
                }
                self.cache.keep(run, result);
            }
            state.forget_answered();
        }
        true
    }

    /// What came of a rules job, each with whether only the beginning was read.
    pub(super) fn land_rules(&self, worker: usize, rows: Vec<RulesRow>, cost: Run) -> bool {
        let mut state = self.state();
        if let Some((first, ..)) = rows.first() {
            first.asker.tell(cost);
        }
        for (question, result, truncated) in rows {
            question.put(&result, truncated, false);
        }
        state.forget_answered();
        state.running.get_mut(worker).and_then(Option::take).is_some()
    }

    /// By lane: its experts' slots, and why it is left alone where it is.
    pub(super) fn standings(&self) -> Vec<(Vec<usize>, Option<Abstention>)> {
        self.state().lanes.iter().map(|lane| (lane.slots.clone(), lane.standing.down())).collect()
    }

    /// Ends everything: workers and the watch are told that there is no more to do.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.work.notify_all();
        self.watched.notify_all();
    }

    /// Watches over deadlines: questions are answered with what is known by then, runs are stopped. Gives the
    /// number of workers that did not come back; none: no more to watch.
    pub(super) fn watch(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            state.expire(now);
            let lost = state.stop(now);
            if lost > 0 {
                return Some(lost);
            }
            let grace = state.running.iter().flatten().filter_map(|run| Some(run.stopped? + GRACE)).min();
            let next = state.open.first_key_value().map(|((deadline, _), _)| *deadline);
            state = match grace.into_iter().chain(next).min() {
                Some(next) => {
                    let patience = next.saturating_duration_since(now);
                    self.watched.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.watched.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl State {
    /// The next work, with the time after which nobody waits for it.
    fn pick(&mut self, now: Instant) -> Option<(Work, Instant)> {
        if let Some(first) = self.errands.front() {
            let rules = first.rules;
            let mut texts = Vec::new();
            while texts.len() < RULES_TEXTS
                && let Some(errand) = self.errands.pop_front_if(|errand| errand.rules == rules)
            {
                texts.push((errand.question, errand.text));
            }
            texts.iter().for_each(|(question, _)| question.begin(now));
            let deadline = texts.iter().map(|(question, _)| question.deadline).max()?;
            return Some((Work::Rules { rules, texts }, deadline));
        }
        let mut lanes: Vec<(Instant, usize)> =
            self.lanes.iter().enumerate().filter_map(|(n, lane)| Some((lane.queue.due()?, n))).collect();
        lanes.sort_unstable();
        for (_, lane) in lanes {
            let Some(batch) = self.lanes.get_mut(lane).and_then(|lane| lane.queue.take(now)) else {
                continue;
            };
            let askers = batch.items.iter().filter_map(|run| self.askers.get(run)).flatten();
            askers.clone().for_each(|question| question.begin(now));
            let deadline = askers.map(|question| question.deadline).max()?;
            return Some((Work::Batch { lane, padded: batch.padded(), rows: batch.items }, deadline));
        }
        None
    }

    /// Questions that are over are answered with what is known, and what only they wait for does not run.
    fn expire(&mut self, now: Instant) {
        let mut any = false;
        while let Some(first) = self.open.first_entry()
            && first.key().0 <= now
        {
            first.remove().close();
            any = true;
        }
        if !any {
            return;
        }
        self.askers.retain(|_, askers| askers.iter().any(|question| question.is_open()));
        let askers = &self.askers;
        for lane in &mut self.lanes {
            lane.queue.retain(|run| askers.contains_key(run));
        }
        self.errands.retain(|errand| errand.question.is_open());
    }

    /// Stops runs that nobody waits for any more. Gives how many of those stopped before never came back.
    fn stop(&mut self, now: Instant) -> usize {
        let (mut lost, mut hung) = (0, Vec::new());
        for place in &mut self.running {
            let Some(run) = place else { continue };
            match run.stopped {
                None if run.call.deadline <= now => {
                    if let Some(options) = &run.call.options {
                        // It stops at its next node.
                        let _ = options.terminate();
                    }
                    run.stopped = Some(now);
                    hung.extend(run.rows.first().map(|run| run.lane));
                    run.rows.iter().for_each(|run| drop(self.askers.remove(run)));
                }
                Some(stopped) if stopped + GRACE <= now => {
                    *place = None;
                    lost += 1;
                }
                _ => {}
            }
        }
        hung.into_iter().for_each(|lane| self.fail(lane, Abstention::TimedOut, now));
        lost
    }

    /// What a batch says of its lane: some vote that it is well, none that it failed. Numbers that are none are
    /// the text's fault as likely as the graph's.
    fn judge(&mut self, rows: &[(Same, RowResult)]) {
        let Some((Same { lane, .. }, _)) = rows.first() else {
            return;
        };
        let outcomes = || rows.iter().flat_map(|(_, result)| &result.outcomes);
        let voted = outcomes().any(|(_, outcome)| outcome.is_ok())
            || rows.iter().any(|(_, result)| result.features.is_some());
        let broken = |reason: &Abstention| matches!(reason, Abstention::Failed | Abstention::WrongShape);
        let reason = outcomes().filter_map(|(_, outcome)| outcome.as_ref().err().copied()).find(broken);
        match reason {
            _ if voted => {
                if let Some(place) = self.lanes.get_mut(*lane)
                    && place.standing.succeeded()
                {
                    tracing::info!(experts = place.name, "answers again");
                }
            }
            Some(reason) => self.fail(*lane, reason, Instant::now()),
            None => {}
        }
    }

    /// A lane has failed. Where that makes it down, what waits there is answered.
    fn fail(&mut self, lane: usize, reason: Abstention, now: Instant) {
        let Some(place) = self.lanes.get_mut(lane) else {
            return;
        };
        let Some(pause) = place.standing.failed(reason, now) else {
            return;
        };
        let (experts, seconds) = (place.name.as_str(), pause.as_secs());
        tracing::error!(
            experts,
            reason = reason.word(),
            seconds,
            "left alone for a while; abstains meanwhile"
        );
        let result = place.abstention(reason);
        for run in place.queue.clear() {
            for question in self.askers.remove(&run).unwrap_or_default() {
                question.put(&result, false, false);
            }
        }
        self.forget_answered();
    }

    fn forget_answered(&mut self) {
        self.open.retain(|_, question| question.is_open());
    }
}
