//! `/api/live`: an event for the pages whenever there is something new to read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::json;
use tokio::time::sleep;

use super::App;
use super::access::Session;

/// The least time between two events.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time after which a browser connects again.
const RETRY: Duration = Duration::from_millis(500);
/// The time after which a comment is sent, so that both sides notice a connection that is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sends the event `state` at once, and each time that something has changed: the number of the state, and the connection
/// to the brokers.
pub async fn live(
    State(app): State<Arc<App>>,
    _session: Session,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = app.feed.subscribe();
    let stream = unfold((app, changes, true), |(app, mut changes, first)| async move {
        if !first {
            sleep(INTERVAL).await;
            changes.changed().await.ok()?;
        }
        let version = *changes.borrow_and_update();
        let data = json!({ "version": version, "broker": app.feed.broker() });
        let event = Event::default().event("state").retry(RETRY).data(data.to_string());
        Some((Ok(event), (app, changes, false)))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}
