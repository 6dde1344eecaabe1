//! The answer about one conversation while parts of it are outstanding.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::backend::result::TextResult;
use super::cost::RunCost;
use super::given_history::given_history;
use super::scores::ExpertScore;
use crate::core::features::Features;
use crate::core::vote::Abstention;

/// The time of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunSpan {
    /// When a worker took it.
    pub began: Instant,
    /// When its results were there, or it was stopped.
    pub ended: Instant,
}

/// The text that a part of an answer is about.
#[derive(Debug, Clone)]
pub(super) enum Span {
    /// The judged turn. All experts of the model read it.
    Turn,
    /// The conversation up to the judged turn, with that turn. These experts read it.
    Whole(Arc<[usize]>),
    /// The conversation up to the judged turn, without that turn. These experts read it.
    History(Arc<[usize]>),
}

impl Span {
    /// Returns `true` if the part counts for this expert. A model's run has the outcomes of all of its experts.
    fn concerns(&self, expert_index: usize) -> bool {
        match self {
            Self::Turn => true,
            Self::Whole(experts) | Self::History(experts) => experts.contains(&expert_index),
        }
    }
}

/// The outcome of one expert on one text, over its windows.
#[derive(Debug, Clone, Default)]
struct SpanOutcome {
    /// `None` until the first window has an outcome. Over several windows it holds the greatest of each score.
    outcome: Option<Result<ExpertScore, Abstention>>,
    /// The outcome of every window comes from an equal text.
    cached: bool,
    /// Windows in which the text is read.
    windows: usize,
    /// Windows with a vote.
    voted: usize,
}

impl SpanOutcome {
    fn add(&mut self, outcome: &Result<ExpertScore, Abstention>, cached: bool) {
        let Ok(judged) = outcome else {
            // A vote on another window stands.
            self.outcome.get_or_insert_with(|| outcome.clone());
            return;
        };
        self.cached = cached && (self.voted == 0 || self.cached);
        self.voted += 1;
        match &mut self.outcome {
            Some(Ok(known)) => keep_greatest(known, judged),
            other => *other = Some(outcome.clone()),
        }
    }
}

/// The outcomes of an expert that reads more than the judged turn.
#[derive(Debug, Clone, Default)]
struct ContextOutcomes {
    whole: SpanOutcome,
    history: SpanOutcome,
}

/// The outcome of one expert on a conversation, as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct ExpertOutcome {
    /// The expert is not asked: its outcome is an abstention that does not change.
    refused: bool,
    turn: SpanOutcome,
    /// `None` if the expert reads only the judged turn.
    context: Option<Box<ContextOutcomes>>,
    /// A part of the text was not read.
    truncated: bool,
    /// The last run that gave an outcome.
    pub(super) run: Option<RunSpan>,
}

impl ExpertOutcome {
    fn unknown() -> Self {
        let turn = SpanOutcome { windows: 1, ..SpanOutcome::default() };
        Self { refused: false, turn, context: None, truncated: false, run: None }
    }

    fn span(&mut self, span: &Span) -> &mut SpanOutcome {
        match span {
            Span::Turn => &mut self.turn,
            Span::Whole(_) => &mut self.context.get_or_insert_default().whole,
            Span::History(_) => &mut self.context.get_or_insert_default().history,
        }
    }

    fn add(&mut self, outcome: &Result<ExpertScore, Abstention>, span: &Span, part: PartInfo) {
        if self.refused {
            return;
        }
        self.truncated |= part.truncated;
        self.run = part.run;
        self.span(span).add(outcome, part.cached);
    }

    /// The final outcome, with the vote's flags. `default` is the abstention of an expert without an outcome.
    pub(super) fn finish(self, default: Abstention) -> (Result<ExpertScore, Abstention>, VoteFlags) {
        let Self { turn, context, mut truncated, .. } = self;
        // A window without a vote is a part that was not read.
        truncated |= turn.voted < turn.windows;
        let outcome = turn.outcome.unwrap_or(Err(default));
        let Some(context) = context else {
            return (outcome, VoteFlags { truncated, cached: turn.cached, windows: turn.voted });
        };
        let ContextOutcomes { whole, history } = *context;
        truncated |= whole.voted < whole.windows || history.voted < history.windows;
        let cached = turn.cached && whole.cached && history.cached;
        let flags = VoteFlags { truncated, cached, windows: whole.voted };
        let known = |span: SpanOutcome| span.outcome.unwrap_or(Err(default));
        let outcome = match known(history) {
            // As far as the expert can tell, there is no history.
            Err(Abstention::NothingRead) => outcome,
            history => given(outcome, known(whole), history),
        };
        (outcome, flags)
    }
}

/// The outcome of an expert by its outcomes on the judged turn, on the whole conversation and on the history. A reason
/// to abstain on one of them is a reason to abstain.
fn given(
    turn: Result<ExpertScore, Abstention>,
    whole: Result<ExpertScore, Abstention>,
    history: Result<ExpertScore, Abstention>,
) -> Result<ExpertScore, Abstention> {
    Ok(given_history(turn?, whole?, &history?))
}

/// The flags of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VoteFlags {
    pub(super) truncated: bool,
    pub(super) cached: bool,
    pub(super) windows: usize,
}

/// Raises the scores to those of another window, the total and each category's.
fn keep_greatest((score, categories): &mut ExpertScore, (other, others): &ExpertScore) {
    *score = score.max(*other);
    for found in others {
        match categories.binary_search_by(|known| known.category.cmp(&found.category)) {
            Ok(at) => categories[at].score = categories[at].score.max(found.score),
            Err(at) => categories.insert(at, found.clone()),
        }
    }
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
    pub(super) features: Option<Box<Features>>,
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
        Self { experts, default, features: None, tokens: 0, began: None, outstanding: 0 }
    }

    /// These experts abstain, whatever the results of later runs are, unless they already do.
    pub(super) fn abstain(&mut self, experts: &[usize], reason: Abstention) {
        for &expert_index in experts {
            let expert = &mut self.experts[expert_index];
            if !expert.refused {
                expert.refused = true;
                expert.turn.outcome = Some(Err(reason));
            }
        }
    }

    /// Returns `true` if the expert may still vote.
    pub(super) fn is_asked(&self, expert_index: usize) -> bool {
        !self.experts[expert_index].refused
    }

    /// These experts read the span's text in `windows` windows.
    pub(super) fn set_windows(&mut self, experts: &[usize], span: &Span, windows: usize) {
        for &expert_index in experts {
            self.experts[expert_index].span(span).windows = windows;
        }
    }

    /// These experts do not read all of the text that they should read.
    pub(super) fn set_truncated(&mut self, experts: &[usize]) {
        for &expert_index in experts {
            self.experts[expert_index].truncated = true;
        }
    }

    fn add(&mut self, result: &TextResult, span: &Span, part: PartInfo) {
        for (expert_index, outcome) in &result.outcomes {
            if span.concerns(*expert_index) {
                self.experts[*expert_index].add(outcome, span, part);
            }
        }
        if result.features.is_some() && part.gives_features {
            self.features.clone_from(&result.features);
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
