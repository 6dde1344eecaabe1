//! The answer about one conversation while parts of it are outstanding.

pub(super) mod outcome;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use outcome::{ExpertOutcome, Span};

use super::backend::result::TextResult;
use super::cost::RunCost;
use super::features::PartialFeatures;
use crate::core::language::Language;
use crate::core::vote::Abstention;

/// The time of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunSpan {
    /// When a worker took it.
    pub began: Instant,
    /// When its results were there, or it was stopped.
    pub ended: Instant,
}

/// The origin of one part of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PartInfo {
    /// Only the beginning of the text was read.
    pub(super) truncated: bool,
    /// The result is that of another, equal text.
    pub(super) cached: bool,
    /// The part's features are those of the conversation.
    pub(super) gives_features: bool,
    /// The run that gave the result.
    pub(super) run: Option<RunSpan>,
}

/// The answer to a text, as far as it is known.
#[derive(Debug)]
pub(super) struct PartialAnswer {
    /// By the expert's index in the panel.
    pub(super) experts: Vec<ExpertOutcome>,
    /// The abstention of experts without an outcome.
    pub(super) default: Abstention,
    /// The language of the judged text.
    pub(super) language: Language,
    pub(super) features: PartialFeatures,
    /// The greatest number of tokens that any tokenizer gave.
    pub(super) tokens: usize,
    /// When the first of its runs began.
    pub(super) began: Option<Instant>,
    /// Parts that are outstanding.
    outstanding: usize,
}

impl PartialAnswer {
    /// An answer without any outcome. `default` is the abstention of experts that never have one.
    pub(super) fn new(experts: usize, default: Abstention) -> Self {
        let experts = vec![ExpertOutcome::unknown(); experts];
        let language = Language::Unknown;
        Self {
            experts,
            default,
            language,
            features: PartialFeatures::default(),
            tokens: 0,
            began: None,
            outstanding: 0,
        }
    }

    /// These experts abstain, whatever the results of later runs are, unless they already do.
    pub(super) fn abstain(&mut self, experts: &[usize], reason: Abstention) {
        for &expert_index in experts {
            self.experts[expert_index].refuse(reason);
        }
    }

    /// Returns `true` if the expert may still vote.
    pub(super) fn is_asked(&self, expert_index: usize) -> bool {
        self.experts[expert_index].is_asked()
    }

    /// These experts read the span's text in `windows` windows.
    pub(super) fn set_windows(&mut self, experts: &[usize], span: &Span, windows: usize) {
        for &expert_index in experts {
            self.experts[expert_index].set_windows(span, windows);
        }
    }

    /// These experts do not read all of the text that they should read.
    pub(super) fn set_truncated(&mut self, experts: &[usize]) {
        for &expert_index in experts {
            self.experts[expert_index].set_truncated();
        }
    }

    fn add(&mut self, result: &TextResult, span: &Span, part: PartInfo) {
        for (expert_index, outcome) in &result.outcomes {
            if span.concerns(*expert_index) {
                self.experts[*expert_index].add(outcome, span, part);
                self.experts[*expert_index].revision.clone_from(&result.revision);
            }
        }
        if let Some(features) = &result.features
            && part.gives_features
        {
            self.features.add(features);
        }
    }
}

/// The receiving end of a caller: its answers, with the keys that it gave, in any order, and the costs of its runs.
pub(super) struct AnswerSink {
    /// Unbounded, so that no worker ever waits here. The caller bounds the number of its texts.
    answers: Sender<(u64, PartialAnswer)>,
    costs: Mutex<Vec<RunCost>>,
}

impl AnswerSink {
    pub(super) fn new() -> (Arc<Self>, Receiver<(u64, PartialAnswer)>) {
        let (answers, received) = unbounded();
        (Arc::new(Self { answers, costs: Mutex::default() }), received)
    }

    /// Adds the cost of a run. A run with texts of several callers is added to the first caller's.
    pub(super) fn add_cost(&self, cost: RunCost) {
        self.costs.lock().unwrap_or_else(PoisonError::into_inner).push(cost);
    }

    /// Takes the costs of the runs since the last call.
    pub(super) fn take_costs(&self) -> Vec<RunCost> {
        std::mem::take(&mut *self.costs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A text whose answer is outstanding.
pub(super) struct PendingAnswer {
    pub(super) sink: Arc<AnswerSink>,
    key: u64,
    /// The time that each of its runs may take.
    pub(super) timeout: Duration,
    /// The time at which the answer is sent with what is known. It is later than the end of a run, because it includes
    /// the time that the text waits.
    pub(super) deadline: Instant,
    /// `None` once the answer is sent.
    answer: Mutex<Option<PartialAnswer>>,
}

impl PendingAnswer {
    /// `parts` is the number of parts of the answer.
    pub(super) fn new(
        sink: &Arc<AnswerSink>,
        key: u64,
        timeout: Duration,
        mut answer: PartialAnswer,
        parts: usize,
    ) -> Self {
        answer.outstanding = parts;
        let (deadline, answer) = (Instant::now() + 2 * timeout, Mutex::new(Some(answer)));
        Self { sink: Arc::clone(sink), key, timeout, deadline, answer }
    }

    fn answer(&self) -> std::sync::MutexGuard<'_, Option<PartialAnswer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` until the answer is sent.
    pub(super) fn is_open(&self) -> bool {
        self.answer().is_some()
    }

    /// A run with the text begins.
    pub(super) fn on_run_start(&self, now: Instant) {
        if let Some(answer) = self.answer().as_mut() {
            answer.began.get_or_insert(now);
        }
    }

    /// Adds a part of the answer. With the last part the answer is sent.
    pub(super) fn add(&self, result: &TextResult, span: &Span, part: PartInfo) {
        let mut place = self.answer();
        let Some(answer) = place.as_mut() else {
            return;
        };
        answer.add(result, span, part);
        answer.outstanding = answer.outstanding.saturating_sub(1);
        if answer.outstanding == 0 {
            self.send(place.take());
        }
    }

    /// Sends the answer with what is known.
    pub(super) fn close(&self) {
        let answer = self.answer().take();
        self.send(answer);
    }

    fn send(&self, answer: Option<PartialAnswer>) {
        if let Some(answer) = answer {
            // The receiver is gone if the caller was dropped.
            let _ = self.sink.answers.send((self.key, answer));
        }
    }
}
