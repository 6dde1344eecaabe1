//! One text being asked about: what is known of it so far, and who waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::backend::onnx::RowResult;
use super::panel::RunCost;
use super::scores::Judgement;
use crate::core::features::Features;
use crate::core::vote::Abstention;

/// When a run was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunSpan {
    /// When a worker took it up.
    pub began: Instant,
    /// When its answer was there, or it was stopped.
    pub ended: Instant,
}

/// What is known of one expert's answer about a text.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// None: nothing yet. Over several windows the greatest of each score.
    outcome: Option<Result<Judgement, Abstention>>,
    /// It read only the beginning.
    truncated: bool,
    /// Every window's answer is that to an equal text.
    cached: bool,
    /// Windows that the text is read in.
    windows: usize,
    /// Windows that it voted on.
    voted: usize,
    /// The run that its answer came of, the last of them.
    pub(super) ran: Option<RunSpan>,
}

impl Said {
    const NOTHING: Self =
        Self { outcome: None, truncated: false, cached: false, windows: 1, voted: 0, ran: None };

    fn hear(&mut self, outcome: &Result<Judgement, Abstention>, told: Told) {
        self.truncated |= told.truncated;
        self.ran = told.ran;
        let Ok(judged) = outcome else {
            // What another window said stands.
            self.outcome.get_or_insert_with(|| outcome.clone());
            return;
        };
        self.cached = told.cached && (self.voted == 0 || self.cached);
        self.voted += 1;
        match &mut self.outcome {
            Some(Ok(known)) => greatest(known, judged),
            other => *other = Some(outcome.clone()),
        }
    }

    /// The expert's answer, `silent` where none came, and what is to be said of it.
    pub(super) fn end(self, silent: Abstention) -> (Result<Judgement, Abstention>, Marks) {
        // A window that gave no vote is a part that was not read.
        let truncated = self.truncated || self.voted < self.windows;
        let marks = Marks { truncated, cached: self.cached, windows: self.voted };
        (self.outcome.unwrap_or(Err(silent)), marks)
    }
}

/// What is said of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) truncated: bool,
    pub(super) cached: bool,
    pub(super) windows: usize,
}

/// The greater of two windows' scores, for all and by category.
fn greatest((score, categories): &mut Judgement, (other, others): &Judgement) {
    *score = score.max(*other);
    for found in others {
        match categories.binary_search_by(|known| known.category.cmp(&found.category)) {
            Ok(at) => categories[at].score = categories[at].score.max(found.score),
            Err(at) => categories.insert(at, found.clone()),
        }
    }
}

/// How a part of an answer came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// Only the beginning was read.
    pub(super) truncated: bool,
    /// For another, equal text.
    pub(super) cached: bool,
    /// For a window after the first: its features are not the text's.
    pub(super) further: bool,
    /// The run that it came of.
    pub(super) ran: Option<RunSpan>,
}

/// What is known about a text.
#[derive(Debug)]
pub(super) struct Row {
    /// By the expert's slot.
    pub(super) said: Vec<Said>,
    /// Of who says nothing.
    pub(super) silent: Abstention,
    pub(super) features: Option<Box<Features>>,
    /// The most that any tokenizer gave.
    pub(super) tokens: usize,
    /// When the first of its runs began.
    pub(super) began: Option<Instant>,
    /// Parts of the answer that have not come.
    open: usize,
}

impl Row {
    /// Nothing known yet. `silent`: the reason of those for whom no answer comes.
    pub(super) fn silent(experts: usize, silent: Abstention) -> Self {
        let said = vec![Said::NOTHING; experts];
        Self { said, silent, features: None, tokens: 0, began: None, open: 0 }
    }

    fn each(&mut self, slots: &[usize], mut change: impl FnMut(&mut Said)) {
        slots.iter().for_each(|&slot| self.said.get_mut(slot).into_iter().for_each(&mut change));
    }

    /// These experts abstain.
    pub(super) fn abstain(&mut self, slots: &[usize], reason: Abstention) {
        self.each(slots, |said| said.outcome = Some(Err(reason)));
    }

    /// These experts read the text in so many windows, which may not be all of it.
    pub(super) fn expect(&mut self, slots: &[usize], windows: usize, truncated: bool) {
        self.each(slots, |said| {
            said.windows = windows;
            said.truncated |= truncated;
        });
    }

    fn put(&mut self, result: &RowResult, told: Told) {
        for (slot, outcome) in &result.outcomes {
            self.each(&[*slot], |said| said.hear(outcome, told));
        }
        if result.features.is_some() && !told.further {
            self.features.clone_from(&result.features);
        }
    }
}

/// Whoever asks: answers come to it with the keys that it gave, in any order.
pub(super) struct Asker {
    /// Unbounded, so that no worker ever waits here; who asks bounds what it asks.
    answers: Sender<(u64, Row)>,
    runs: Mutex<Vec<RunCost>>,
}

impl Asker {
    pub(super) fn new() -> (Arc<Self>, Receiver<(u64, Row)>) {
        let (answers, received) = unbounded();
        (Arc::new(Self { answers, runs: Mutex::default() }), received)
    }

    /// A run with texts of several askers is told to the first's.
    pub(super) fn tell(&self, run: RunCost) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
    }

    /// What has been run since the last time.
    pub(super) fn runs(&self) -> Vec<RunCost> {
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

    /// A part of the answer. With the last one the answer is sent.
    pub(super) fn put(&self, result: &RowResult, told: Told) {
        let mut place = self.row();
        let Some(row) = place.as_mut() else {
            return;
        };
        row.put(result, told);
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
