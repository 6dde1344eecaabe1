//! The outcome of one expert on a conversation, put together from the texts that it reads and their windows.

use std::sync::Arc;

use super::{PartInfo, RunSpan};
use crate::core::vote::Abstention;
use crate::experts::given_history::given_history;
use crate::experts::scores::ExpertScore;

/// The text that a part of an answer is about.
#[derive(Debug, Clone)]
pub(in crate::experts) enum Span {
    /// The judged turn. All experts of the model read it.
    Turn,
    /// The conversation up to the judged turn, with that turn. These experts read it.
    Whole(Arc<[usize]>),
    /// The conversation up to the judged turn, without that turn. These experts read it.
    History(Arc<[usize]>),
}

impl Span {
    /// Returns `true` if the part counts for this expert. A model's run has the outcomes of all of its experts.
    pub(super) fn concerns(&self, expert_index: usize) -> bool {
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
pub(in crate::experts) struct ExpertOutcome {
    /// The expert is not asked: its outcome is an abstention that does not change.
    refused: bool,
    turn: SpanOutcome,
    /// `None` if the expert reads only the judged turn.
    context: Option<Box<ContextOutcomes>>,
    /// A part of the text was not read.
    truncated: bool,
    /// The last run that gave an outcome.
    pub(in crate::experts) run: Option<RunSpan>,
    /// The revision of a remote expert's vote.
    pub(in crate::experts) revision: Option<Arc<str>>,
}

impl ExpertOutcome {
    pub(super) fn unknown() -> Self {
        let turn = SpanOutcome { windows: 1, ..SpanOutcome::default() };
        Self { refused: false, turn, context: None, truncated: false, run: None, revision: None }
    }

    /// The expert abstains, whatever the results of later runs are, unless it already does.
    pub(super) fn refuse(&mut self, reason: Abstention) {
        if !self.refused {
            self.refused = true;
            self.turn.outcome = Some(Err(reason));
        }
    }

    /// Returns `true` if the expert may still vote.
    pub(super) fn is_asked(&self) -> bool {
        !self.refused
    }

    /// The expert reads the span's text in `windows` windows.
    pub(super) fn set_windows(&mut self, span: &Span, windows: usize) {
        self.span(span).windows = windows;
    }

    /// The expert does not read all of the text that it should read.
    pub(super) fn set_truncated(&mut self) {
        self.truncated = true;
    }

    fn span(&mut self, span: &Span) -> &mut SpanOutcome {
        match span {
            Span::Turn => &mut self.turn,
            Span::Whole(_) => &mut self.context.get_or_insert_default().whole,
            Span::History(_) => &mut self.context.get_or_insert_default().history,
        }
    }

    pub(super) fn add(&mut self, outcome: &Result<ExpertScore, Abstention>, span: &Span, part: PartInfo) {
        if self.refused {
            return;
        }
        self.truncated |= part.truncated;
        self.run = part.run;
        self.span(span).add(outcome, part.cached);
    }

    /// The final outcome, with the vote's flags. `default` is the abstention of an expert without an outcome.
    pub(in crate::experts) fn finish(
        self,
        default: Abstention,
    ) -> (Result<ExpertScore, Abstention>, VoteFlags) {
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
pub(in crate::experts) struct VoteFlags {
    pub(in crate::experts) truncated: bool,
    pub(in crate::experts) cached: bool,
    pub(in crate::experts) windows: usize,
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
