//! The forms of requests and responses, one for each protocol.

mod guard;
mod json;
mod moderations;
mod steps;

use self::guard::GuardClient;
use self::json::JsonApi;
use super::excerpt::Excerpt;
use crate::core::event::{Conversation, Role};
use crate::experts::backend::result::RunError;
use crate::experts::error::{Misfit, PanelError};
use crate::experts::manifest::Scores;
use crate::experts::manifest::remote::{Api, Remote};
use crate::experts::scores::ExpertScore;
use crate::guards::PromptError;

/// The content of a response.
#[derive(Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) score: ExpertScore,
    /// The server's description of its model. It has any length and any characters.
    pub(super) revision: Option<String>,
}

/// The protocol of an expert.
pub(super) enum ApiClient {
    Moderations { model: String, scores: Scores },
    Json(Box<JsonApi>),
    Guard(GuardClient),
}

/// The body of a request.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// A part of the conversation was left out.
    pub(super) truncated: bool,
}

/// The characters of a conversation that are sent if the manifest does not say so. A guard's context says it.
pub(super) const MAX_CHARS: usize = 16_000;
/// The part of the usual size that is sent if each byte may be a token.
const REDUCED: usize = 3;

/// The assumption about a text by which its size is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizing {
    /// A token has about three bytes.
    Ordinary,
    /// Each byte may be a token, as in a text of symbols.
    BytePerToken,
}

impl ApiClient {
    /// Sets up the protocol.
    ///
    /// # Errors
    /// Returns an error if a template cannot be used.
    pub(super) fn new(id: &str, remote: &Remote) -> Result<Self, PanelError> {
        let model = remote.endpoint.model.clone();
        let max_chars = remote.endpoint.max_chars;
        Ok(match &remote.api {
            Api::Moderations { scores } => Self::Moderations { model, scores: scores.clone() },
            Api::Json { body, scores } => {
                let api = JsonApi::new(model, body, scores.clone());
                Self::Json(Box::new(api.map_err(|misfit| misfit.of(id))?))
            }
            Api::Guard(guard) => {
                let client = GuardClient::new(model, max_chars, guard);
                Self::Guard(client.map_err(|error| refused(&error).of(id))?)
            }
        })
    }

    /// Returns `true` if a request says which turn is judged. The other APIs judge a text as a whole.
    pub(super) fn is_guard(&self) -> bool {
        matches!(self, Self::Guard(_))
    }

    /// The body of a request about a conversation, whose last turn is judged.
    pub(super) fn request(
        &self,
        max_chars: usize,
        conversation: &Conversation,
        sizing: Sizing,
    ) -> Result<Body, RunError> {
        let max_chars = match sizing {
            Sizing::Ordinary => max_chars,
            Sizing::BytePerToken => max_chars.div_ceil(REDUCED),
        };
        let excerpt = || Excerpt::of(conversation.history(), conversation.judged_turn().clone(), max_chars);
        let (bytes, truncated) = match self {
            Self::Moderations { model, .. } => {
                let Excerpt { conversation, truncated } = excerpt();
                (moderations::request(model, &conversation), truncated)
            }
            Self::Json(api) => {
                let Excerpt { conversation, truncated } = excerpt();
                (api.request(&conversation)?, truncated)
            }
            // The spec says which turns a prompt shows, and cuts them.
            Self::Guard(guard) => guard.request(conversation, sizing)?,
        };
        Ok(Body { bytes, truncated })
    }

    /// Reads a response about a turn of this role.
    pub(super) fn read(&self, judged: Role, response: &[u8]) -> Result<Judgement, RunError> {
        match self {
            Self::Guard(guard) => guard.read(judged, response),
            Self::Moderations { model, scores } => moderations::read(model, scores, response),
            Self::Json(api) => api.read(response),
        }
    }
}

/// The error of a guard whose prompt cannot be made.
fn refused(error: &PromptError) -> Misfit {
    match error {
        PromptError::NoChat { .. } => {
            let remedy = "set it to \"completions\", and endpoint.url to the path of that API";
            Misfit::new("endpoint.protocol", error.to_string(), remedy)
        }
        PromptError::NoRoom { .. } => {
            Misfit::new("endpoint.max_chars", error.to_string(), "raise it, or remove it")
        }
        _ => Misfit::new("prompt.spec", error.to_string(), "correct the spec"),
    }
}

/// Parses a response. Its text is not part of the error.
fn parse<T: serde::de::DeserializeOwned>(response: &[u8]) -> Result<T, RunError> {
    serde_json::from_slice(response).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => "is not of the form that endpoint.protocol says",
            _ => "is not JSON",
        };
        RunError::shape(format!("the response {kind}, line {} column {}", error.line(), error.column()))
    })
}

/// Scores a row of numbers, one for each label.
fn score(scores: &Scores, row: &[f32]) -> Result<ExpertScore, RunError> {
    scores.score_row(row).map_err(|reason| RunError {
        reason,
        detail: "a score of the response is not a probability".to_owned(),
    })
}
