//! What lies on the desk: what waits, what is being run, who waits for it, and how lanes stand. All of it is
//! changed under the desk's lock; times are passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::vote::Abstention;
use crate::experts::backend::onnx::{RowResult, Station};
use crate::experts::backend::run::{Call, GRACE, Late};
use crate::experts::batcher::queue::Queue;
use crate::experts::breaker::Standing;
use crate::experts::load::Want;
use crate::experts::pending::{Question, RunSpan, Told};
use crate::experts::scheduler::memory::Held;
use crate::experts::scheduler::{Same, Work};
use crate::experts::scores::Judgement;

/// Workers that hang at a time, from which on an expert that costs one more is disabled: each keeps its sessions'
/// memory.
const HUNG: usize = 8;
/// Texts that a rules job holds at most.
const RULES_TEXTS: usize = 32;

/// A text for the rules experts, all of them: it is folded once.
pub(crate) struct Errand {
    pub(crate) question: Arc<Question>,
    pub(crate) text: Box<str>,
}

/// Who waits for a run.
#[derive(Clone)]
pub(crate) struct Waiter {
    pub(crate) question: Arc<Question>,
    /// The run is that of a window after the text's first.
    pub(crate) further: bool,
}

impl Waiter {
    /// What came of the run: for another, and of which run.
    pub(crate) fn put(&self, result: &RowResult, cached: bool, ran: Option<RunSpan>) {
        self.question.put(result, Told { truncated: false, cached, further: self.further, ran });
    }
}

/// What a worker is at.
pub(crate) struct Running {
    pub(crate) call: Arc<Call>,
    pub(crate) rows: Vec<Same>,
    /// Slots of experts that it does without.
    pub(crate) without: Vec<usize>,
    pub(crate) began: Instant,
    /// Bytes that the process held then; none where there is no bound, or the system does not say.
    pub(crate) resident: Option<usize>,
    pub(crate) stopped: Option<Instant>,
}

impl Running {
    /// The run, over now.
    pub(crate) fn over(&self, now: Instant) -> RunSpan {
        RunSpan { began: self.began, ended: now }
    }
}

/// An expert at a lane's end.
pub(crate) struct End {
    pub(crate) slot: usize,
    pub(crate) id: String,
    /// How it stands where the lane itself is well: a head may fail alone.
    pub(crate) standing: Standing,
}

/// A lane, seen from the desk.
pub(crate) struct Place {
    pub(crate) name: String,
    /// The experts at its end.
    pub(crate) ends: Vec<End>,
    pub(crate) queue: Queue<Same, Instant>,
    pub(crate) standing: Standing,
    /// What could not be loaded.
    pub(crate) want: Want,
}

impl Place {
    /// What is said of a text that does not get to run.
    pub(crate) fn abstention(&self, reason: Abstention) -> RowResult {
        RowResult { outcomes: self.ends.iter().map(|end| (end.slot, Err(reason))).collect(), features: None }
    }

    /// What is said of a text whose run was given up: what was known of it, and the reason of all who were not heard.
    fn given_up(&self, known: Option<&RowResult>, reason: Abstention) -> RowResult {
        let mut result = known.cloned().unwrap_or_default();
        let heard: Vec<usize> = result.outcomes.iter().map(|(slot, _)| *slot).collect();
        let unheard = self.ends.iter().filter(|end| !heard.contains(&end.slot));
        result.outcomes.extend(unheard.map(|end| (end.slot, Err(reason))));
        result
    }

    /// The experts that are not asked now, with the reason.
    fn left_alone(&mut self, now: Instant, until: Instant) -> Vec<(usize, Abstention)> {
        let refused = |end: &mut End| Some((end.slot, end.standing.admit(now, until).err()?));
        self.ends.iter_mut().filter_map(refused).collect()
    }
}

/// The board.
pub(crate) struct Board {
    pub(crate) lanes: Vec<Place>,
    pub(crate) errands: VecDeque<Errand>,
    /// Who waits for a run that waits or is under way.
    pub(crate) waiters: HashMap<Same, Vec<Waiter>>,
    /// By deadline, then by number.
    pub(crate) open: BTreeMap<(Instant, u64), Arc<Question>>,
    pub(crate) entered: u64,
    /// By worker.
    pub(crate) running: Vec<Option<Running>>,
    /// By worker: stations that were loaded later, by lane.
    pub(crate) parts: Vec<Vec<(usize, Station)>>,
    /// Workers that there are, those that are being replaced among them.
    pub(crate) workers: usize,
    /// Workers that hang: those that come back end.
    pub(crate) hung: usize,
    /// When the watch looks next; none: when it is told to.
    pub(crate) wakes: Option<Instant>,
    pub(crate) closed: bool,
}

impl Board {
    /// The next work, with the time after which it is stopped.
    pub(crate) fn pick(&mut self, now: Instant) -> Option<(Work, Instant)> {
        if !self.errands.is_empty() {
            let texts: Vec<_> = self.errands.drain(..self.errands.len().min(RULES_TEXTS)).collect();
            texts.iter().for_each(|errand| errand.question.begin(now));
            let timeout = texts.iter().map(|errand| errand.question.timeout).max()?;
            return Some((Work::Rules { texts }, now + timeout));
        }
        let mut lanes: Vec<(Instant, usize)> =
            self.lanes.iter().enumerate().filter_map(|(n, lane)| Some((lane.queue.due()?, n))).collect();
        lanes.sort_unstable();
        for (_, lane) in lanes {
            let Some(batch) = self.lanes.get_mut(lane).and_then(|lane| lane.queue.take(now)) else {
                continue;
            };
            let waiters = batch.items.iter().filter_map(|run| self.waiters.get(run)).flatten();
            waiters.clone().for_each(|waiter| waiter.question.begin(now));
            let timeout = waiters.map(|waiter| waiter.question.timeout).max()?;
            let without =
                self.lanes.get_mut(lane).map(|lane| lane.left_alone(now, now + timeout)).unwrap_or_default();
            let padded = batch.padded();
            return Some((Work::Batch { lane, padded, rows: batch.items, without }, now + timeout));
        }
        None
    }

    /// Questions that are over are answered with what is known, and what only they wait for does not run.
    pub(crate) fn expire(&mut self, now: Instant) {
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
        self.waiters.retain(|_, waiters| waiters.iter().any(|waiter| waiter.question.is_open()));
        let waiters = &self.waiters;
        for lane in &mut self.lanes {
            lane.queue.retain(|run| waiters.contains_key(run));
        }
        self.errands.retain(|errand| errand.question.is_open());
    }

    /// Stops runs that have taken too long, so that their texts have timed out, or that eat the memory; of heads that
    /// hang only them. Returns how many workers are to be replaced, because those stopped before never came back.
    /// `held`: what the process holds, and may hold.
    pub(crate) fn stop(&mut self, now: Instant, held: Option<Held>) -> usize {
        let (mut lost, mut ended, mut hung) = (Vec::new(), Vec::new(), Vec::new());
        // One at a time: what the others have been given may be enough then.
        let mut greedy = held.and_then(|held| self.greedy(held));
        for (worker, place) in self.running.iter_mut().enumerate() {
            let Some(run) = place else { continue };
            let eats = greedy.take_if(|greedy| *greedy == worker).is_some();
            let late = match run.stopped {
                None if eats => Late::Run,
                None if run.call.deadline() <= now => run.call.late(now),
                Some(stopped) if stopped + GRACE <= now => Late::Lost,
                _ => Late::Wait,
            };
            let lane = run.rows.first().map(|run| run.lane);
            if let Late::Head(slot) = late {
                hung.extend(lane.map(|lane| (lane, slot, run.began)));
            }
            if matches!(late, Late::Run | Late::Stuck) {
                run.call.stop();
                run.stopped = Some(now);
                let reason = if eats { Abstention::OutOfMemory } else { Abstention::TimedOut };
                // Once its encoder has run a lane is well, and a head that hangs has been told of.
                if !give_up(run, &self.lanes, &mut self.waiters, reason, now) || eats {
                    ended.extend(lane.map(|lane| (lane, reason, run.began)));
                }
            }
            if matches!(late, Late::Stuck | Late::Lost) {
                lost.push((lane, run.call.head(), run.began));
                *place = None;
            }
        }
        self.forget_answered();
        hung.into_iter().for_each(|(lane, slot, began)| self.hang(lane, slot, began, now));
        ended.into_iter().for_each(|(lane, reason, began)| self.fail(lane, reason, began, now));
        lost.into_iter().filter(|(lane, head, began)| self.lose(*lane, *head, *began, now)).count()
    }

    /// A worker hangs for good in a run of that lane, at that head of it, or in a run of rules. Returns `true` if it is
    /// to be replaced. The number of those that are is bounded because an expert that costs too many is disabled.
    fn lose(&mut self, lane: Option<usize>, head: Option<usize>, began: Instant, now: Instant) -> bool {
        self.hung += 1;
        let short = self.hung >= HUNG;
        let Some(place) = lane.and_then(|lane| self.lanes.get_mut(lane)) else {
            tracing::error!(replaced = !short, "a worker hangs in rules");
            if short {
                self.leave();
            }
            return !short;
        };
        let (name, disabled) = match head.and_then(|slot| place.ends.iter_mut().find(|end| end.slot == slot))
        {
            Some(end) => (&end.id, end.standing.lost(began, now, short)),
            None => (&place.name, place.standing.lost(began, now, short)),
        };
        tracing::error!(experts = name, "a worker hangs in a run that does not stop; another replaces it");
        if disabled {
            tracing::error!(
                experts = name,
                "disabled, abstains from now on: its runs hang and cannot be stopped; mend it, then send SIGHUP or restart"
            );
        }
        if let (Some(lane), true, Some(reason)) = (lane, place.standing.disabled(), place.standing.down()) {
            self.clear(lane, reason);
        }
        true
    }

    /// There is one worker less. Without any, nothing is answered: what waits need not wait.
    pub(crate) fn leave(&mut self) {
        self.workers = self.workers.saturating_sub(1);
        if self.workers > 0 {
            return;
        }
        tracing::error!("no worker is left, every expert abstains; the lines before say why");
        std::mem::take(&mut self.open).into_values().for_each(|question| question.close());
        self.waiters.clear();
        self.errands.clear();
        self.lanes.iter_mut().for_each(|lane| drop(lane.queue.clear()));
    }

    /// The worker whose run is to be stopped because the process has too much memory: of those that may have taken it
    /// the one with most to run.
    fn greedy(&self, held: Held) -> Option<usize> {
        let eats = |run: &Running| run.resident.is_some_and(|before| held.is_eaten_since(before));
        let size = |run: &Running| run.rows.iter().map(|run| run.ids.len()).sum::<usize>();
        let running =
            self.running.iter().enumerate().filter_map(|(worker, run)| Some((worker, run.as_ref()?)));
        let mut eating = running.filter(|(_, run)| run.stopped.is_none() && eats(run));
        let first = eating.next()?;
        Some(eating.fold(first, |most, next| if size(next.1) > size(most.1) { next } else { most }).0)
    }

    /// What a batch says of its lane: some vote or features that it is well, and then of each expert at its end;
    /// none that it failed. `without`: slots that were not asked. `began`: when the batch did.
    pub(crate) fn judge(&mut self, rows: &[(Same, RowResult)], without: &[usize], began: Instant) {
        let Some((Same { lane, .. }, _)) = rows.first() else {
            return;
        };
        let now = Instant::now();
        let outcomes = || rows.iter().flat_map(|(_, result)| &result.outcomes);
        let well = outcomes().any(|(_, outcome)| outcome.is_ok())
            || rows.iter().any(|(_, result)| result.features.is_some());
        if !well {
            if let Some(reason) = fault(outcomes().map(|(_, outcome)| outcome)) {
                self.fail(*lane, reason, began, now);
            }
            return;
        }
        let Some(place) = self.lanes.get_mut(*lane) else {
            return;
        };
        if place.standing.succeeded(began) {
            tracing::info!(experts = place.name, "answers again");
        }
        for end in place.ends.iter_mut().filter(|end| !without.contains(&end.slot)) {
            let own = || outcomes().filter(|(slot, _)| *slot == end.slot).map(|(_, outcome)| outcome);
            if own().any(Result::is_ok) {
                if end.standing.succeeded(began) {
                    tracing::info!(experts = end.id, "answers again");
                }
            } else if let Some(reason) = fault(own())
                && let Some(pause) = end.standing.failed(reason, began, now)
            {
                tell_down(&end.id, reason, pause);
            }
        }
    }

    /// A lane has failed. Where that makes it down, what waits there is answered.
    fn fail(&mut self, lane: usize, reason: Abstention, began: Instant, now: Instant) {
        let Some(place) = self.lanes.get_mut(lane) else {
            return;
        };
        let Some(pause) = place.standing.failed(reason, began, now) else {
            return;
        };
        tell_down(&place.name, reason, pause);
        self.clear(lane, reason);
    }

    /// Answers what waits at a lane that is down.
    fn clear(&mut self, lane: usize, reason: Abstention) {
        let Some(place) = self.lanes.get_mut(lane) else {
            return;
        };
        let result = place.abstention(reason);
        for run in place.queue.clear() {
            for waiter in self.waiters.remove(&run).unwrap_or_default() {
                waiter.put(&result, false, None);
            }
        }
        self.forget_answered();
    }

    /// A head hangs: it is left alone, and its neighbours are not.
    fn hang(&mut self, lane: usize, slot: usize, began: Instant, now: Instant) {
        let ends = self.lanes.get_mut(lane).into_iter().flat_map(|place| &mut place.ends);
        for end in ends.filter(|end| end.slot == slot) {
            if let Some(pause) = end.standing.failed(Abstention::TimedOut, began, now) {
                tell_down(&end.id, Abstention::TimedOut, pause);
            }
        }
    }

    pub(crate) fn forget_answered(&mut self) {
        self.open.retain(|_, question| question.is_open());
    }
}

/// Answers those who wait for a run that is given up, with what is known of their texts. Whether anything is.
fn give_up(
    run: &Running,
    lanes: &[Place],
    waiters: &mut HashMap<Same, Vec<Waiter>>,
    reason: Abstention,
    now: Instant,
) -> bool {
    let (known, ran) = (run.call.known(), run.over(now));
    // A batch that failed is run text by text: then it is not known of which text this is.
    let of = |place: usize| known.get(place).filter(|_| known.len() == run.rows.len());
    for (place, same) in run.rows.iter().enumerate() {
        let lane = lanes.get(same.lane);
        let result = lane.map(|lane| lane.given_up(of(place), reason)).unwrap_or_default();
        for waiter in waiters.remove(same).unwrap_or_default() {
            waiter.put(&result, false, Some(ran));
        }
    }
    !known.is_empty()
}

/// Why a batch without any vote is the graph's fault. One text may well lead to numbers that are none; those of
/// a graph that gives no others count all the same, as failures do only in a row.
fn fault<'a>(outcomes: impl Iterator<Item = &'a Result<Judgement, Abstention>>) -> Option<Abstention> {
    let broken = |reason: &Abstention| {
        matches!(reason, Abstention::Failed | Abstention::WrongShape | Abstention::NotFinite)
    };
    outcomes.filter_map(|outcome| outcome.as_ref().err().copied()).find(broken)
}

fn tell_down(experts: &str, reason: Abstention, pause: Duration) {
    let (reason, seconds) = (reason.word(), pause.as_secs());
    tracing::error!(experts, reason, seconds, "left alone for a while; abstains meanwhile");
}

#[cfg(test)]
mod tests;
