//! The forms of requests and responses, one for each protocol.

mod json;
mod moderations;

use self::json::JsonApi;
use crate::core::event::Conversation;
use crate::experts::backend::result::RunError;
use crate::experts::error::PanelError;
use crate::experts::manifest::Scores;
use crate::experts::manifest::remote::{Api, Remote};
use crate::experts::scores::ExpertScore;

/// What a response says.
#[derive(Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) score: ExpertScore,
    /// What the server says about its model. It has any length and any characters.
    pub(super) revision: Option<String>,
}

/// The protocol of an expert.
pub(super) enum ApiClient {
    Moderations { model: String, scores: Scores },
    Json(JsonApi),
}

impl ApiClient {
    /// Sets up the protocol.
    ///
    /// # Errors
    /// Returns an error if a template cannot be used.
    pub(super) fn new(id: &str, remote: &Remote) -> Result<Self, PanelError> {
        let model = remote.endpoint.model.clone();
        Ok(match &remote.api {
            Api::Moderations { scores } => Self::Moderations { model, scores: scores.clone() },
            Api::Json { body, scores } => {
                let api = JsonApi::new(model, body, scores.clone());
                Self::Json(api.map_err(|misfit| misfit.of(id))?)
            }
        })
    }

    /// The body of a request about a conversation.
    pub(super) fn request(&self, conversation: &Conversation) -> Result<Vec<u8>, RunError> {
        match self {
            Self::Moderations { model, .. } => Ok(moderations::request(model, conversation)),
            Self::Json(api) => api.request(conversation),
        }
    }

    /// Reads a response.
    pub(super) fn read(&self, response: &[u8]) -> Result<Judgement, RunError> {
        match self {
            Self::Moderations { model, scores } => moderations::read(model, scores, response),
            Self::Json(api) => api.read(response),
        }
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
