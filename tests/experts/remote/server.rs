//! A server whose responses a test sets, on a real socket, with or without TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use openssl::ssl::{SslAcceptor, SslMethod};

use crate::identity::Identity;

/// A response of the server.
#[derive(Clone)]
pub enum Reply {
    /// A status, further headers, and a body.
    Answer(u16, &'static str, String),
    /// These bytes, which need not be HTTP. Then the server ends its side of the connection.
    Raw(Vec<u8>),
    /// No response: the connection stays open until the client closes it.
    Silence,
    /// A body of this size, or one in chunks that does not end.
    Large(Option<u64>),
}

impl Reply {
    /// A response with success.
    pub fn ok(body: impl Into<String>) -> Self {
        Self::Answer(200, "", body.into())
    }
}

/// A request: its method and path, its headers in lower case, and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub line: String,
    pub headers: Vec<String>,
    pub body: String,
}

/// The time after which a wait fails. It only keeps a test from hanging.
const FAIL_SAFE: Duration = Duration::from_secs(90);

/// The requests and connections so far.
#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    connections: usize,
    /// Connections that the client has closed.
    closed: usize,
    /// Bytes of large bodies that were sent.
    sent: u64,
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server. It responds until the process ends.
pub struct Server {
    pub url: String,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, answer)
    }

    /// A server with TLS.
    pub fn with_tls(identity: &Identity, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate(&identity.certificate).unwrap();
        acceptor.set_private_key(&identity.key).unwrap();
        Self::listen(Some(acceptor.build()), answer)
    }

    fn listen(
        acceptor: Option<SslAcceptor>,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/v1/judge", listener.local_addr().unwrap());
        let seen = Arc::<(Mutex<Seen>, Condvar)>::default();
        let (answer, acceptor): (Arc<Answer>, _) = (Arc::new(answer), acceptor.map(Arc::new));
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (answer, seen, acceptor) = (Arc::clone(&answer), Arc::clone(&all), acceptor.clone());
                change(&seen, |seen| seen.connections += 1);
                thread::spawn(move || {
                    let connection = connection.unwrap();
                    let end = connection.try_clone().unwrap();
                    match acceptor {
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(connection) else { return };
                            serve(stream, &end, &*answer, &seen);
                        }
                        None => serve(connection, &end, &*answer, &seen),
                    }
                });
            }
        });
        Self { url, seen }
    }

    /// Waits until something has happened, and returns what was asked for.
    fn wait<T>(&self, what: &str, found: impl Fn(&Seen) -> Option<T>) -> T {
        let (seen, changed) = &*self.seen;
        let mut seen = seen.lock().unwrap();
        loop {
            if let Some(found) = found(&seen) {
                return found;
            }
            let (next, waited) = changed.wait_timeout(seen, FAIL_SAFE).unwrap();
            assert!(!waited.timed_out(), "{what}");
            seen = next;
        }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.0.lock().unwrap().requests.clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.0.lock().unwrap().connections
    }

    /// Waits for this number of requests.
    pub fn wait_for_requests(&self, count: usize) {
        self.wait("requests", |seen| (seen.requests.len() >= count).then_some(()));
    }

    /// Waits until the client has closed a connection. Returns the bytes of large bodies that were sent.
    pub fn wait_for_close(&self) -> u64 {
        self.wait("a closed connection", |seen| (seen.closed > 0).then_some(seen.sent))
    }
}

fn change(seen: &(Mutex<Seen>, Condvar), change: impl FnOnce(&mut Seen)) {
    change(&mut seen.0.lock().unwrap());
    seen.1.notify_all();
}

fn serve<S: Read + Write>(stream: S, end: &TcpStream, answer: &Answer, seen: &(Mutex<Seen>, Condvar)) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream) {
        change(seen, |seen| seen.requests.push(request.clone()));
        let goes_on = match answer(&request) {
            Reply::Answer(status, headers, body) => {
                let length = body.len();
                let head = format!("HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\n\r\n");
                stream.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat()).is_ok()
            }
            Reply::Raw(bytes) => {
                let _ = stream.get_mut().write_all(&bytes).and_then(|()| stream.get_mut().flush());
                let _ = end.shutdown(std::net::Shutdown::Write);
                true
            }
            Reply::Silence => true,
            Reply::Large(size) => {
                write_large(stream.get_mut(), size, seen);
                false
            }
        };
        if !goes_on {
            break;
        }
    }
    change(seen, |seen| seen.closed += 1);
}

/// Writes a body until the client closes the connection.
fn write_large(stream: &mut impl Write, size: Option<u64>, seen: &(Mutex<Seen>, Condvar)) {
    let head = match size {
        Some(size) => format!("Content-Length: {size}\r\n\r\n"),
        None => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    };
    let mut ok = stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes()).is_ok();
    let data = " ".repeat(1_000);
    let part = if size.is_some() { data } else { format!("3e8\r\n{data}\r\n") };
    let mut left = size.unwrap_or(u64::MAX);
    while ok && left > 0 {
        ok = stream.write_all(part.as_bytes()).is_ok();
        left = left.saturating_sub(1_000);
        change(seen, |seen| seen.sent += 1_000);
    }
}

fn read(stream: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let first = lines.remove(0);
    let headers: Vec<String> = lines
        .iter()
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            format!("{}: {value}", name.to_lowercase())
        })
        .collect();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Request { line: first, headers, body: String::from_utf8(body).unwrap() })
}
