//! What lies on the desk: what waits, what is being run, who waits for it, and how lanes stand. All of it is
//! changed under the desk's lock; times are passed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::desk::{Same, Work};
use super::load::Want;
use super::question::{Question, Ran};
use super::queue::Queue;
use super::standing::Standing;
use super::station::{Call, RowResult, Station};
use crate::core::vote::Abstention;

/// Texts that a rules job holds at most.
const RULES_TEXTS: usize = 32;
/// How long a run that was stopped may take to come back. Then its worker is lost.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// A text for the rules experts, all of them: it is folded once.
pub(super) struct Errand {
    pub(super) question: Arc<Question>,
    pub(super) text: Box<str>,
}

/// What a worker is at.
pub(super) struct Running {
    pub(super) call: Arc<Call>,
    pub(super) rows: Vec<Same>,
    pub(super) began: Instant,
    pub(super) stopped: Option<Instant>,
}

impl Running {
    /// The run, over now.
    pub(super) fn over(&self, now: Instant) -> Ran {
        Ran { began: self.began, ended: now }
    }
}

/// A lane, seen from the desk.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) slots: Vec<usize>,
    pub(super) queue: Queue<Same, Instant>,
    pub(super) standing: Standing,
    /// What could not be loaded.
    pub(super) want: Want,
}

impl Place {
    /// What is said of a text that does not get to run.
    pub(super) fn abstention(&self, reason: Abstention) -> RowResult {
        RowResult { outcomes: self.slots.iter().map(|&slot| (slot, Err(reason))).collect(), features: None }
    }
}

/// The board.
pub(super) struct Board {
    pub(super) lanes: Vec<Place>,
    pub(super) errands: VecDeque<Errand>,
    /// Who waits for a run that waits or is under way.
    pub(super) askers: HashMap<Same, Vec<Arc<Question>>>,
    /// By deadline, then by number.
    pub(super) open: BTreeMap<(Instant, u64), Arc<Question>>,
    pub(super) entered: u64,
    /// By worker.
    pub(super) running: Vec<Option<Running>>,
    /// By worker: stations that were loaded later, by lane.
    pub(super) parts: Vec<Vec<(usize, Station)>>,
    /// When the watch looks next; none: when it is told to.
    pub(super) wakes: Option<Instant>,
    pub(super) closed: bool,
}

impl Board {
    /// The next work, with the time after which it is stopped.
    pub(super) fn pick(&mut self, now: Instant) -> Option<(Work, Instant)> {
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
            let askers = batch.items.iter().filter_map(|run| self.askers.get(run)).flatten();
            askers.clone().for_each(|question| question.begin(now));
            let timeout = askers.map(|question| question.timeout).max()?;
            return Some((Work::Batch { lane, padded: batch.padded(), rows: batch.items }, now + timeout));
        }
        None
    }

    /// Questions that are over are answered with what is known, and what only they wait for does not run.
    pub(super) fn expire(&mut self, now: Instant) {
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

    /// Stops runs that have taken too long: their texts have timed out. Gives how many of those stopped before
    /// never came back.
    pub(super) fn stop(&mut self, now: Instant) -> usize {
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
                    let lane = run.rows.first().and_then(|run| self.lanes.get(run.lane));
                    let late = lane.map(|lane| lane.abstention(Abstention::TimedOut)).unwrap_or_default();
                    let ran = run.over(now);
                    for run in &run.rows {
                        for question in self.askers.remove(run).unwrap_or_default() {
                            question.put(&late, false, false, Some(ran));
                        }
                    }
                }
                Some(stopped) if stopped + GRACE <= now => {
                    *place = None;
                    lost += 1;
                }
                _ => {}
            }
        }
        self.forget_answered();
        hung.into_iter().for_each(|lane| self.fail(lane, Abstention::TimedOut, now));
        lost
    }

    /// What a batch says of its lane: some vote that it is well, none that it failed. Numbers that are none are
    /// the text's fault as likely as the graph's.
    pub(super) fn judge(&mut self, rows: &[(Same, RowResult)]) {
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
    pub(super) fn fail(&mut self, lane: usize, reason: Abstention, now: Instant) {
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
                question.put(&result, false, false, None);
            }
        }
        self.forget_answered();
    }

    pub(super) fn forget_answered(&mut self) {
        self.open.retain(|_, question| question.is_open());
    }
}
