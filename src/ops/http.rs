//! Connections to the page of health and metrics: a bounded number of them, none of them idle or slow for long. What a
//! peer does here takes no descriptor from Kafka or the store.

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
    /// Connections that are open at a time. A further one takes the place of the oldest.
    pub connections: usize,
    /// Time within which a connection has to bring the whole head of a request, from its beginning or its last answer.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, idle: Duration::from_secs(30) }
    }
}

/// How long a connection may be used, whatever it is used for: a peer that reads slowly keeps it no longer.
const LIFETIME: Duration = Duration::from_secs(600);
/// How long an answer under way may take once its connection is to end.
const GRACE: Duration = Duration::from_secs(1);
/// Pause after the system has refused a connection.
const REFUSED: Duration = Duration::from_millis(100);
/// Bytes of a connection's buffer: the head of a request has to fit.
const BUFFER: usize = 16 << 10;

/// Accepts connections and serves `router` on each until `stop` changes or its sender is dropped. Answers under way are
/// finished then, for a second at most.
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
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "a connection to health and metrics cannot be accepted");
                sleep(REFUSED).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        while open.len() >= limits.connections.max(1) {
            let Some(oldest) = open.pop_front() else { break };
            // A peer that asks at once has long been answered: what is this old only holds a descriptor.
            oldest.abort();
            let _ = oldest.await;
        }
        open.push_back(tokio::spawn(connection(stream, router.clone(), limits, stop.clone())));
    }
    // From here on the address is free.
    drop(listener);
    for connection in open {
        let _ = connection.await;
    }
}

/// Errors of a connection that its peer has given up before it was accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, mut stop: watch::Receiver<()>) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        // Whatever went wrong is the peer's.
        _ = served.as_mut() => return,
        _ = stop.changed() => {}
        () = sleep(LIFETIME) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, served).await;
}
