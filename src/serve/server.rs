//! The router, and what is done with every request: its key, the bounds of its body and of its time, and its metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use crossbeam_channel::Sender;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::caller::admit;
use super::decide::{Deadline, Head, full, late};
use super::endpoints::ENDPOINTS;
use super::keys::Store;
use super::rate::Rates;
use super::recorder::RecorderHandle;
use super::refusal::Refusal;
use super::trace::RequestTrace;
use crate::config::{Config, Live};
use crate::ops::http::{Keeper, Surplus};
use crate::ops::{Traces, metrics};
use crate::panics;
use crate::score::Request;

/// The time that an answer may take beyond the deadline, for what is not decided: a body that arrives slowly.
pub const GRACE: Duration = Duration::from_millis(500);

/// The state that all requests share.
pub struct App {
    /// The configuration.
    pub config: Arc<Config>,
    /// The policies in force.
    pub policies: Live,
    /// The API keys, or `None` if every program on this machine is answered.
    pub keys: Option<Store>,
    /// Takes the events to be decided.
    pub requests: Sender<Request>,
    /// Takes the events that were decided, if they are recorded.
    pub recorder: Option<RecorderHandle>,
    /// A permit for each text that may be accepted and not answered.
    pub queue: Semaphore,
    /// The spans of requests.
    traces: Arc<Traces>,
    rates: Mutex<Rates>,
}

impl App {
    /// Creates the state of a server.
    pub fn new(
        config: &Arc<Config>,
        policies: Live,
        keys: Option<Store>,
        requests: Sender<Request>,
        recorder: Option<RecorderHandle>,
        traces: Arc<Traces>,
    ) -> Self {
        let settings = &config.http.moderation;
        let queue = Semaphore::new(settings.queue);
        let rates = Mutex::new(Rates::new(settings.requests_per_minute));
        Self { config: Arc::clone(config), policies, keys, requests, recorder, queue, traces, rates }
    }

    /// Returns the limits of the keys.
    pub fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an admitted request, with its head.
pub struct Body {
    /// The head.
    pub head: Head,
    /// The body, within its bound.
    pub bytes: Bytes,
}

impl FromRequest<Arc<App>> for Body {
    type Rejection = Refusal;

    async fn from_request(request: HttpRequest, app: &Arc<App>) -> Result<Self, Refusal> {
        let caller = admit(app, request.headers())?;
        let trace = request.extensions().get::<Arc<RequestTrace>>().cloned().unwrap_or_default();
        trace.admit();
        let is_json = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !is_json.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"))
        {
            let message = "send JSON, with content-type: application/json";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_body", message));
        }
        let deadline = request.extensions().get::<Deadline>().copied();
        let deadline =
            deadline.unwrap_or_else(|| Deadline(Instant::now() + app.config.http.moderation.deadline()));
        let head = Head::new(caller, deadline, trace, request.headers())?;
        let bytes = Bytes::from_request(request, app).await.map_err(|error| {
            let limit = app.config.http.moderation.max_body_bytes;
            if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let message = format!("the body has more than {limit} bytes: send less text at a time");
                return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message);
            }
            Refusal::invalid("invalid_body", "the body ended too early")
        })?;
        Ok(Self { head, bytes })
    }
}

/// Returns the router of all endpoints.
pub fn router(app: Arc<App>) -> Router {
    let missing = || async {
        let message = "there is no such endpoint: /openapi.json lists them";
        Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
    };
    let wrong_method = || async {
        let message = "this endpoint takes another method: /openapi.json lists them";
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    };
    let endpoints = ENDPOINTS.iter();
    let router = endpoints.fold(Router::new(), |router, one| router.route(one.path, (one.handler)()));
    router
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(app.config.http.moderation.max_body_bytes))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), finish))
        .with_state(app)
}

/// Bounds the time of an answer, survives a panic, counts, and sends the spans.
async fn finish(
    State(app): State<Arc<App>>,
    Extension(keeper): Extension<Keeper>,
    mut request: HttpRequest,
    next: Next,
) -> Response {
    // Clients keep their connections, so that the oldest one may well be in use. If all are, further ones are refused.
    let is_surplus = request.extensions().get::<Surplus>().is_some();
    let _kept = keeper.keep();
    let started = Instant::now();
    let deadline = started + app.config.http.moderation.deadline();
    let path = request.uri().path();
    let found = ENDPOINTS.iter().find(|endpoint| endpoint.path == path);
    let (route, endpoint) = found.map_or(("", "other"), |endpoint| (endpoint.path, endpoint.name));
    let (method, trace) =
        (request.method().clone(), Arc::new(RequestTrace::of(&app.traces, request.headers())));
    request.extensions_mut().insert(Deadline(deadline));
    request.extensions_mut().insert(Arc::clone(&trace));
    let failed = || {
        let message = "the server failed: its log says where";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message).into_response()
    };
    let work = async {
        if is_surplus {
            return full("all connections are in use").into_response();
        }
        panics::survive_future(next.run(request)).await.unwrap_or_else(|_| failed())
    };
    let mut response = timeout_at(deadline + GRACE, work).await.unwrap_or_else(|_| late().into_response());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    metrics::HTTP_REQUESTS.with([endpoint, outcome(response.status())]).increment(1);
    metrics::HTTP_SECONDS.with([endpoint]).record(started.elapsed().as_secs_f64());
    let waiting = app.config.http.moderation.queue.saturating_sub(app.queue.available_permits());
    #[expect(clippy::cast_precision_loss, reason = "the queue is short")]
    metrics::HTTP_WAITING.with([]).set(waiting as f64);
    trace.finish(&app.traces, &method, route, response.status(), started.into_std());
    response
}

/// Returns the outcome of a request in metrics.
fn outcome(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "unauthorized",
        StatusCode::TOO_MANY_REQUESTS => "limited",
        StatusCode::SERVICE_UNAVAILABLE => "full",
        StatusCode::GATEWAY_TIMEOUT => "late",
        status if status.is_success() => "answered",
        status if status.is_client_error() => "invalid",
        _ => "failed",
    }
}
