//! A registry whose responses a test sets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;

/// A response of the server.
#[derive(Clone)]
pub enum Reply {
    Status(u16, String),
    /// These bytes, which need not be HTTP.
    Raw(Vec<u8>),
    /// No response: the connection stays open until the client closes it.
    Silence,
    /// A body that does not end.
    Endless,
}

/// A request: its method and path, its body, and its header `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub line: String,
    pub body: String,
    pub authorization: Option<String>,
}

/// The time after which a wait for requests fails. It only keeps a test from hanging.
const FAIL_SAFE: Duration = Duration::from_secs(90);

/// The requests, and a condition that each new one signals.
type Requests = (Mutex<Vec<Request>>, Condvar);

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server. It responds until it is dropped.
pub struct Server {
    pub url: String,
    requests: Arc<Requests>,
    answer: Arc<Mutex<Option<Arc<Answer>>>>,
    closed: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, closed) = (Arc::<Requests>::default(), Arc::<AtomicUsize>::default());
        let answer: Arc<Mutex<Option<Arc<Answer>>>> = Arc::new(Mutex::new(Some(Arc::new(answer))));
        let (seen, answers, unanswered) = (Arc::clone(&requests), Arc::clone(&answer), Arc::clone(&closed));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let answer = answers.lock().unwrap().clone();
                let Some(answer) = answer else {
                    unanswered.fetch_add(1, Ordering::SeqCst);
                    continue;
                };
                let seen = Arc::clone(&seen);
                thread::spawn(move || serve(connection.unwrap(), &*answer, &seen));
            }
        });
        Self { url, requests, answer, closed }
    }

    /// Sets the responses to later requests.
    pub fn answer(&self, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Some(Arc::new(answer));
    }

    /// Closes every later connection without a response.
    pub fn die(&self) {
        *self.answer.lock().unwrap() = None;
    }

    /// Returns the number of connections that were closed after [`Self::die`].
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.0.lock().unwrap().clone()
    }

    /// Waits until there have been `count` requests.
    pub fn await_requests(&self, count: usize) {
        let (requests, changed) = &*self.requests;
        let waited = changed
            .wait_timeout_while(requests.lock().unwrap(), FAIL_SAFE, |requests| requests.len() < count);
        let (requests, _) = waited.unwrap();
        assert!(requests.len() >= count, "{} of {count} requests came", requests.len());
    }
}

fn serve(mut connection: TcpStream, answer: &Answer, seen: &Requests) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    let request = Request { line, body: String::from_utf8(body).ok()?, authorization };
    seen.0.lock().unwrap().push(request.clone());
    seen.1.notify_all();
    match answer(&request) {
        Reply::Raw(bytes) => connection.write_all(&bytes).ok(),
        Reply::Status(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            connection.write_all(head.as_bytes()).ok()
        }
        Reply::Silence => {
            let _ = reader.read(&mut [0]);
            None
        }
        Reply::Endless => {
            connection.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").ok()?;
            while connection.write_all(&[b'x'; 65_536]).is_ok() {}
            None
        }
    }
}

/// Returns a registry's response with a schema.
pub fn schema(text: &str) -> Reply {
    Reply::Status(200, json!({ "schema": text }).to_string())
}

/// Returns the response of Confluent's registry for an unknown schema.
pub fn unknown() -> Reply {
    Reply::Status(404, r#"{"error_code":40403,"message":"Schema not found"}"#.into())
}
