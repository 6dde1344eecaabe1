//! Turns conversations into requests for the scheduler. Each text is tokenised once for each tokenizer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Panel;
use crate::core::event::Conversation;
use crate::core::text::{is_blank, reveal};
use crate::core::vote::Abstention;
use crate::experts::backend::result::{RunError, catch_panic};
use crate::experts::cache::RequestKey;
use crate::experts::error::PanelError;
use crate::experts::loader::Model;
use crate::experts::pending::{AnswerSink, PartialAnswer, PendingAnswer};
use crate::experts::scheduler::work::{Request, Submission};
use crate::experts::tokenizer::Tokens;

/// The experts that are asked about a text even while the stream is shrunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UnderLoad {
    /// The panel's cheap experts.
    #[default]
    Cheap,
    /// All experts: the text is never shed.
    All,
    /// The models that are `true`, by their number.
    Models(Arc<[bool]>),
}

/// A conversation that the panel is asked about.
pub(super) struct Question {
    /// The key of the answer.
    pub(super) key: u64,
    /// The conversation, without the turns that no expert reads.
    pub(super) conversation: Conversation,
    /// The experts that are asked under load.
    pub(super) under_load: UnderLoad,
}

/// The options of a submission.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// If `true`, votes are wanted; otherwise only features.
    pub(super) votes: bool,
    /// If `true`, only the experts of the text's [`UnderLoad`] are asked.
    pub(super) shrunk: bool,
    /// The time that a run may take.
    pub(super) timeout: Duration,
}

/// Logs that a text could not be prepared: the first time, the second, the fourth, the eighth and so on.
fn log_unprepared(expert: &str, error: &RunError) {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    let times = TIMES.fetch_add(1, Ordering::Relaxed) + 1;
    if times.is_power_of_two() {
        let detail = error.detail.as_str();
        tracing::error!(expert, detail, times, "a text could not be prepared; its experts abstain");
    }
}

/// The tokens of one text by tokenizer; the inner `None` is a tokenizer that failed.
struct TextTokens<'a> {
    panel: &'a Panel,
    text: &'a str,
    tokens: Vec<Option<Option<Tokens>>>,
}

impl TextTokens<'_> {
    /// The tokens of a model's tokenizer. A tokenizer that fails, or panics, costs only this text's votes.
    fn of(&mut self, model: &Model) -> Option<&Tokens> {
        let (tokenizer, text) = (&self.panel.tokenizers[model.tokenizer], self.text);
        let read = || {
            let read = catch_panic(|| tokenizer.tokenize(text).map_err(RunError::failed));
            read.inspect_err(|error| log_unprepared(&model.id, error)).ok()
        };
        self.tokens[model.tokenizer].get_or_insert_with(read).as_ref()
    }
}

impl Panel {
    /// Submits conversations to the scheduler. Returns the time that it took to tokenise them.
    pub(super) fn submit(
        &self,
        sink: &Arc<AnswerSink>,
        questions: impl Iterator<Item = Question>,
        terms: Terms,
        due: impl FnOnce() -> Instant,
    ) -> Duration {
        let started = Instant::now();
        let submission = |question: Question| {
            // A conversation that cannot be prepared costs its own votes.
            catch_panic(|| Ok(self.submission(sink, &question, terms))).unwrap_or_else(|error| {
                log_unprepared("all", &error);
                let answer = PartialAnswer::new(self.experts.len(), Abstention::Failed);
                Submission::without_requests(PendingAnswer::new(sink, question.key, terms.timeout, answer, 0))
            })
        };
        let submissions = questions.map(submission).collect();
        let took = started.elapsed();
        self.scheduler.submit(submissions, due());
        took
    }

    /// Returns the choice of these experts and those that share an encoder with one of them. Rules are always asked.
    ///
    /// # Errors
    /// Returns [`PanelError::UnknownExpert`] if the panel has no expert of an id.
    pub fn under_load(&self, ids: &[String]) -> Result<UnderLoad, PanelError> {
        let index = |id: &String| self.experts.iter().position(|expert| expert.id == *id);
        if let Some(id) = ids.iter().find(|id| index(id).is_none()) {
            let known = self.experts.iter().map(|expert| expert.id.clone()).collect();
            return Err(PanelError::UnknownExpert { id: id.clone(), known });
        }
        let experts: Vec<usize> = ids.iter().filter_map(index).collect();
        let asked = |model: &Model| model.experts.iter().any(|expert| experts.contains(expert));
        Ok(UnderLoad::Models(self.models.iter().map(asked).collect()))
    }

    fn submission(&self, sink: &Arc<AnswerSink>, question: &Question, terms: Terms) -> Submission {
        let Question { key, conversation, under_load } = question;
        let (key, text) = (*key, conversation.judged_text());
        let revealed = reveal(text);
        let is_nothing = is_blank(&revealed.text);
        let default = match is_nothing {
            true if is_blank(text) => Abstention::EmptyText,
            // The hidden text in it cannot be read.
            true => Abstention::NothingRead,
            false => Abstention::TimedOut,
        };
        let mut answer = PartialAnswer::new(self.experts.len(), default);
        if is_nothing {
            return Submission::without_requests(PendingAnswer::new(sink, key, terms.timeout, answer, 0));
        }
        let text = revealed.text.as_ref();
        let mut tokens = TextTokens { panel: self, text, tokens: vec![None; self.tokenizers.len()] };
        let mut requests = Vec::new();
        let models = self.models.iter().enumerate().filter(|(_, model)| terms.votes || model.features);
        for (number, model) in models {
            let kept = match under_load {
                UnderLoad::Cheap => model.cheap,
                UnderLoad::All => true,
                UnderLoad::Models(models) => models.get(number).is_some_and(|asked| *asked),
            };
            if terms.shrunk && !kept {
                answer.abstain(&model.experts, Abstention::Overload);
                continue;
            }
            self.add_requests(number, &mut tokens, terms, &mut answer, &mut requests);
        }
        let asks_rules = terms.votes && self.scheduler.has_rules();
        let parts = requests.len() + usize::from(asks_rules);
        let answer = Arc::new(PendingAnswer::new(sink, key, terms.timeout, answer, parts));
        Submission { answer, requests, rules_text: asks_rules.then(|| text.into()) }
    }

    /// Adds a request for each window of the text that the model reads.
    fn add_requests(
        &self,
        number: usize,
        tokens: &mut TextTokens<'_>,
        terms: Terms,
        answer: &mut PartialAnswer,
        requests: &mut Vec<Request>,
    ) {
        let model = &self.models[number];
        let tokenizer = &self.tokenizers[model.tokenizer];
        let Some(tokens) = tokens.of(model) else {
            answer.abstain(&model.experts, Abstention::Failed);
            return;
        };
        answer.tokens = answer.tokens.max(tokenizer.count(tokens).unwrap_or(0));
        answer.set_windows(&model.experts, tokens.windows.len(), tokens.truncated);
        // For a window of which nothing was read, a graph would vote its bias.
        let mut windows = tokenizer.readable_windows(tokens);
        if windows.is_empty() {
            answer.abstain(&model.experts, Abstention::NothingRead);
            return;
        }
        if !terms.votes {
            // The features are those of the first window.
            windows.truncate(1);
        }
        for (place, ids) in windows.into_iter().enumerate() {
            let key = RequestKey { model: number, ids: Arc::clone(ids), votes: terms.votes };
            let cost = self.profiles[number].cost(ids.len());
            requests.push(Request { key, cost, later_window: place > 0 });
        }
    }
}
