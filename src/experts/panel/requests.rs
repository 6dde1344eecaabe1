//! Makes the requests of one conversation, model by model. Each text is tokenised once for each tokenizer.
//!
//! Every model is asked about the judged turn. For each view of its experts that reads more, it is also asked about the
//! whole conversation and about the history alone, if there is a history.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Panel;
use super::ask::Terms;
use crate::core::event::{Conversation, Turn};
use crate::core::text::reveal;
use crate::core::vote::Abstention;
use crate::experts::backend::remote::{RemoteExpert, RemoteRequests};
use crate::experts::backend::result::{RunError, catch_panic};
use crate::experts::cache::RequestKey;
use crate::experts::manifest::View;
use crate::experts::pending::PartialAnswer;
use crate::experts::pending::outcome::Span;
use crate::experts::prompts::GuardPrompts;
use crate::experts::scheduler::work::Request;
use crate::experts::tokenizer::Tokens;
use crate::experts::tokenizer::context::{ContextTokens, WithHistory};
use crate::guards::PromptError;

/// Logs that a text could not be prepared: the first time, the second, the fourth, the eighth and so on.
pub(super) fn log_unprepared(expert: &str, error: &RunError) {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    let times = TIMES.fetch_add(1, Ordering::Relaxed) + 1;
    if times.is_power_of_two() {
        let detail = error.detail.as_str();
        tracing::error!(expert, detail, times, "a text could not be prepared; its experts abstain");
    }
}

/// Tokenises for a model. A tokenizer that fails, or panics, costs only this conversation's votes.
fn prepared<T>(model: &str, tokenize: impl FnOnce() -> Result<T, tokenizers::Error>) -> Option<Arc<T>> {
    let tokens = catch_panic(|| tokenize().map_err(RunError::failed));
    tokens.inspect_err(|error| log_unprepared(model, error)).ok().map(Arc::new)
}

/// The requests of a conversation, while they are made.
pub(super) struct QuestionRequests<'a> {
    panel: &'a Panel,
    conversation: &'a Conversation,
    /// The judged text, with what was hidden in it.
    judged: &'a str,
    terms: Terms,
    /// The tokens of the judged turn by tokenizer. `None`: the tokenizer failed.
    turns: HashMap<usize, Option<Arc<Tokens>>>,
    /// The tokens of the conversation by tokenizer and view.
    contexts: HashMap<(usize, View), Option<Arc<ContextTokens>>>,
    pub(super) requests: Vec<Request>,
}

impl<'a> QuestionRequests<'a> {
    /// Starts without requests. `judged`: the judged text, with what was hidden in it.
    pub(super) fn new(
        panel: &'a Panel,
        conversation: &'a Conversation,
        judged: &'a str,
        terms: Terms,
    ) -> Self {
        let (turns, contexts) = (HashMap::new(), HashMap::new());
        Self { panel, conversation, judged, terms, turns, contexts, requests: Vec::new() }
    }

    /// Adds the requests for a model that reads text. `gives_features`: the features of the judged turn are wanted of it.
    pub(super) fn add_model(&mut self, number: usize, gives_features: bool, answer: &mut PartialAnswer) {
        let model = &self.panel.models[number];
        if let Some(remote) = self.panel.remotes.get(&number) {
            self.add_remote(number, remote, answer);
            return;
        }
        if let Some(prompts) = &self.panel.prompts[number] {
            self.add_prompt(number, prompts, answer);
            return;
        }
        let (index, tokenizer) = self.panel.tokenizer(model);
        let read = || prepared(&model.id, || tokenizer.tokenize(self.judged));
        let Some(tokens) = self.turns.entry(index).or_insert_with(read).clone() else {
            answer.abstain(&model.experts, Abstention::Failed);
            return;
        };
        if tokens.truncated {
            answer.set_truncated(&model.experts);
        }
        let first = self.requests.len();
        self.add_windows(number, &tokens, &Span::Turn, &model.experts, answer);
        // The features are those of the first window.
        if let Some(request) = self.requests.get_mut(first) {
            request.gives_features = gives_features;
            if gives_features && model.is_partner() {
                answer.features.expect_partner();
            }
        } else {
            // For a window of which nothing was read, a graph would vote its bias.
            answer.abstain(&model.experts, Abstention::NothingRead);
            return;
        }
        if self.terms.votes {
            for (view, experts) in &model.views {
                self.add_view(number, *view, experts, tokens.truncated, answer);
            }
        }
    }

    /// Adds the request for a guard, whose prompt shows the conversation as far as its view goes.
    fn add_prompt(&mut self, number: usize, prompts: &GuardPrompts, answer: &mut PartialAnswer) {
        let model = &self.panel.models[number];
        let tokens = match catch_panic(|| Ok(prompts.encode(self.conversation))) {
            Ok(Ok(tokens)) => tokens,
            Ok(Err(PromptError::Role { .. })) => {
                answer.abstain(&model.experts, Abstention::WrongRole);
                return;
            }
            Ok(Err(error)) => {
                log_unprepared(&model.id, &RunError::failed(error));
                answer.abstain(&model.experts, Abstention::Failed);
                return;
            }
            Err(error) => {
                log_unprepared(&model.id, &error);
                answer.abstain(&model.experts, Abstention::Failed);
                return;
            }
        };
        if tokens.cut {
            answer.set_truncated(&model.experts);
        }
        answer.tokens = answer.tokens.max(tokens.count);
        let cost = self.panel.profiles[number].cost(tokens.ids.len());
        let key = RequestKey { model: number, ids: tokens.ids, votes: self.terms.votes };
        self.requests.push(Request { key, cost, span: Span::Turn, gives_features: false, remote: None });
    }

    /// Adds the requests to a remote expert, which gets the conversation as far as its view goes.
    fn add_remote(&mut self, number: usize, remote: &RemoteExpert, answer: &mut PartialAnswer) {
        let experts: Arc<[usize]> = [remote.expert_index].into();
        let judged = Turn { role: self.conversation.judged_turn().role, text: self.judged.to_owned() };
        let seen = |turn: &Turn| Turn { role: turn.role, text: reveal(&turn.text).text.into_owned() };
        let history = || remote.view.history(self.conversation).iter().map(seen).collect();
        let RemoteRequests { turn, with_history } = match catch_panic(|| remote.prepare(history(), judged)) {
            Ok(requests) => requests,
            Err(error) => {
                log_unprepared(&self.panel.models[number].id, &error);
                answer.abstain(&experts, error.reason);
                return;
            }
        };
        let mut requests = vec![(Span::Turn, turn)];
        if let Some((whole, history)) = with_history {
            requests.push((Span::Whole(Arc::clone(&experts)), whole));
            requests.push((Span::History(Arc::clone(&experts)), history));
        }
        for (span, request) in requests {
            if request.truncated {
                answer.set_truncated(&experts);
            }
            answer.set_windows(&experts, &span, 1);
            let key = RequestKey { model: number, ids: Arc::clone(&request.ids), votes: true };
            self.requests.push(Request { key, cost: 1, span, gives_features: false, remote: Some(request) });
        }
    }

    /// Adds the requests for the experts of a model that read more than the judged turn.
    fn add_view(
        &mut self,
        number: usize,
        view: View,
        experts: &Arc<[usize]>,
        is_turn_truncated: bool,
        answer: &mut PartialAnswer,
    ) {
        if !experts.iter().any(|expert| answer.is_asked(*expert)) {
            return;
        }
        let model = &self.panel.models[number];
        let (index, tokenizer) = self.panel.tokenizer(model);
        let (history, role) = (view.history(self.conversation), self.conversation.judged_turn().role);
        let read = || {
            let judged = (role, self.judged);
            prepared(&model.id, || tokenizer.tokenize_context(history, judged, is_turn_truncated))
        };
        let Some(context) = self.contexts.entry((index, view)).or_insert_with(read).clone() else {
            answer.abstain(experts, Abstention::Failed);
            return;
        };
        if context.cut {
            answer.set_truncated(experts);
        }
        if let Some(WithHistory { whole, history }) = &context.read {
            self.add_windows(number, whole, &Span::Whole(Arc::clone(experts)), experts, answer);
            self.add_windows(number, history, &Span::History(Arc::clone(experts)), experts, answer);
        }
    }

    /// Adds a request for each window of which the model can read something.
    fn add_windows(
        &mut self,
        number: usize,
        tokens: &Tokens,
        span: &Span,
        experts: &[usize],
        answer: &mut PartialAnswer,
    ) {
        let (_, tokenizer) = self.panel.tokenizer(&self.panel.models[number]);
        answer.tokens = answer.tokens.max(tokenizer.count(tokens).unwrap_or(0));
        answer.set_windows(experts, span, tokens.windows.len());
        let mut windows = tokenizer.readable_windows(tokens);
        if !self.terms.votes {
            // The features are those of the first window.
            windows.truncate(1);
        }
        for ids in &windows {
            let key = RequestKey { model: number, ids: Arc::clone(ids), votes: self.terms.votes };
            let cost = self.panel.profiles[number].cost(ids.len());
            self.requests.push(Request {
                key,
                cost,
                span: span.clone(),
                gives_features: false,
                remote: None,
            });
        }
    }
}
