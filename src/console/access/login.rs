//! `/api/login`, `/api/logout` and `/api/session`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::identify::{COOKIE, cookie, text};
use super::sessions::MAX_AGE;
use super::{ApiError, Session};
use crate::console::App;
use crate::ops::http::Peer;

/// Returns the routes.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/session", get(session))
        .route("/api/login", post(login))
        .route("/api/logout", post(logout))
}

/// The body of a login. The name can be empty if the secret is a token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    #[serde(default)]
    name: String,
    secret: String,
}

/// Returns the user, the CSRF token, and what the pages need to know about the configuration.
async fn session(State(app): State<Arc<App>>, session: Session) -> Json<Value> {
    Json(json!({
        "name": session.name,
        "role": session.role.word(),
        "csrf": app.access.csrf(&session.name),
        "login": app.access.has_login(),
        "show_text": app.config.console.show_text,
    }))
}

async fn login(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<Response, ApiError> {
    if !app.access.has_login() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "this console has no credentials, and needs no login",
        ));
    }
    let peer = peer.map(|Extension(peer)| peer.0.ip());
    let entry = app.access.verify(Some(&login.name), &login.secret, peer).await?;
    let value = app.access.sessions().begin(&entry.name, entry.fingerprint(), Instant::now());
    tracing::info!(user = entry.name, role = entry.role.word(), "logged in to the console");
    let body = Json(json!({ "name": entry.name, "role": entry.role.word() }));
    Ok((StatusCode::OK, [(header::SET_COOKIE, set_cookie(&headers, &value, MAX_AGE.as_secs()))], body)
        .into_response())
}

async fn logout(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers) {
        app.access.sessions().end(cookie);
    }
    ([(header::SET_COOKIE, set_cookie(&headers, "", 0))], Json(json!({}))).into_response()
}

/// Returns the header that sets the session's cookie. Scripts cannot read it, and other sites cannot make a browser send it.
fn set_cookie(headers: &HeaderMap, value: &str, seconds: u64) -> String {
    let secure = if text(headers, "x-forwarded-proto") == Some("https") { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}
