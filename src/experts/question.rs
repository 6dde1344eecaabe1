//! One text being asked about: what is known of it so far, and who waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::panel::Run;
use super::scores::Judgement;
use super::station::RowResult;
use crate::core::features::Features;
use crate::core::vote::Abstention;

/// When a run was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// When a worker took it up.
    pub began: Instant,
    /// When its answer was there, or it was stopped.
    pub ended: Instant,
}

/// What is known about a text.
#[derive(Debug)]
pub(super) struct Row {
    /// By the expert's slot.
    pub(super) outcomes: Vec<Result<Judgement, Abstention>>,
    /// By the expert's slot: it read only the beginning.
    pub(super) truncated: Vec<bool>,
    /// By the expert's slot: the answer is that to an equal text.
    pub(super) cached: Vec<bool>,
    pub(super) features: Option<Box<Features>>,
    /// The most that any tokenizer gave.
    pub(super) tokens: usize,
    /// When the first of its runs began.
    pub(super) began: Option<Instant>,
    /// By the expert's slot: the run that its answer came of.
    pub(super) ran: Vec<Option<Ran>>,
    /// Parts of the answer that have not come.
    open: usize,
}

impl Row {
    /// Nothing known yet: what no answer comes for has timed out.
    pub(super) fn new(experts: usize, text: &str) -> Self {
        let outcome = if blank(text) { Abstention::EmptyText } else { Abstention::TimedOut };
        Self {
            outcomes: vec![Err(outcome); experts],
            truncated: vec![false; experts],
            cached: vec![false; experts],
            features: None,
            tokens: 0,
            began: None,
            ran: vec![None; experts],
            open: 0,
        }
    }

    /// These experts abstain.
    pub(super) fn abstain(&mut self, slots: &[usize], reason: Abstention) {
        for &slot in slots {
            if let Some(place) = self.outcomes.get_mut(slot) {
                *place = Err(reason);
            }
        }
    }

    /// These experts read only the beginning.
    pub(super) fn mark_truncated(&mut self, slots: &[usize]) {
        slots.iter().for_each(|&slot| mark(&mut self.truncated, slot, true));
    }

    fn put(&mut self, result: &RowResult, truncated: bool, cached: bool, ran: Option<Ran>) {
        for (slot, outcome) in &result.outcomes {
            if let Some(place) = self.outcomes.get_mut(*slot) {
                place.clone_from(outcome);
            }
            mark(&mut self.truncated, *slot, truncated);
            mark(&mut self.cached, *slot, cached && outcome.is_ok());
            if let Some(place) = self.ran.get_mut(*slot) {
                *place = ran;
            }
        }
        if result.features.is_some() {
            self.features.clone_from(&result.features);
        }
    }
}

fn mark(marks: &mut [bool], slot: usize, holds: bool) {
    if let Some(place) = marks.get_mut(slot) {
        *place |= holds;
    }
}

/// Whether there is nothing to judge.
pub(super) fn blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Whoever asks: answers come to it with the keys that it gave, in any order.
pub(super) struct Asker {
    /// Unbounded, so that no worker ever waits here; who asks bounds what it asks.
    answers: Sender<(u64, Row)>,
    runs: Mutex<Vec<Run>>,
}

impl Asker {
    pub(super) fn new() -> (Arc<Self>, Receiver<(u64, Row)>) {
        let (answers, received) = unbounded();
        (Arc::new(Self { answers, runs: Mutex::default() }), received)
    }

    /// A run with texts of several askers is told to the first's.
    pub(super) fn tell(&self, run: Run) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
    }

    /// What has been run since the last time.
    pub(super) fn runs(&self) -> Vec<Run> {
        std::mem::take(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A text being asked about.
pub(super) struct Question {
    pub(super) asker: Arc<Asker>,
    key: u64,
    /// How long each of its runs may take.
    pub(super) timeout: Duration,
    /// Whatever has not been answered then has timed out. Waiting counts here, so it is later than a run's end.
    pub(super) deadline: Instant,
    /// None once it is answered.
    row: Mutex<Option<Row>>,
}

impl Question {
    /// `parts`: how many answers there will be.
    pub(super) fn new(asker: &Arc<Asker>, key: u64, timeout: Duration, mut row: Row, parts: usize) -> Self {
        row.open = parts;
        let (deadline, row) = (Instant::now() + 2 * timeout, Mutex::new(Some(row)));
        Self { asker: Arc::clone(asker), key, timeout, deadline, row }
    }

    fn row(&self) -> std::sync::MutexGuard<'_, Option<Row>> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its answer is still to come.
    pub(super) fn is_open(&self) -> bool {
        self.row().is_some()
    }

    /// Its first run begins.
    pub(super) fn begin(&self, now: Instant) {
        if let Some(row) = self.row().as_mut() {
            row.began.get_or_insert(now);
        }
    }

    /// A part of the answer: whether only the beginning was read, whether for another, and the run that it came
    /// of. With the last one the answer is sent.
    pub(super) fn put(&self, result: &RowResult, truncated: bool, cached: bool, ran: Option<Ran>) {
        let mut place = self.row();
        let Some(row) = place.as_mut() else {
            return;
        };
        row.put(result, truncated, cached, ran);
        row.open = row.open.saturating_sub(1);
        if row.open == 0 {
            self.send(place.take());
        }
    }

    /// Sends what is known, and no more.
    pub(super) fn close(&self) {
        let row = self.row().take();
        self.send(row);
    }

    fn send(&self, row: Option<Row>) {
        if let Some(row) = row {
            // Whoever asked may have given up.
            let _ = self.asker.answers.send((self.key, row));
        }
    }
}
