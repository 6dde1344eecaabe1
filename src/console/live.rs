//! `/api/live`: an event for the pages whenever there is something new to read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::json;
use tokio::time::sleep;

use super::App;
use super::access::Session;
use super::api::ApiError;
use crate::ops::http::Keeper;

/// The least time between two events.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time after which a browser connects again.
const RETRY: Duration = Duration::from_millis(500);
/// The time after which a comment is sent, so that both sides notice a connection that is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sends the event `state` at once, and each time that something has changed: the number of the state, and the connection
/// to the brokers. The connection is kept while further ones replace others.
///
/// # Errors
/// Returns 503 if too many pages are open: the page then asks by itself, and tries again.
pub async fn live(
    State(app): State<Arc<App>>,
    Extension(keeper): Extension<Keeper>,
    _session: Session,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let permit = Arc::clone(&app.live_pages).try_acquire_owned();
    let permit = permit
        .map_err(|_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open: close some"))?;
    let held = (permit, keeper.keep());
    let changes = app.feed.subscribe();
    let stream = unfold((app, changes, true, held), |(app, mut changes, first, held)| async move {
        if !first {
            sleep(INTERVAL).await;
            changes.changed().await.ok()?;
        }
        let version = *changes.borrow_and_update();
        let data = json!({ "version": version, "broker": app.feed.broker() });
        let event = Event::default().event("state").retry(RETRY).data(data.to_string());
        Some((Ok(event), (app, changes, false, held)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
