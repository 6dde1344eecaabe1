//! `/api/review`: the routes of the page of reviews.
//!
//! A claim's name is in the body of a request, never in a URL, and so is nothing of a message. A text leaves this process
//! only in the answers of `turns` and `part`, which no cache keeps.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::access::Session;
use super::api::ApiError;
use super::review_text::{part, window};
use crate::config::Policies;
use crate::core::label::Finding;
use crate::core::review::ReviewRequest;
use crate::review::{Failed, Next, Reviews, SendError, Served, TextError, Verdict};

/// The time within which the page gets an answer. What was begun goes on, and can be repeated safely.
const TIMEOUT: Duration = Duration::from_secs(12);
/// The greatest number of categories of an answer.
const MAX_CATEGORIES: usize = crate::codec::MAX_CATEGORIES;

/// Returns the routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/review", get(overview))
        .route("/api/review/next", post(next))
        .route("/api/review/turns", post(turns))
        .route("/api/review/part", post(text_part))
        .route("/api/review/activity", post(activity))
        .route("/api/review/answer", post(answer))
        .route("/api/review/skip", post(skip))
        .route("/api/review/unskip", post(unskip))
        .route("/api/review/undo", post(undo))
}

/// Returns what the page needs before the first request.
async fn overview(State(app): State<Arc<App>>, session: Session) -> Json<Value> {
    let policies = app.policies.now();
    let is_reviewer = session.require_reviewer().is_ok();
    let open = |policy: &str| {
        // The true number would tell a reviewer which answers are known.
        if is_reviewer { app.reviews.open_for(&session.name, policy) } else { app.reviews.open_of(policy) }
    };
    let names = policies.policies.keys().map(|name| {
        json!({
            "name": name,
            "open": open(name),
            "note": policies.reviewer_notes.get(name),
        })
    });
    let taxonomy = policies.taxonomy.iter().map(|one| json!({ "slug": one.slug, "name": one.name }));
    Json(json!({
        "reviewer": is_reviewer,
        "policies": names.collect::<Vec<_>>(),
        "taxonomy": taxonomy.collect::<Vec<_>>(),
        "hide_opinion": app.config.console.hide_opinion,
        "show_text": app.config.console.show_text,
        "behind": app.reviews.behind(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfPolicy {
    policy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfClaim {
    claim: String,
}

async fn next(
    State(app): State<Arc<App>>,
    session: Session,
    Json(body): Json<OfPolicy>,
) -> Result<Response, ApiError> {
    session.require_reviewer()?;
    if app.policies.now().get(&body.policy).is_none() {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "the policies file has no such policy"));
    }
    let shared = Arc::clone(&app);
    blocking(&app, move |reviews| {
        let next = reviews.next(&session.name, &body.policy);
        let open = || reviews.open_for(&session.name, &body.policy);
        Ok(match next {
            Ok(Next::Served(served)) => request(&shared, &served, open()),
            Ok(Next::Empty { others }) => json!({ "state": "empty", "open": open(), "others": others }),
            // A page that is opened early waits. It is no error.
            Err(Failed::Loading { progress }) => json!({ "state": "loading", "progress": progress }),
            Err(error) => return Err(error),
        })
    })
    .await
}

/// A request that was served. Whether its answer is known does not show.
fn request(app: &App, served: &Served, open: usize) -> Value {
    let opinion = (!app.config.console.hide_opinion).then(|| opinion(&served.request));
    json!({
        "state": "request",
        "claim": served.token,
        "event": served.request.id.event,
        "tenant": served.request.id.tenant,
        "policy": served.request.id.policy,
        "open": open,
        "opinion": opinion,
    })
}

/// Returns the opinion of the experts, and the reasons for the request.
fn opinion(request: &ReviewRequest) -> Value {
    let categories: Vec<_> = request
        .categories
        .iter()
        .take(5)
        .map(|one| json!({ "slug": one.category, "score": one.score }))
        .collect();
    json!({
        "probability": request.probability,
        "threshold": request.threshold,
        "action": request.action.word(),
        "reasons": request.reasons.iter().map(|reason| reason.word()).collect::<Vec<_>>(),
        "categories": categories,
    })
}

async fn activity(
    State(app): State<Arc<App>>,
    session: Session,
    Json(body): Json<OfClaim>,
) -> Result<Response, ApiError> {
    session.require_reviewer()?;
    Ok(match app.reviews.touch(&session.name, &body.claim) {
        Ok(_) => Json(json!({ "state": "held" })).into_response(),
        Err(error) => failure(&error),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnsOf {
    claim: String,
    /// The index of the first turn; without it the window begins before the judged turn.
    from: Option<usize>,
}

async fn turns(
    State(app): State<Arc<App>>,
    session: Session,
    Json(body): Json<TurnsOf>,
) -> Result<Response, ApiError> {
    require_text(&app, &session)?;
    blocking(&app, move |reviews| {
        let (_, event) = reviews.text(&session.name, &body.claim)?;
        Ok(window(&event, body.from))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartOf {
    claim: String,
    turn: usize,
    /// The number of characters before the part.
    from: usize,
}

async fn text_part(
    State(app): State<Arc<App>>,
    session: Session,
    Json(body): Json<PartOf>,
) -> Result<Response, ApiError> {
    require_text(&app, &session)?;
    blocking(&app, move |reviews| {
        let (_, event) = reviews.text(&session.name, &body.claim)?;
        Ok(part(&event, body.turn, body.from))
    })
    .await
}

/// Refuses texts to viewers, and to all if the setting is off.
fn require_text(app: &App, session: &Session) -> Result<(), ApiError> {
    session.require_reviewer()?;
    if app.config.console.show_text {
        return Ok(());
    }
    let reason = "texts are not shown: console.show_text is false";
    Err(ApiError::new(StatusCode::FORBIDDEN, reason))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    claim: String,
    verdict: String,
    #[serde(default)]
    categories: Vec<String>,
}

async fn answer(
    State(app): State<Arc<App>>,
    session: Session,
    Json(body): Json<Answer>,
) -> Result<Response, ApiError> {
    session.require_reviewer()?;
    let verdict = verdict(&app.policies.now(), &body)?;
    blocking(&app, move |reviews| {
        let (label, request) = reviews.answer(&session.name, &body.claim, &verdict)?;
        Ok(json!({
            "state": "sent",
            "verdict": label.verdict.map(Finding::word),
            "opinion": opinion(&request),
            "open": reviews.open_for(&session.name, &label.policy),
        }))
    })
    .await
}

fn verdict(policies: &Policies, body: &Answer) -> Result<Verdict, ApiError> {
    let wrong = |reason: &str| ApiError::new(StatusCode::BAD_REQUEST, reason);
    let finding = Finding::ALL.into_iter().find(|finding| finding.word() == body.verdict);
    let finding = finding.ok_or_else(|| wrong("the verdict is safe, unsafe or needs_caution"))?;
    let known = |slug: &String| policies.taxonomy.iter().any(|one| one.slug == *slug);
    if body.categories.len() > MAX_CATEGORIES || !body.categories.iter().all(known) {
        return Err(wrong("a category is not in the taxonomy of the policies file: load the page again"));
    }
    Ok(Verdict { finding, categories: body.categories.clone() })
}

async fn skip(
    State(app): State<Arc<App>>,
    session: Session,
    Json(body): Json<OfClaim>,
) -> Result<Response, ApiError> {
    session.require_reviewer()?;
    blocking(&app, move |reviews| {
        reviews.skip(&session.name, &body.claim)?;
        Ok(json!({ "state": "skipped" }))
    })
    .await
}

async fn unskip(State(app): State<Arc<App>>, session: Session) -> Result<Json<Value>, ApiError> {
    session.require_reviewer()?;
    Ok(Json(json!({ "skipped": app.reviews.forget_skipped(&session.name) })))
}

async fn undo(
    State(app): State<Arc<App>>,
    session: Session,
    Json(body): Json<OfClaim>,
) -> Result<Response, ApiError> {
    session.require_reviewer()?;
    let shared = Arc::clone(&app);
    blocking(&app, move |reviews| {
        Ok(match reviews.undo(&session.name, &body.claim)? {
            Some(served) => {
                let open = reviews.open_for(&session.name, &served.request.id.policy);
                request(&shared, &served, open)
            }
            None => json!({ "state": "undone" }),
        })
    })
    .await
}

/// Runs what waits for brokers on a thread of its own.
async fn blocking(
    app: &Arc<App>,
    work: impl FnOnce(&Reviews) -> Result<Value, Failed> + Send + 'static,
) -> Result<Response, ApiError> {
    let reviews = Arc::clone(&app.reviews);
    let running = async {
        let permit = Arc::clone(&app.review_work).acquire_owned().await;
        // The permit belongs to the work, which goes on if nothing waits for it any more.
        let run = move || {
            let _permit = permit;
            work(&reviews)
        };
        tokio::task::spawn_blocking(run).await
    };
    match tokio::time::timeout(TIMEOUT, running).await {
        Ok(Ok(Ok(value))) => Ok(Json(value).into_response()),
        Ok(Ok(Err(error))) => Ok(failure(&error)),
        Ok(Err(_)) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "a bug: see the console's log")),
        Err(_) => Ok(answer_of(
            StatusCode::SERVICE_UNAVAILABLE,
            "brokers",
            "the brokers have not answered in time: trying again is safe".into(),
        )),
    }
}

/// The answer to what failed: a refusal is 409 with its reason, and what may succeed later is 503.
fn failure(error: &Failed) -> Response {
    let (status, reason) = match error {
        Failed::Refused(refusal) => (StatusCode::CONFLICT, refusal.name()),
        Failed::Loading { .. } => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
        Failed::Send(SendError::Encode(_)) => (StatusCode::UNPROCESSABLE_ENTITY, "label"),
        Failed::Send(SendError::Commit(_) | SendError::Busy) | Failed::Text(TextError::Source(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "brokers")
        }
        Failed::Text(_) => (StatusCode::UNPROCESSABLE_ENTITY, "text"),
    };
    if status != StatusCode::CONFLICT {
        tracing::warn!(target: "console", %error, reason, "a request of the page of reviews failed");
    }
    answer_of(status, reason, error.to_string())
}

fn answer_of(status: StatusCode, reason: &str, error: String) -> Response {
    (status, Json(json!({ "error": error, "reason": reason }))).into_response()
}
