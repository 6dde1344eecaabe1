//! The HTTP server of health and metrics, and of the console. The number of connections is bounded, and idle or slow ones
//! are closed, so that peers take no descriptors from Kafka or the store.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::panics;

/// Bounds on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The number of connections that are open at a time. A further one replaces the oldest that is not [kept](Keeper). If all
    /// are kept, it is [`Surplus`].
    pub connections: usize,
    /// The time within which the head of a request must arrive, from the opening of the connection or its last response.
    pub idle: Duration,
    /// The time for a response in flight when its connection is to be closed.
    pub finish: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, idle: Duration::from_secs(30), finish: Duration::from_secs(1) }
    }
}

/// The greatest age of a connection, so that a peer that reads slowly does not keep it.
const MAX_AGE: Duration = Duration::from_secs(600);
/// The delay after the system has refused a connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The size of a connection's buffer, in bytes. The head of a request must fit.
const BUFFER_SIZE: usize = 16 << 10;
/// The time for new connections to read requests that have arrived already, before one of them is replaced.
const READ_TIME: Duration = Duration::from_millis(1);
/// The number of connections beyond the limit that are answered at a time. Further ones are closed without an answer.
const MAX_SURPLUS: usize = 8;

/// The address of a connection's peer. Each request has it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The mark of a request whose connection came while all others were [kept](Keeper). Such a request has it as an extension.
/// The connection is closed after one answer, so a handler that keeps connections refuses the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surplus;

/// Keeps a connection while its response is sent. Each request has it as an extension. A handler uses it for long responses
/// of known users, and bounds their number below that of connections, so that others are answered; or for all requests, and
/// refuses those that are [`Surplus`].
#[derive(Debug, Clone, Default)]
pub struct Keeper(Arc<AtomicBool>);

impl Keeper {
    /// Keeps the connection until the guard is dropped: further connections do not replace it.
    #[must_use]
    pub fn keep(&self) -> Kept {
        self.0.store(true, Ordering::Relaxed);
        Kept(self.clone())
    }

    fn keeps(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that no other one replaces.
#[derive(Debug)]
pub struct Kept(Keeper);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// A connection of a server.
struct Open {
    task: JoinHandle<()>,
    keeper: Keeper,
}

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
/// have `limits.finish`.
async fn serve(
    what: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<()>,
) {
    // The oldest first.
    let mut open: VecDeque<Open> = VecDeque::new();
    let surplus = Arc::new(Semaphore::new(MAX_SURPLUS));
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
        let keeper = Keeper::default();
        let router = router.clone().layer(Extension(Peer(peer))).layer(Extension(keeper.clone()));
        if !make_room(&mut open, limits.connections.max(1)).await {
            // Without a permit the connection is closed, so that refusals do not take descriptors either.
            if let Ok(permit) = Arc::clone(&surplus).try_acquire_owned() {
                let router = router.layer(Extension(Surplus));
                tokio::spawn(async move {
                    let _permit = permit;
                    answer_once(stream, router, limits).await;
                });
            }
            continue;
        }
        let task = tokio::spawn(connection(stream, router, limits, stop.clone()));
        open.push_back(Open { task, keeper });
    }
    // This frees the address.
    drop(listener);
    for connection in open {
        let _ = connection.task.await;
    }
}

/// Makes room for one more connection: the oldest that is not kept is closed if `limit` are open. Returns `false` if all of
/// them are kept.
async fn make_room(open: &mut VecDeque<Open>, limit: usize) -> bool {
    open.retain(|connection| !connection.task.is_finished());
    if open.len() < limit {
        return true;
    }
    // The requests of connections that were accepted just now may have arrived, and a handler keeps them once they are read.
    sleep(READ_TIME).await;
    open.retain(|connection| !connection.task.is_finished());
    while open.len() >= limit {
        // The response of a kept connection is in flight. This thread sends a short response in the same step in which its
        // handler ends, so that a connection that is not kept any more has sent it.
        let Some(index) = open.iter().position(|connection| !connection.keeper.keeps()) else { return false };
        let Some(oldest) = open.remove(index) else { return false };
        // Unless its response is long or late, it only holds a descriptor: handlers keep the connections of others.
        oldest.task.abort();
        let _ = oldest.task.await;
    }
    true
}

/// Returns `true` if the peer has closed the connection before it was accepted.
fn is_peer_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers one request of a connection that is not counted, and closes it.
async fn answer_once(stream: TcpStream, router: Router, limits: Limits) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.finish)
        .keep_alive(false)
        .max_buf_size(BUFFER_SIZE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = timeout(limits.finish, served).await;
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
    let _ = timeout(limits.finish, served).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use axum::body::Body;
    use axum::extract::Request;
    use axum::routing::get;
    use futures_util::StreamExt as _;
    use futures_util::stream::{once, unfold};
    use tokio::sync::broadcast;

    use super::*;

    /// Sends `open`, and a line for each number, over a connection that is kept.
    fn lines(numbers: broadcast::Receiver<u8>, kept: Kept) -> Body {
        let further = unfold((numbers, kept), |(mut numbers, kept)| async move {
            let number = numbers.recv().await.ok()?;
            Some((Ok(format!("{number}\n")), (numbers, kept)))
        });
        let first = once(async { Ok::<_, io::Error>("open\n".to_owned()) });
        Body::from_stream(first.chain(further))
    }

    fn read_until(stream: &mut TcpStream, end: &str) {
        let mut seen = String::new();
        while !seen.contains(end) {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "the connection ended after {seen:?}");
            seen.push(char::from(byte[0]));
        }
    }

    #[test]
    fn a_kept_connection_is_not_replaced_until_its_response_ends() {
        let (sender, _) = broadcast::channel(8);
        let source = sender.clone();
        let follow = move |Extension(keeper): Extension<Keeper>| async move {
            lines(source.subscribe(), keeper.keep())
        };
        let router = Router::new().route("/", get(follow));
        let limits = Limits { connections: 3, idle: Duration::from_secs(3_600), ..Limits::default() };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::open("a test", address, limits, router, std::future::pending()).unwrap();
        let mut kept = TcpStream::connect(server.address()).unwrap();
        kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        read_until(&mut kept, "open");
        let mut idle: Vec<_> = (0..20).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        // Those before the last two have been replaced.
        for stream in &mut idle[..18] {
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }
        sender.send(7).unwrap();
        read_until(&mut kept, "7\n");
    }

    #[test]
    fn a_connection_beyond_the_limit_is_answered_once_if_all_others_are_kept() {
        let (entered, in_flight) = std::sync::mpsc::channel();
        let (release, _) = broadcast::channel(8);
        let source = release.clone();
        let handler = move |Extension(keeper): Extension<Keeper>, request: Request| {
            let is_surplus = request.extensions().get::<Surplus>().is_some();
            let (entered, mut released) = (entered.clone(), source.subscribe());
            async move {
                if is_surplus {
                    return "surplus";
                }
                let _kept = keeper.keep();
                entered.send(()).unwrap();
                let () = released.recv().await.unwrap();
                "finished"
            }
        };
        let router = Router::new().route("/", get(handler));
        let limits = Limits { connections: 2, idle: Duration::from_secs(3_600), ..Limits::default() };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::open("a test", address, limits, router, std::future::pending()).unwrap();
        let ask = || {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        };
        let mut kept = [ask(), ask()];
        for _ in &kept {
            in_flight.recv().unwrap();
        }
        for _ in 0..3 {
            let mut answer = String::new();
            ask().read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("surplus"), "{answer:?}");
        }
        release.send(()).unwrap();
        for stream in &mut kept {
            read_until(stream, "finished");
        }
    }
}
