//! Refusals: the answers to requests that are not decided, in the shape of OpenAI's API. They never quote a text.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// A request that is not answered with a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    param: Option<&'static str>,
    /// The seconds after which the request can be repeated.
    retry_after: Option<u64>,
}

/// The body of a refusal.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub struct Body {
    error: Detail,
}

/// The reason of a refusal.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ErrorDetail")]
struct Detail {
    /// The reason, and what to do about it.
    message: String,
    /// The kind of the error.
    #[serde(rename = "type")]
    kind: String,
    /// The field that is wrong.
    param: Option<String>,
    /// The error's name.
    code: String,
}

impl Refusal {
    /// Creates a refusal.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None }
    }

    /// Refuses the body of a request.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Refuses a body that is not JSON of the documented shape. The parser's own words are not used, because they quote.
    pub fn shape(error: &serde_json::Error) -> Self {
        let what = if error.is_data() { "has another shape than documented" } else { "is not JSON" };
        let (line, column) = (error.line(), error.column());
        let at = if line > 0 { format!(" (line {line}, column {column})") } else { String::new() };
        Self::invalid("invalid_body", format!("the body {what}{at}: /openapi.json describes it"))
    }

    /// Refuses images, which no expert can read.
    pub fn image() -> Self {
        let message =
            "images are not judged: no expert can read them; send the text alone, and check images elsewhere";
        Self::invalid("image_not_supported", message)
    }

    /// Names the field that is wrong.
    pub fn of(self, param: &'static str) -> Self {
        Self { param: Some(param), ..self }
    }

    /// Says when the request can be repeated, in seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..self }
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = self.kind().to_owned();
        let Self { status, code, message, param, retry_after } = self;
        let detail = Detail { message, kind, param: param.map(str::to_owned), code: code.to_owned() };
        let mut response = (status, Json(Body { error: detail })).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
