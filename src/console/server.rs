//! The server of the console.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use super::access::{self, Access, CredentialsError};
use super::api::ApiError;
use super::feed::{self, Feed};
use super::{App, live, pages, review};
use crate::config::{Config, Live};
use crate::kafka::Connection;
use crate::ops::http::{Limits, ServeError, Server};
use crate::panics;
use crate::registry::RegistryError;
use crate::review::{Following, ReviewError, Reviews};

/// The number of connections. A browser holds up to six, one of them for events.
pub const MAX_CONNECTIONS: usize = 64;
/// The number of pages that follow the console's state at the same time. Their connections are kept, and the others are for
/// requests.
const MAX_LIVE_PAGES: usize = 48;
/// The number of operations of reviewers that run at the same time.
const MAX_REVIEW_WORK: usize = 32;
/// The time within which a request must arrive.
const IDLE: Duration = Duration::from_secs(30);
/// The greatest size of a request's body, in bytes.
const MAX_BODY: usize = 64 << 10;
/// The time within which a request is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The policy of what pages may load: nothing but the files of this program.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// The headers of every response.
const SECURITY: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Errors of starting the console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The address or a thread is not available.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The proxy's secret is empty.
    #[error("{path} is empty, and anyone could speak for the proxy: write a secret into it")]
    EmptyProxySecret {
        /// The file.
        path: PathBuf,
    },
    /// The schema registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The review queue cannot be started.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// The client of `console.metrics` cannot be created.
    #[error("console.metrics cannot be read: {0}")]
    Metrics(String),
    /// The system refuses a thread.
    #[error("the console cannot follow the topics: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running console. When it is dropped, it stops.
pub struct Console {
    // It stops first, so that no request waits for the feed.
    server: Server,
    _feed: feed::Threads,
    _reviews: Following,
}

impl Console {
    /// Serves the console on `address`. `metrics` are those of this process, if it has any.
    ///
    /// # Errors
    /// Returns an error if the address is not available, or if a setting cannot be used.
    pub fn start(
        config: Arc<Config>,
        policies: Live,
        connection: Connection,
        address: SocketAddr,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self, ConsoleError> {
        let access = Access::open(&config.console)?;
        let feed = Arc::new(Feed::new(&config));
        let threads = feed::Threads::start(&config, &policies, &connection, &feed, metrics)?;
        let (reviews, following) = Reviews::start(&config, &policies, &connection, access.secret("reviews"))?;
        let review_work = Arc::new(Semaphore::new(MAX_REVIEW_WORK));
        let live_pages = Arc::new(Semaphore::new(MAX_LIVE_PAGES));
        let app =
            Arc::new(App { config, policies, connection, access, feed, reviews, review_work, live_pages });
        let limits = Limits { connections: MAX_CONNECTIONS, idle: IDLE, ..Limits::default() };
        let server = Server::open("the console", address, limits, router(app), std::future::pending())?;
        Ok(Self { server, _feed: threads, _reviews: following })
    }

    /// Returns the address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .merge(access::routes())
        .merge(feed::routes())
        .merge(review::routes())
        // Further pages register their routes below /api here.
        .route("/api/live", get(live::live))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), access::guard));
    let missing = || async { ApiError::new(StatusCode::NOT_FOUND, "there is no such page") };
    pages::routes()
        .merge(api)
        .fallback(missing)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(finish))
        .with_state(app)
}

/// Bounds the time of an answer, and adds the headers of every response.
async fn finish(request: Request, next: Next) -> Response {
    let failed = || {
        let reason = "the console failed: its log says where";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
    };
    // A console must not end the roles of its process.
    let work = async { panics::survive_future(next.run(request)).await.unwrap_or_else(|_| failed()) };
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, work).await;
    let late =
        || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "there was no answer in time: are the brokers up?");
    let mut response = answered.unwrap_or_else(|_| late().into_response());
    for (name, value) in SECURITY {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let uncached = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(uncached);
    response
}
