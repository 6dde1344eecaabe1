//! The desk: where texts wait for workers, and what is being run.
//!
//! All of it lies behind one lock. Workers take batches themselves as soon as they are free, so none waits for
//! anybody while there is work; a batch is formed from what waits at that moment. A text that waits or runs
//! already is not run again for another who asks: both get the same answer, as does who asks later, from the
//! cache.

pub(crate) mod memory;
pub(crate) mod state;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::memory::Held;
use self::state::{Board, End, Errand, Place, Running, Waiter};
use super::backend::onnx::session::Arena;
use super::backend::onnx::{RowResult, Station};
use super::backend::run::{Call, GRACE};
use super::batcher::Limits;
use super::batcher::queue::Queue;
use super::breaker::Standing;
use super::cache::Cache;
use super::load::Want;
use super::panel::RunCost;
use super::pending::{Question, Told};
use crate::core::vote::Abstention;

/// What is one and the same run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Same {
    pub(super) lane: usize,
    pub(super) ids: Arc<[u32]>,
    /// Whether an encoder's heads are asked as well.
    pub(super) heads: bool,
}

/// A part of a question for a lane.
pub(super) struct Part {
    pub(super) run: Same,
    /// The length that it is padded to, alone.
    pub(super) length: usize,
    /// A window after the text's first.
    pub(super) further: bool,
}

/// A question as it comes to the desk.
pub(super) struct Entry {
    pub(super) question: Arc<Question>,
    pub(super) parts: Vec<Part>,
    /// For the rules, where there are any and they are asked: one more part.
    pub(super) text: Option<Box<str>>,
}

impl Entry {
    /// A question that nobody is asked.
    pub(super) fn unasked(question: Question) -> Self {
        Self { question: Arc::new(question), parts: Vec::new(), text: None }
    }
}

/// What a worker is to do.
pub(super) enum Work {
    /// A batch of texts for a lane, without the experts at its end that are left alone, for a reason.
    Batch { lane: usize, rows: Vec<Same>, padded: usize, without: Vec<(usize, Abstention)> },
    /// Texts for the rules.
    Rules { texts: Vec<Errand> },
}

/// What rules say of a text, and whether they read only its beginning.
pub(super) type RulesRow = (Arc<Question>, RowResult, bool);

/// Work with what stops it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) call: Arc<Call>,
    /// Stations to put in the place of those of their lanes, first.
    pub(super) parts: Vec<(usize, Station)>,
}

/// What the desk knows of a lane.
pub(super) struct Facts {
    pub(super) limits: Limits,
    /// The experts that vote at its end, by slot.
    pub(super) experts: Vec<(usize, String)>,
    /// How long it is left alone at first where it fails.
    pub(super) pause: Duration,
    /// What could not be loaded.
    pub(super) want: Want,
}

/// The desk.
pub(super) struct Desk {
    board: Mutex<Board>,
    /// Something to do, for workers.
    work: Condvar,
    /// Something to watch.
    watched: Condvar,
    /// Something to mend, or the end.
    wanted: Condvar,
    /// Whether there are rules experts.
    rules: bool,
    cache: Cache,
    arena: Arena,
    /// Bytes that the process may hold.
    memory: Option<usize>,
}

impl Desk {
    /// A desk for lanes, with rules experts or without, and a cache.
    pub(super) fn new(
        lanes: impl IntoIterator<Item = Facts>,
        rules: bool,
        cache: Cache,
        arena: Arena,
        memory: Option<usize>,
    ) -> Self {
        let place = |Facts { limits, experts, pause, want }| {
            let name = experts.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>().join(", ");
            let end = |(slot, id)| End { slot, id, standing: Standing::new(pause) };
            let ends = experts.into_iter().map(end).collect();
            let (queue, mut standing) = (Queue::new(limits), Standing::new(pause));
            standing.set_absent(want.whole);
            Place { name, ends, queue, standing, want }
        };
        let board = Board {
            lanes: lanes.into_iter().map(place).collect(),
            errands: VecDeque::new(),
            waiters: HashMap::new(),
            open: BTreeMap::new(),
            entered: 0,
            running: Vec::new(),
            parts: Vec::new(),
            workers: 0,
            hung: 0,
            wakes: None,
            closed: false,
        };
        let (work, watched, wanted) = (Condvar::new(), Condvar::new(), Condvar::new());
        Self { board: Mutex::new(board), work, watched, wanted, rules, cache, arena, memory }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether rules are to be asked.
    pub(super) fn rules(&self) -> bool {
        self.rules
    }

    /// Questions come. They are worked on by `due`, or earlier in full batches.
    pub(super) fn enter(&self, entries: Vec<Entry>, due: Instant) {
        let mut board = self.board();
        let (one, now) = (entries.len() == 1, Instant::now());
        for Entry { question, parts, text } in entries {
            // Without a worker nothing would come of it.
            if (parts.is_empty() && text.is_none()) || board.workers == 0 {
                question.close();
                continue;
            }
            for Part { run, length, further } in parts {
                let waiter = Waiter { question: Arc::clone(&question), further };
                if let Some(result) = self.cache.get(&run) {
                    waiter.put(&result, true, None);
                    continue;
                }
                if let Some(waiters) = board.waiters.get_mut(&run) {
                    waiters.push(waiter);
                    continue;
                }
                let Some(lane) = board.lanes.get_mut(run.lane) else {
                    continue;
                };
                if let Err(reason) = lane.standing.admit(now, question.deadline) {
                    waiter.put(&lane.abstention(reason), false, None);
                    continue;
                }
                lane.queue.push(length, due, run.clone());
                board.waiters.insert(run, vec![waiter]);
            }
            if let Some(text) = text {
                board.errands.push_back(Errand { question: Arc::clone(&question), text });
            }
            if !question.is_open() {
                continue;
            }
            board.entered += 1;
            let number = board.entered;
            self.wake(&board, question.deadline);
            board.open.insert((question.deadline, number), question);
        }
        drop(board);
        if one { self.work.notify_one() } else { self.work.notify_all() }
    }

    /// Wakes the watch where it would look too late.
    fn wake(&self, board: &Board, deadline: Instant) {
        if board.wakes.is_none_or(|wakes| deadline < wakes) {
            self.watched.notify_one();
        }
    }

    /// A new worker's number. `replaces`: it takes the place of one that hangs.
    pub(super) fn sign_in(&self, replaces: bool) -> usize {
        let mut board = self.board();
        board.workers += usize::from(!replaces);
        board.running.push(None);
        board.parts.push(Vec::new());
        board.running.len() - 1
    }

    /// A worker cannot be started, or not yet.
    pub(super) fn leave(&self) {
        self.board().leave();
    }

    /// It could be after all.
    pub(super) fn join(&self) {
        self.board().workers += 1;
    }

    /// Waits for that long. Returns `true` as soon as the desk closes.
    pub(super) fn closes_within(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut board = self.board();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if board.closed || left.is_zero() {
                return board.closed;
            }
            board = self.wanted.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next thing to do; waits for it. None: no more.
    pub(super) fn next(&self, worker: usize) -> Option<Job> {
        let mut board = self.board();
        loop {
            if board.closed {
                return None;
            }
            let now = Instant::now();
            if let Some((work, deadline)) = board.pick(now) {
                if board.lanes.iter().any(|lane| lane.queue.due().is_some()) || !board.errands.is_empty() {
                    self.work.notify_one();
                }
                let (rows, without, options) = match &work {
                    Work::Batch { lane, rows, padded, without } => {
                        // A trial gives back what the run kept that had to be stopped.
                        let trial = board.lanes.get(*lane).is_some_and(|lane| lane.standing.down().is_some());
                        let longest = padded / rows.len().max(1);
                        let without = without.iter().map(|(slot, _)| *slot).collect();
                        (rows.clone(), without, self.arena.options(longest, trial).ok())
                    }
                    Work::Rules { .. } => (Vec::new(), Vec::new(), None),
                };
                let call = Arc::new(Call::new(deadline, options));
                self.wake(&board, deadline);
                if let Some(place) = board.running.get_mut(worker) {
                    let call = Arc::clone(&call);
                    *place = Some(Running { call, rows, without, began: now, resident: None, stopped: None });
                }
                let parts = board.parts.get_mut(worker).map(std::mem::take).unwrap_or_default();
                drop(board);
                self.weigh(worker);
                return Some(Job { work, call, parts });
            }
            let due = board.lanes.iter().filter_map(|lane| lane.queue.due()).min();
            board = match due {
                Some(due) => {
                    let patience = due.saturating_duration_since(now);
                    self.work.wait_timeout(board, patience).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.work.wait(board).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Notes what the process holds as a worker's run begins, where there is a bound.
    fn weigh(&self, worker: usize) {
        let Some(held) = Held::now(self.memory) else {
            return;
        };
        let mut board = self.board();
        if let Some(run) = board.running.get_mut(worker).and_then(Option::as_mut) {
            run.resident = Some(held.now);
            self.wake(&board, Instant::now() + memory::EACH);
        }
    }

    /// What came of a batch. False: the worker was given up meanwhile, and is to end.
    pub(super) fn land(&self, worker: usize, rows: Vec<(Same, RowResult)>, cost: RunCost) -> bool {
        let mut board = self.board();
        let Some(running) = board.running.get_mut(worker).and_then(Option::take) else {
            board.hung = board.hung.saturating_sub(1);
            return false;
        };
        if running.stopped.is_none() {
            if let Some(first) = rows.iter().find_map(|(run, _)| board.waiters.get(run)?.first()) {
                first.question.asker.tell(cost);
            }
            board.judge(&rows, &running.without, running.began);
            let ran = Some(running.over(Instant::now()));
            for (run, result) in rows {
                for (place, waiter) in board.waiters.remove(&run).unwrap_or_default().iter().enumerate() {
                    waiter.put(&result, place > 0, ran);
                }
                self.cache.keep(run, result);
            }
            board.forget_answered();
        }
        true
    }

    /// What came of a rules job, each with whether only the beginning was read.
    pub(super) fn land_rules(&self, worker: usize, rows: Vec<RulesRow>, cost: RunCost) -> bool {
        let mut board = self.board();
        if let Some((first, ..)) = rows.first() {
            first.asker.tell(cost);
        }
        let running = board.running.get_mut(worker).and_then(Option::take);
        if running.is_none() {
            board.hung = board.hung.saturating_sub(1);
        }
        let ran = running.as_ref().map(|running| running.over(Instant::now()));
        for (question, result, truncated) in rows {
            question.put(&result, Told { truncated, ran, ..Told::default() });
        }
        board.forget_answered();
        running.is_some()
    }

    /// Experts that abstain whatever the text is, with the reason: those that are left alone, alone or with their
    /// lane, and those that could not be loaded.
    pub(super) fn down(&self) -> Vec<(usize, Abstention)> {
        let mut down = Vec::new();
        for lane in &self.board().lanes {
            down.extend(lane.want.slots.iter().map(|&slot| (slot, Abstention::NotLoaded)));
            let whole = lane.standing.down();
            let reason = |end: &End| Some((end.slot, whole.or_else(|| end.standing.down())?));
            down.extend(lane.ends.iter().filter_map(reason));
        }
        down
    }

    /// Experts that are asked no more, for as long as the panel lives, alone or with their lane.
    pub(super) fn disabled(&self) -> Vec<usize> {
        let board = self.board();
        let ends = board.lanes.iter().flat_map(|lane| lane.ends.iter().map(move |end| (lane, end)));
        let disabled = ends.filter(|(lane, end)| lane.standing.disabled() || end.standing.disabled());
        disabled.map(|(_, end)| end.slot).collect()
    }

    /// Returns `true` if no worker is left.
    pub(super) fn is_dead(&self) -> bool {
        self.board().workers == 0
    }

    /// What lanes lack, by lane.
    pub(super) fn wants(&self) -> Vec<Want> {
        self.board().lanes.iter().map(|lane| lane.want.clone()).collect()
    }

    /// Workers so far.
    pub(super) fn workers(&self) -> usize {
        self.board().running.len()
    }

    /// Waits for `pause`, and until some lane lacks something: their numbers, their names, and what they lack. None:
    /// no more to mend.
    pub(super) fn wanting(&self, pause: Duration) -> Option<Vec<(usize, String, Want)>> {
        let until = Instant::now() + pause;
        let mut board = self.board();
        loop {
            let lacks = |(n, lane): (usize, &Place)| {
                (!lane.want.is_none()).then(|| (n, lane.name.clone(), lane.want.clone()))
            };
            let wanting: Vec<_> = board.lanes.iter().enumerate().filter_map(lacks).collect();
            if board.closed || wanting.is_empty() {
                return None;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(wanting);
            }
            board = self.wanted.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A lane has been loaded again: workers put its stations in their places before their next work. Returns `false`
    /// if the workers are not as many any more: one of them would lack the lane for good.
    pub(super) fn deliver(&self, lane: usize, stations: Vec<Station>, want: Want) -> bool {
        let mut board = self.board();
        if stations.len() != board.parts.len() {
            return false;
        }
        for (parts, station) in board.parts.iter_mut().zip(stations) {
            parts.push((lane, station));
        }
        if let Some(place) = board.lanes.get_mut(lane) {
            place.standing.set_absent(want.whole);
            place.want = want;
        }
        true
    }

    /// Ends everything: workers and the watch are told that there is no more to do, and what runs is stopped.
    pub(super) fn close(&self) {
        let mut board = self.board();
        board.closed = true;
        let now = Instant::now();
        for run in board.running.iter_mut().flatten().filter(|run| run.stopped.is_none()) {
            run.call.stop();
            run.stopped = Some(now);
        }
        drop(board);
        self.work.notify_all();
        self.watched.notify_all();
        self.wanted.notify_all();
    }

    /// Watches over deadlines: questions are answered with what is known by then, runs are stopped. Gives the
    /// number of workers to replace, because they did not come back; none: no more to watch.
    pub(super) fn watch(&self) -> Option<usize> {
        loop {
            let held = Held::now(self.memory);
            let mut board = self.board();
            if board.closed {
                return None;
            }
            let now = Instant::now();
            board.expire(now);
            let lost = board.stop(now, held);
            if lost > 0 {
                return Some(lost);
            }
            let end =
                |run: &Running| run.stopped.map_or_else(|| run.call.deadline(), |stopped| stopped + GRACE);
            let next = board.open.first_key_value().map(|((deadline, _), _)| *deadline);
            let looks =
                |run: &Running| run.resident.filter(|_| run.stopped.is_none()).map(|_| now + memory::EACH);
            let looks = board.running.iter().flatten().filter_map(looks).next();
            board.wakes = board.running.iter().flatten().map(end).chain(next).chain(looks).min();
            // The lock is given back before the system is asked again.
            drop(match board.wakes {
                Some(next) => {
                    let patience = next.saturating_duration_since(now);
                    self.watched.wait_timeout(board, patience).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.watched.wait(board).unwrap_or_else(PoisonError::into_inner),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that came while the lane was loaded would lack it for good.
    #[test]
    fn a_lane_is_not_delivered_to_fewer_workers_than_there_are() {
        let want = Want { slots: vec![0], whole: true };
        let facts = Facts {
            limits: Limits { tokens: 256, rows: 32, overhead: 8 },
            experts: vec![(0, "late".to_owned())],
            pause: Duration::from_secs(1),
            want: want.clone(),
        };
        let arena = Arena { tokens: 1, devices: String::new() };
        let desk = Desk::new([facts], false, Cache::new(0), arena, None);
        assert!(desk.deliver(0, Vec::new(), want.clone()), "nobody is left out");
        desk.sign_in(false);
        assert!(!desk.deliver(0, Vec::new(), Want::default()));
        assert_eq!(desk.wants(), [want]);
    }
}
