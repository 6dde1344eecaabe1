//! Guards behind OpenAI's chat completions and completions, as vLLM, SGLang, llama.cpp and Ollama serve them.
//!
//! P(unsafe) comes from the probabilities of the first token of the verdict, like that of a guard on ONNX Runtime. If the
//! server gives none, the verdict that it wrote counts as 0 or 1.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::steps::{Logprobs, Step};
use super::{Judgement, REDUCED, Sizing, parse};
use crate::core::event::{Conversation, Role};
use crate::core::vote::{Abstention, CategoryScore};
use crate::experts::backend::result::RunError;
use crate::experts::manifest::remote::GuardApi;
use crate::guards::{ChatMessage, GuardSpec, PromptError};

/// The greatest number of alternatives to a token that OpenAI's API takes.
const TOP_LOGPROBS: u32 = 20;

/// The tokens that are kept free in a prompt of a token per byte, e.g. for the one with which a server begins it.
const MARGIN: usize = 16;

/// A guard with its prompt.
pub(in crate::experts::backend::remote) struct GuardClient {
    model: String,
    spec: Arc<GuardSpec>,
    /// The messages of a chat are sent instead of a prompt.
    is_chat: bool,
    /// The categories of unsafe turns are read.
    categories: bool,
    /// The probabilities of tokens are asked for.
    logprobs: bool,
    /// The greatest size of a prompt.
    max_bytes: usize,
}

/// A prompt for a server.
struct ServerPrompt {
    /// The fields of the request that hold it.
    fields: Value,
    /// A part of the conversation was left out.
    cut: bool,
    bytes: usize,
}

#[derive(Deserialize)]
struct Response {
    model: Option<String>,
    system_fingerprint: Option<String>,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<Message>,
    text: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

/// The error of a prompt that cannot be made.
fn prompt_error(error: &PromptError) -> RunError {
    let reason =
        if matches!(error, PromptError::Role { .. }) { Abstention::WrongRole } else { Abstention::Failed };
    RunError { reason, detail: error.to_string() }
}

/// A conversation whose prompt is little more than the fixed parts.
fn shortest(judged: Role) -> Conversation {
    let mut conversation = Conversation::of_text("text");
    conversation.turns[0].role = judged;
    conversation
}

impl GuardClient {
    /// Sets up a guard, and tries its prompt for each role that it judges.
    ///
    /// # Errors
    /// Returns an error if a prompt cannot be made.
    pub(super) fn new(
        model: String,
        max_chars: Option<usize>,
        guard: &GuardApi,
    ) -> Result<Self, PromptError> {
        let spec = Arc::clone(guard.spec());
        let max_bytes = max_chars.unwrap_or(usize::MAX).min(spec.default_max_bytes());
        let (is_chat, categories, logprobs) = (guard.is_chat, guard.categories, guard.logprobs);
        let client = Self { model, spec, is_chat, categories, logprobs, max_bytes };
        for role in client.spec.judged_roles() {
            client.prompt(&shortest(*role), max_bytes)?;
        }
        Ok(client)
    }

    /// The greatest size of a prompt about a turn of this role, if each byte of the conversation may be a token. The
    /// policy stays whole, also one that the server's template holds.
    fn reduced_bytes(&self, judged: Role) -> Result<usize, PromptError> {
        let shortest = shortest(judged);
        let fixed = self.prompt(&shortest, self.max_bytes)?.bytes;
        let with_policy = self.spec.prompt_text(&shortest, usize::MAX)?.text.len();
        let room = self.spec.default_max_bytes().saturating_sub(with_policy);
        let room = room.min(self.max_bytes.saturating_sub(fixed)) / REDUCED;
        Ok(fixed + room.saturating_sub(MARGIN))
    }

    /// Makes a prompt of at most `max_bytes` bytes.
    fn prompt(&self, conversation: &Conversation, max_bytes: usize) -> Result<ServerPrompt, PromptError> {
        if !self.is_chat {
            let prompt = self.spec.prompt_text(conversation, max_bytes)?;
            let bytes = prompt.text.len();
            return Ok(ServerPrompt { fields: json!({ "prompt": prompt.text }), cut: prompt.cut, bytes });
        }
        let prompt = self.spec.chat_messages(conversation, max_bytes)?;
        let bytes = prompt.messages.iter().map(|message| message.content.len()).sum();
        let message = |message: &ChatMessage| json!({ "role": message.role, "content": message.content });
        let messages: Vec<Value> = prompt.messages.iter().map(message).collect();
        Ok(ServerPrompt { fields: json!({ "messages": messages }), cut: prompt.cut, bytes })
    }

    /// The body of a request, and whether a part of the conversation was left out.
    pub(super) fn request(
        &self,
        conversation: &Conversation,
        sizing: Sizing,
    ) -> Result<(Vec<u8>, bool), RunError> {
        let judged = conversation.judged_turn().role;
        let max_bytes = match sizing {
            Sizing::Ordinary => Ok(self.max_bytes),
            Sizing::BytePerToken => self.reduced_bytes(judged),
        };
        let prompt = max_bytes.and_then(|max_bytes| self.prompt(conversation, max_bytes));
        let prompt = prompt.map_err(|error| prompt_error(&error))?;
        let ServerPrompt { fields: mut body, cut, .. } = prompt;
        body["model"] = self.model.as_str().into();
        body["temperature"] = 0.into();
        // One token would be enough for its probability, but the server may give none, and then the text is read.
        body["max_tokens"] = self.spec.max_answer_tokens().max(1).into();
        if self.logprobs && self.is_next_token(judged) {
            if self.is_chat {
                body["logprobs"] = true.into();
                body["top_logprobs"] = TOP_LOGPROBS.into();
            } else {
                body["logprobs"] = TOP_LOGPROBS.into();
            }
        }
        Ok((body.to_string().into_bytes(), cut))
    }

    /// Returns `true` if the verdict follows the forced text, so that its probability is that of a token.
    fn is_next_token(&self, judged: Role) -> bool {
        self.spec.next_token_roles().contains(&judged)
    }

    /// Reads a response about a turn of this role.
    pub(super) fn read(&self, judged: Role, response: &[u8]) -> Result<Judgement, RunError> {
        let response: Response = parse(response)?;
        let Some(Choice { message, text, logprobs }) = response.choices.into_iter().next() else {
            return Err(RunError::shape("the response has no choice".to_owned()));
        };
        let Some(written) = message.and_then(|message| message.content).or(text) else {
            return Err(RunError::shape("the response's choice has no text".to_owned()));
        };
        let forced = if self.is_chat { "" } else { self.spec.forced_text(judged) };
        let answer = self.spec.parse_answer(judged, &format!("{forced}{written}"));
        let steps = logprobs.map(Logprobs::into_steps).unwrap_or_default();
        let by_token = self.is_next_token(judged).then(|| self.verdict_step(judged, &steps)).flatten();
        let p = match (by_token, &answer) {
            (Some(step), _) => self.probability(step)?,
            (None, Some(answer)) => f64::from(u8::from(answer.harmful)),
            (None, None) => return Err(off_template("the answer has no verdict")),
        };
        let found = answer.filter(|answer| self.categories && answer.harmful).map(|answer| answer.categories);
        let mut found = found.unwrap_or_default();
        found.sort_unstable();
        found.dedup();
        let categories = found.into_iter().map(|category| CategoryScore { category, score: p }).collect();
        let model = response.model.filter(|named| *named != self.model);
        Ok(Judgement { score: (p, categories), revision: response.system_fingerprint.or(model) })
    }

    /// The token of the verdict: the first behind the forced text, which a chat's model writes itself, that is not white
    /// space. `None` if the server gives no probabilities, or if the model wrote something else.
    fn verdict_step<'a>(&self, judged: Role, steps: &'a [Step]) -> Option<&'a Step> {
        let forced = if self.is_chat { self.spec.forced_text(judged).trim() } else { "" };
        let mut written = String::new();
        for step in steps {
            if written.trim() == forced && !step.token.trim().is_empty() {
                return (!step.top.is_empty()).then_some(step);
            }
            written.push_str(&step.token);
            if !forced.starts_with(written.trim()) {
                return None;
            }
        }
        None
    }

    /// P(unsafe) by the alternatives of the verdict's token.
    fn probability(&self, step: &Step) -> Result<f64, RunError> {
        let (mut harmful, mut safe) = (0.0_f64, 0.0_f64);
        for (token, logprob) in &step.top {
            let token = token.trim();
            let begins = |texts: &[String]| {
                !token.is_empty() && texts.iter().any(|text| text.trim().starts_with(token))
            };
            let p = logprob.min(0.0).exp();
            match (begins(self.spec.harmful_strings()), begins(self.spec.safe_strings())) {
                (true, false) => harmful += p,
                (false, true) => safe += p,
                // It is no verdict, or could become either.
                _ => {}
            }
        }
        let inside = harmful + safe;
        if !inside.is_finite() {
            return Err(RunError {
                reason: Abstention::NotFinite,
                detail: "a logprob is not finite".to_owned(),
            });
        }
        if inside <= 0.0 || 1.0 - inside > self.spec.off_template_limit() {
            return Err(off_template("the verdict's token is probably neither of the two verdicts"));
        }
        Ok((harmful / inside).clamp(0.0, 1.0))
    }
}

fn off_template(detail: &str) -> RunError {
    RunError { reason: Abstention::OffTemplate, detail: detail.to_owned() }
}
