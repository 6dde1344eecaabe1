//! The HTTP server of health and metrics, and of the console. The number of connections is bounded, and idle or slow ones
//! are closed, so that peers take no descriptors from Kafka or the store.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::panics;

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

/// The address of a connection's peer. Each request has it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Errors of starting a server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is not available.
    #[error("{what} cannot be served on {address}: {source}; choose another address")]
    Address {
        /// The purpose of the server.
        what: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system refuses a thread.
    #[error("{what} cannot be served: {source}")]
    Thread {
        /// The purpose of the server.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// A server on a thread of its own. It runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<watch::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Serves `router` on `address`, within `limits`, and runs `beside` on the same thread meanwhile. Port 0 chooses a free
    /// port. `what` names the purpose in errors.
    ///
    /// # Errors
    /// Returns an error if the address is not available or the system refuses a thread.
    pub fn open(
        what: &'static str,
        address: SocketAddr,
        limits: Limits,
        router: Router,
        beside: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, ServeError> {
        let refused = |source| ServeError::Address { what, address, source };
        let no_thread = |source| ServeError::Thread { what, source };
        let listener = std::net::TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).map_err(no_thread)?
        };
        let (stop, stopped) = watch::channel(());
        let work = move || {
            panics::mark_fatal("process");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(what, listener, router, limits, stopped) => {}
                    () = beside => {}
                }
            });
            // A blocking call of a request may wait for brokers that do not answer.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name(what.to_owned()).spawn(work).map_err(no_thread)?;
        Ok(Self { address: bound, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops after the responses in flight, and waits until the address is free.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // the hook has printed its panic
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Accepts connections and serves `router` on each until `stop` changes or its sender is dropped. Responses in flight then
/// have a second to finish.
async fn serve(
    what: &'static str,
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
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_peer_error(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "a connection to {what} cannot be accepted");
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
        open.push_back(tokio::spawn(connection(
            stream,
            router.clone().layer(Extension(Peer(peer))),
            limits,
            stop.clone(),
        )));
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
