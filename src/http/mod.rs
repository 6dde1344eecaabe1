//! The HTTP client of all requests that Aegis sends: to a schema registry, to a collector of traces, and to remote experts.
//!
//! It is hyper's client with TLS by the system's OpenSSL, connections that are kept alive, and bodies of bounded size. It
//! follows no redirects and uses no proxy. Connections belong to one runtime of the process, whose single thread waits
//! for all sockets, so hundreds of requests in flight need no thread of their own.

pub mod retry;
pub mod tls;

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_tls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::{Builder, Runtime};

/// The value of `User-Agent`.
pub const USER_AGENT: &str = concat!("aegis/", env!("CARGO_PKG_VERSION"));
/// The time for which a connection that is not used is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The greatest number of names that are looked up at a time.
const MAX_LOOKUPS: usize = 4;
/// The greatest size of the head of a response, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// The reason why a request has no response that can be read. No variant holds any of the response's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection ended, or what came is not HTTP.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// The body is larger than the limit.
    #[error("the response has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// The status of the response.
        status: StatusCode,
    },
    /// There was no whole response in time.
    #[error("timeout: no response within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// The runtime of the HTTP client, whose thread starts with the first call.
///
/// # Errors
/// Returns a message if the runtime's thread cannot be started.
pub fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let start = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("http").enable_io().enable_time();
        // They look up names, and without a bound each request of hundreds would start one.
        builder.max_blocking_threads(MAX_LOOKUPS);
        builder.build().map_err(|error| format!("no thread for HTTP requests: {error}"))
    };
    RUNTIME.get_or_init(start).as_ref().map_err(Clone::clone)
}

/// An HTTP client. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: &'static Runtime,
}

/// Describes an error with its causes, which is where the operating system and TLS say what is wrong.
fn describe(error: &dyn std::error::Error) -> String {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        causes.push(error.to_string());
        next = error.source();
    }
    causes.dedup();
    causes.join(": ")
}

impl Client {
    /// Creates a client. `connect_timeout` is the time in which a connection must be made.
    ///
    /// # Errors
    /// Returns a message if the runtime's thread cannot be started.
    pub fn new(tls: native_tls::TlsConnector, connect_timeout: Duration) -> Result<Self, String> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(connect_timeout));
        http.set_nodelay(true);
        let connector = HttpsConnector::from((http, tokio_native_tls::TlsConnector::from(tls)));
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MAX_HEAD)
            .build(connector);
        Ok(Self { inner, runtime: runtime()? })
    }

    /// Sends a request and reads the whole response, of at most `limit` bytes. It must be awaited on [`runtime`]. To give
    /// up, drop the future, which closes the connection.
    ///
    /// # Errors
    /// Returns an error if there is no response that can be read.
    pub async fn send(&self, request: Request<Bytes>, limit: usize) -> Result<Response<Bytes>, HttpError> {
        let response = self.inner.request(request.map(Full::new)).await.map_err(|error| {
            let reason = describe(&error);
            if error.is_connect() { HttpError::Connect(reason) } else { HttpError::Broken(reason) }
        })?;
        let (head, body) = response.into_parts();
        let bytes = read(body, limit, head.status).await?;
        Ok(Response::from_parts(head, bytes))
    }

    /// Like [`Client::send`], with a time-out, from a thread that waits for the response.
    ///
    /// # Errors
    /// Returns an error if there is no response that can be read in time.
    pub fn send_blocking(
        &self,
        request: Request<Bytes>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Response<Bytes>, HttpError> {
        let (client, (response, answered)) = (self.clone(), std::sync::mpsc::sync_channel(1));
        self.runtime.spawn(async move {
            let sent = tokio::time::timeout(timeout, client.send(request, limit)).await;
            // The caller waits for it.
            let _ = response.send(sent.unwrap_or(Err(HttpError::TimedOut(timeout))));
        });
        answered.recv().unwrap_or_else(|_| Err(HttpError::Broken("the request was given up".to_owned())))
    }
}

/// Reads a body of at most `limit` bytes.
async fn read(mut body: Incoming, limit: usize, status: StatusCode) -> Result<Bytes, HttpError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| HttpError::Broken(describe(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(HttpError::TooLarge { limit, status });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}
