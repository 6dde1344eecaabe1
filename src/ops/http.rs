//! The HTTP server of health and metrics. The number of connections is bounded, and idle or slow ones are closed, so that
//! peers take no descriptors from Kafka or the store.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Bounds on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The number of connections that are open at a time. A further one replaces the oldest.
    pub connections: usize,
    /// The time within which the head of a request must arrive, from the opening of the connection or its last response.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, idle: Duration::from_secs(30) }
    }
}

/// The greatest age of a connection, so that a peer that reads slowly does not keep it.
const MAX_AGE: Duration = Duration::from_secs(600);
/// The time for a response in flight when its connection is to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay after the system has refused a connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The size of a connection's buffer, in bytes. The head of a request must fit.
const BUFFER_SIZE: usize = 16 << 10;

/// Accepts connections and serves `router` on each until `stop` changes or its sender is dropped. Responses in flight then
/// have a second to finish.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<()>,
) {
    // The oldest first.
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_peer_error(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "a connection to health and metrics cannot be accepted");
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        while open.len() >= limits.connections.max(1) {
            let Some(oldest) = open.pop_front() else { break };
            // A request sent at once has been answered long ago: a connection this old only holds a descriptor.
            oldest.abort();
            let _ = oldest.await;
        }
        open.push_back(tokio::spawn(connection(stream, router.clone(), limits, stop.clone())));
    }
    // This frees the address.
    drop(listener);
    for connection in open {
        let _ = connection.await;
    }
}

/// Returns `true` if the peer has closed the connection before it was accepted.
fn is_peer_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, mut stop: watch::Receiver<()>) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(BUFFER_SIZE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        // Errors here are the peer's.
        _ = served.as_mut() => return,
        _ = stop.changed() => {}
        () = sleep(MAX_AGE) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(CLOSE_TIMEOUT, served).await;
}
