//! Remote experts: models behind an HTTP endpoint.
//!
//! No worker runs them. The scheduler starts a task for each request (`scheduler/remote`), and one thread waits for all
//! sockets ([`crate::http`]). A request has a place among `max_in_flight` and a time at which it may be sent ([`pace`]),
//! is repeated while the deadline allows it, and ends with a vote or an abstention by its deadline. [`api`] has the forms
//! of requests and responses.
//!
//! Neither the text that is sent nor the text of a response reaches a log or an error.

mod api;
mod excerpt;
mod pace;
mod secrets;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout_at};

use self::api::{ApiClient, Body, Judgement};
use self::pace::Pace;
use crate::core::event::{Role, Turn};
use crate::core::vote::{Abstention, MAX_REVISION};
use crate::experts::backend::result::{ErrorLog, RunError};
use crate::experts::error::{Misfit, PanelError};
use crate::experts::manifest::View;
use crate::experts::manifest::remote::Remote;
use crate::experts::scores::ExpertScore;
use crate::http::retry::retry_after;
use crate::http::{self, Client, HttpError, tls};

/// The greatest size of a response, in bytes.
const MAX_RESPONSE: usize = 1 << 20;
/// The first pause before a request is repeated. Each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause for which a server may hold up its requests.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The greatest length of what a server says about its model, in bytes.
const MAX_SERVER_REVISION: usize = 64;

/// The text with which an endpoint is tried.
const PROBE: &str = "How are you?";

/// A request that is ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct RemoteRequest {
    /// The hash of the request. Equal requests share one response.
    pub(crate) ids: Arc<[u32]>,
    pub(crate) body: Bytes,
    /// The role of the judged turn.
    judged: Role,
    /// A part of the conversation was left out.
    pub(crate) truncated: bool,
}

/// The end of a request.
#[derive(Debug)]
pub(crate) struct RemoteOutcome {
    pub(crate) outcome: Result<ExpertScore, Abstention>,
    /// The model, what the server says about it, and the prompt's version.
    pub(crate) revision: Option<Arc<str>>,
    /// When the request was sent for the first time; `None` if it never was, which is not the server's failure.
    pub(crate) sent: Option<Instant>,
}

/// The reason why an attempt has no judgement.
struct Failure {
    error: RunError,
    /// Another attempt may succeed.
    is_retryable: bool,
    /// The pause that the server asks for.
    retry_after: Option<Duration>,
}

/// A remote expert of a panel.
pub(crate) struct RemoteExpert {
    id: String,
    pub(crate) expert_index: usize,
    pub(crate) view: View,
    pub(crate) deadline: Duration,
    retries: u32,
    client: Client,
    url: Uri,
    headers: HeaderMap,
    api: ApiClient,
    hash: [u8; 32],
    max_chars: Option<usize>,
    /// The model and the prompt's version.
    revision: Arc<str>,
    slots: Semaphore,
    pace: Pace,
    errors: Mutex<ErrorLog>,
}

impl RemoteExpert {
    /// Sets up an expert. Nothing is sent.
    ///
    /// # Errors
    /// Returns an error if a file of a secret or of authorities, or the template of requests, cannot be used.
    pub(crate) fn new(
        id: &str,
        expert_index: usize,
        view: View,
        remote: &Remote,
    ) -> Result<Self, PanelError> {
        let endpoint = &remote.endpoint;
        let file_error = |path: &std::path::Path, reason| PanelError::File {
            path: path.to_owned(),
            field: "endpoint.authorities".to_owned(),
            reason,
        };
        let authorities = match &endpoint.authorities {
            Some(path) => tls::certificates(path).map_err(|reason| file_error(path, reason))?,
            None => Vec::new(),
        };
        let misfit = |problem| Misfit::new("endpoint", problem, "correct it").of(id);
        let connector = tls::connector(authorities, None).map_err(misfit)?;
        let client = Client::new(connector, endpoint.deadline).map_err(misfit)?;
        let url: Uri = endpoint.url.parse().map_err(|_| misfit("url is not an address".to_owned()))?;
        Ok(Self {
            id: id.to_owned(),
            expert_index,
            view,
            deadline: endpoint.deadline,
            retries: endpoint.retries,
            client,
            url,
            headers: secrets::headers(id, endpoint)?,
            api: ApiClient::new(id, remote)?,
            hash: remote.hash(),
            max_chars: endpoint.max_chars,
            revision: Arc::from(shown(&remote.revision(), MAX_REVISION)),
            slots: Semaphore::new(endpoint.max_in_flight),
            pace: Pace::new(endpoint.rate),
            errors: Mutex::default(),
        })
    }

    /// The model and the prompt's version, for votes without a response.
    pub(crate) fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    /// Prepares the request about a conversation: the turns before the judged one, and that turn.
    ///
    /// # Errors
    /// Returns the error of a template that cannot be rendered.
    pub(crate) fn prepare(&self, history: Vec<Turn>, judged: Turn) -> Result<RemoteRequest, RunError> {
        let role = judged.role;
        let Body { bytes, truncated } = self.api.request(self.max_chars, history, judged)?;
        let mut hash = Sha256::new();
        hash.update(self.hash);
        hash.update(&bytes);
        let hash: [u8; 32] = hash.finalize().into();
        let id = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(RemoteRequest {
            ids: hash.chunks_exact(4).map(id).collect(),
            body: bytes.into(),
            judged: role,
            truncated,
        })
    }

    /// Sends a request and returns the vote or the abstention, by the deadline. `on_sent` is called when the request is
    /// sent for the first time.
    pub(crate) async fn ask(
        &self,
        request: RemoteRequest,
        deadline: Instant,
        on_sent: impl Fn(),
    ) -> RemoteOutcome {
        let until = tokio::time::Instant::from_std(deadline);
        let unsent = |reason| RemoteOutcome {
            outcome: Err(reason),
            revision: Some(Arc::clone(&self.revision)),
            sent: None,
        };
        let Ok(Ok(_slot)) = timeout_at(until, self.slots.acquire()).await else {
            return unsent(Abstention::TimedOut);
        };
        if Instant::now() >= deadline {
            return unsent(Abstention::TimedOut);
        }
        let mut sent = None;
        let (outcome, server) = loop {
            let Some(turn) = self.pace.turn(Instant::now(), deadline) else {
                break (Err(Abstention::Overload), None);
            };
            sleep(turn).await;
            if sent.is_none() {
                sent = Some((Instant::now(), 0_u32));
                on_sent();
            }
            let Ok(attempt) = timeout_at(until, self.attempt(&request)).await else {
                self.note(&RunError {
                    reason: Abstention::TimedOut,
                    detail: format!("no response within {} ms", self.deadline.as_millis()),
                });
                break (Err(Abstention::TimedOut), None);
            };
            let failure = match attempt {
                Ok(Judgement { score, revision }) => break (Ok(score), revision),
                Err(failure) => failure,
            };
            let attempts = sent.as_mut().map_or(0, |(_, attempts)| {
                *attempts += 1;
                *attempts
            });
            if let Some(pause) = failure.retry_after {
                self.pace.hold(Instant::now() + pause.min(MAX_PAUSE));
            }
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(attempts.saturating_sub(1).min(16));
            let pause = pause.mul_f64(1.0 - fastrand::f64() / 2.0);
            let is_over = !failure.is_retryable || attempts > self.retries;
            if is_over || Instant::now() + failure.retry_after.unwrap_or(pause) >= deadline {
                self.note(&failure.error);
                break (Err(failure.error.reason), None);
            }
            // A pause that the server asks for holds up the other requests too, and `pace` waits for its end.
            if failure.retry_after.is_none() {
                sleep(pause).await;
            }
        };
        RemoteOutcome { outcome, revision: Some(self.voted_revision(server)), sent: sent.map(|(at, _)| at) }
    }

    /// Asks about a harmless text and waits for the outcome.
    ///
    /// # Errors
    /// Returns the reason if there is no vote.
    pub(crate) fn probe(self: &Arc<Self>, role: Role) -> Result<(), Abstention> {
        let judged = Turn { role, text: PROBE.to_owned() };
        let request = self.prepare(Vec::new(), judged).map_err(|error| error.reason)?;
        let runtime = http::runtime().map_err(|_| Abstention::Failed)?;
        let (expert, deadline) = (Arc::clone(self), Instant::now() + self.deadline);
        let (outcome, asked) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            // The caller waits for it.
            let _ = outcome.send(expert.ask(request, deadline, || {}).await.outcome);
        });
        asked.recv().unwrap_or(Err(Abstention::Failed)).map(|_| ())
    }

    /// Sends a request once, and reads the response.
    async fn attempt(&self, request: &RemoteRequest) -> Result<Judgement, Failure> {
        let judged = request.judged;
        let final_failure = |error| Failure { error, is_retryable: false, retry_after: None };
        let mut request = Request::post(self.url.clone())
            .body(request.body.clone())
            .map_err(|error| final_failure(RunError::failed(error)))?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.client.send(request, MAX_RESPONSE).await.map_err(|error| match error {
            HttpError::TooLarge { .. } => final_failure(RunError::shape(error.to_string())),
            _ => Failure { error: RunError::failed(error), is_retryable: true, retry_after: None },
        })?;
        if !response.status().is_success() {
            return Err(refusal(&response));
        }
        self.api.read(judged, response.body()).map_err(final_failure)
    }

    fn note(&self, error: &RunError) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).note(&self.id, error);
    }

    /// The revision of a vote. `server`: what the response says about the model.
    fn voted_revision(&self, server: Option<String>) -> Arc<str> {
        let server = shown(server.as_deref().unwrap_or_default(), MAX_SERVER_REVISION);
        if server.is_empty() {
            return Arc::clone(&self.revision);
        }
        let room = MAX_REVISION - server.len() - 2;
        format!("{}; {server}", shown(&self.revision, room)).into()
    }
}

/// The printable ASCII of a text, at most `length` of it.
fn shown(text: &str, length: usize) -> String {
    text.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(length).collect()
}

/// Turns a response without success into a failure. Its text may repeat the request's, and is not used.
fn refusal(response: &Response<Bytes>) -> Failure {
    let status = response.status();
    let is_busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": the key of endpoint.key_file, or the headers, are not accepted, or there are none"
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => ": is the path of endpoint.url wrong?",
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            ": is endpoint.protocol or endpoint.model wrong?"
        }
        StatusCode::PAYLOAD_TOO_LARGE => ": lower endpoint.max_chars",
        _ => "",
    };
    let reason = if is_busy { Abstention::Overload } else { Abstention::Failed };
    Failure {
        error: RunError { reason, detail: format!("it answers {status}{hint}") },
        is_retryable: is_busy || status.is_server_error(),
        retry_after: is_busy.then(|| retry_after(response.headers())).flatten(),
    }
}
