//! The requests that callers submit, and the work that workers take.

use std::sync::Arc;
use std::time::Instant;

use crate::core::vote::Abstention;
use crate::experts::backend::ModelBackend;
use crate::experts::backend::remote::RemoteRequest;
use crate::experts::backend::result::TextResult;
use crate::experts::backend::rules::RulesText;
use crate::experts::backend::run::InFlightRun;
use crate::experts::cache::RequestKey;
use crate::experts::pending::outcome::Span;
use crate::experts::pending::{PartInfo, PendingAnswer, RunSpan};

/// One request of a conversation: a window for a model.
pub(crate) struct Request {
    pub(crate) key: RequestKey,
    /// The cost of the window when it runs alone, in tokens.
    pub(crate) cost: usize,
    /// The text of which it is a window.
    pub(crate) span: Span,
    /// Its features are those of the conversation: it is the first window of the judged turn.
    pub(crate) gives_features: bool,
    /// The request to a remote expert.
    pub(crate) remote: Option<RemoteRequest>,
}

/// A text with all of its requests.
pub(crate) struct Submission {
    pub(crate) answer: Arc<PendingAnswer>,
    pub(crate) requests: Vec<Request>,
    /// The text for the rules, if they are asked. It is one more part of the answer.
    pub(crate) rules_text: Option<RulesText>,
}

impl Submission {
    /// A text about which no expert is asked.
    pub(crate) fn without_requests(answer: PendingAnswer) -> Self {
        Self { answer: Arc::new(answer), requests: Vec::new(), rules_text: None }
    }
}

/// A job of the rules experts. All of them read it in one job, so that it is folded once.
pub(crate) struct RulesJob {
    pub(crate) answer: Arc<PendingAnswer>,
    pub(crate) text: RulesText,
}

/// The work of a run.
pub(crate) enum Work {
    /// A batch for a model. The experts in `except` are not asked and abstain with these reasons.
    Batch { model: usize, keys: Vec<RequestKey>, padded: usize, except: Vec<(usize, Abstention)> },
    /// Texts for the rules.
    Rules { jobs: Vec<RulesJob> },
}

/// The results of a text of a rules job.
pub(crate) type RulesResult = (Arc<PendingAnswer>, TextResult);

/// The next job of a worker.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) run: Arc<InFlightRun>,
    /// The backends that the worker installs first, by model.
    pub(crate) reloaded: Vec<(usize, ModelBackend)>,
}

/// An answer that waits for a run.
#[derive(Clone)]
pub(crate) struct Waiter {
    pub(crate) answer: Arc<PendingAnswer>,
    /// The text of which the run's text is a window.
    pub(crate) span: Span,
    /// The run's features are those of the conversation.
    pub(crate) gives_features: bool,
}

impl Waiter {
    /// Adds the run's result. `cached`: the run was made for another text.
    pub(crate) fn add(&self, result: &TextResult, cached: bool, run: Option<RunSpan>) {
        let (truncated, gives_features) = (result.truncated || result.incomplete, self.gives_features);
        self.answer.add(result, &self.span, PartInfo { truncated, cached, gives_features, run });
    }
}

/// The run that a worker executes.
pub(crate) struct WorkerRun {
    pub(crate) run: Arc<InFlightRun>,
    /// The requests of a batch; empty for rules.
    pub(crate) keys: Vec<RequestKey>,
    /// The experts that are not asked.
    pub(crate) except: Vec<usize>,
    pub(crate) began: Instant,
    /// Bytes that the process had resident at the start; `None` without a limit, or if the system does not tell.
    pub(crate) resident: Option<usize>,
    pub(crate) cancelled: Option<Instant>,
}

impl WorkerRun {
    /// The model of a batch; `None` for rules.
    pub(crate) fn model(&self) -> Option<usize> {
        self.keys.first().map(|key| key.model)
    }

    /// The run's span, if it ends now.
    pub(crate) fn span(&self, now: Instant) -> RunSpan {
        RunSpan { began: self.began, ended: now }
    }
}
