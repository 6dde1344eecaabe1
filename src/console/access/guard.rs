//! The guard of `/api`, which refuses requests without a user, and forged ones.
//!
//! A browser sends a session's cookie, basic credentials and what a proxy adds with every request, also with those that
//! another site makes it send. So a request that changes something must carry the CSRF token, which other sites cannot read,
//! and must not come from another origin. A bearer token is never sent by itself, and needs no CSRF token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::identify::{Proof, text};
use super::{Access, ApiError, Session};
use crate::access::secrets;
use crate::console::App;
use crate::ops::http::Peer;

/// The header with the CSRF token.
pub const CSRF_HEADER: &str = "x-aegis-csrf";
/// The paths that need no session. They still need the header of the CSRF token, which another site cannot send.
const OPEN: [&str; 2] = ["/api/login", "/api/logout"];

/// Finds the session of a request, and refuses forged ones.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admit(&app.access, &parts).await {
        Ok(session) => {
            if let Some(session) = session {
                parts.extensions.insert(session);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    }
}

/// Returns the session, or `None` for a request that needs none.
async fn admit(access: &Access, request: &Parts) -> Result<Option<Session>, ApiError> {
    let headers = &request.headers;
    let changes = !matches!(request.method, Method::GET | Method::HEAD);
    if changes {
        check_origin(headers)?;
    }
    let open = OPEN.contains(&request.uri.path());
    if open {
        if changes && text(headers, CSRF_HEADER).is_none() {
            return Err(forged());
        }
        return Ok(None);
    }
    let peer = request.extensions.get::<Peer>().map(|peer| peer.0.ip());
    let (session, proof) = access.identify(headers, peer).await?;
    if changes && matches!(proof, Proof::Ambient) {
        let sent = text(headers, CSRF_HEADER).unwrap_or_default();
        if !secrets::equal(sent.as_bytes(), access.csrf(&session.name).as_bytes()) {
            return Err(forged());
        }
    }
    Ok(Some(session))
}

fn forged() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "the request does not come from this console's pages: load the page again",
    )
}

/// Refuses a request that another site makes a browser send.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    match text(headers, header::ORIGIN.as_str()) {
        Some(origin) => {
            let from = origin.split_once("://").map_or("", |(_, host)| host);
            // Proxies may set another Host. Another site can send neither of the two.
            let own = [header::HOST.as_str(), "x-forwarded-host"].map(|name| text(headers, name));
            if !from.is_empty() && own.into_iter().flatten().any(|host| host.eq_ignore_ascii_case(from)) {
                return Ok(());
            }
            Err(forged())
        }
        // Programs send no Origin. Browsers send it, or at least this one.
        None => match text(headers, "sec-fetch-site") {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) => Err(forged()),
        },
    }
}

#[cfg(test)]
mod tests;
