//! The endpoints: the one list of which the router, the names in metrics and spans, and the OpenAPI document are made.

use std::sync::{Arc, LazyLock};

use axum::http::header;
use axum::routing::{MethodRouter, get, post};
use serde_json::Value;

use super::openapi::{self, Operation, reference};
use super::server::App;
use super::{agentgateway, decisions, litellm, nemo, openai};

/// An endpoint.
pub struct Endpoint {
    /// The path.
    pub path: &'static str,
    /// The name in metrics, which several paths of one API share.
    pub name: &'static str,
    /// Returns the handler, with its method.
    pub handler: fn() -> MethodRouter<Arc<App>>,
    /// The description in the OpenAPI document. `None` for the document itself.
    operation: Option<Operation>,
}

/// All endpoints.
pub static ENDPOINTS: [Endpoint; 8] = [
    Endpoint {
        path: "/v1/moderations",
        name: "moderations",
        handler: || post(openai::moderations),
        operation: Some(Operation {
            summary: "Judges texts as OpenAI's moderation API does",
            request: reference::<openai::ModerationRequest>,
            answer: reference::<openai::ModerationResponse>,
        }),
    },
    Endpoint {
        path: "/v1/decisions",
        name: "decisions",
        handler: || post(decisions::decisions),
        operation: Some(Operation {
            summary: "Decides an event in Aegis's own form",
            request: openapi::event,
            answer: openapi::decision,
        }),
    },
    Endpoint {
        path: "/beta/litellm_basic_guardrail_api",
        name: "litellm",
        handler: || post(litellm::guardrail),
        operation: Some(Operation {
            summary: "The generic guardrail API of LiteLLM",
            request: reference::<litellm::Request>,
            answer: reference::<litellm::Answer>,
        }),
    },
    Endpoint {
        path: "/request",
        name: "agentgateway",
        handler: || post(agentgateway::request),
        operation: Some(Operation {
            summary: "The guardrail webhook of agentgateway, for prompts",
            request: reference::<agentgateway::PromptRequest>,
            answer: reference::<agentgateway::Answer>,
        }),
    },
    Endpoint {
        path: "/response",
        name: "agentgateway",
        handler: || post(agentgateway::response),
        operation: Some(Operation {
            summary: "The guardrail webhook of agentgateway, for answers of a model",
            request: reference::<agentgateway::ResponseRequest>,
            answer: reference::<agentgateway::Answer>,
        }),
    },
    Endpoint {
        path: "/v1/checks",
        name: "nemo",
        handler: || post(nemo::checks),
        operation: Some(Operation {
            summary: "The checks of NeMo Guardrails",
            request: reference::<nemo::Request>,
            answer: reference::<nemo::Checked>,
        }),
    },
    Endpoint {
        path: "/v1/guardrail/checks",
        name: "nemo",
        handler: || post(nemo::checks),
        operation: Some(Operation {
            summary: "The older path of the checks of NeMo Guardrails",
            request: reference::<nemo::Request>,
            answer: reference::<nemo::Checked>,
        }),
    },
    Endpoint {
        path: "/openapi.json",
        name: "openapi",
        handler: || get(|| async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()) }),
        operation: None,
    },
];

/// The document as it is served. It is built once, because it is served without a key.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// Returns the OpenAPI document (3.1) of the endpoints.
#[must_use]
pub fn document() -> Value {
    let described =
        ENDPOINTS.iter().filter_map(|endpoint| Some((endpoint.path, endpoint.operation.as_ref()?)));
    openapi::document(described)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_refusal_and_says_which_can_be_repeated() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), ENDPOINTS.len() - 1, "all but the document itself");
        for (path, item) in paths {
            let responses = item["post"]["responses"].as_object().unwrap();
            for status in ["404", "405", "413"] {
                assert!(responses.contains_key(status), "{path}: {status}");
            }
            for (status, response) in responses {
                let says_when = response["headers"].get("Retry-After").is_some();
                assert_eq!(says_when, ["429", "503"].contains(&status.as_str()), "{path}: {status}");
            }
        }
    }
}
