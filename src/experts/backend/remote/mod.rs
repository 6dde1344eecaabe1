//! Remote experts: models behind an HTTP endpoint.
//!
//! No worker runs them. The scheduler starts a task for each request (`scheduler/remote`), and one thread waits for all
//! sockets ([`crate::http`]). A request has a place among `max_in_flight` and a time at which it may be sent ([`pace`]),
//! is repeated while the deadline allows it, and ends with a vote or an abstention by its deadline. [`request`] makes the
//! requests of a conversation, and [`api`] has the forms of requests and responses.
//!
//! Neither the text that is sent nor the text of a response reaches a log or an error.

mod api;
mod excerpt;
mod pace;
mod request;
mod secrets;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout_at};

use self::api::{ApiClient, Judgement};
use self::pace::Pace;
pub(crate) use self::request::{RemoteRequest, RemoteRequests};
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

/// The end of a request.
#[derive(Debug)]
pub(crate) struct RemoteOutcome {
    pub(crate) outcome: Result<ExpertScore, Abstention>,
    /// The server answers that it does not take this request. That is no failure of the expert.
    pub(crate) is_refused: bool,
    /// A part of the conversation was left out because the server refused the whole.
    pub(crate) truncated: bool,
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
    /// The server does not take this request.
    is_refusal: bool,
    /// The pause that the server asks for.
    retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that another attempt would repeat.
    fn final_one(error: RunError) -> Self {
        Self { error, is_retryable: false, is_refusal: false, retry_after: None }
    }

    /// The judgement was not there by the deadline, or could not be asked for.
    fn at_deadline(reason: Abstention, detail: String) -> Self {
        Self::final_one(RunError { reason, detail })
    }
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
    max_chars: usize,
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
            max_chars: endpoint.max_chars.unwrap_or(api::MAX_CHARS),
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
            is_refused: false,
            truncated: false,
            revision: Some(Arc::clone(&self.revision)),
            sent: None,
        };
        let Ok(Ok(_slot)) = timeout_at(until, self.slots.acquire()).await else {
            return unsent(Abstention::TimedOut);
        };
        if Instant::now() >= deadline {
            return unsent(Abstention::TimedOut);
        }
        if !self.pace.pass(deadline).await {
            return unsent(Abstention::Overload);
        }
        let sent = Some(Instant::now());
        on_sent();
        let (result, truncated) = self.send(&request, deadline).await;
        let (outcome, is_refused, server) = match result {
            Ok(Judgement { score, revision }) => (Ok(score), false, revision),
            Err(failure) => {
                self.note(&failure.error);
                (Err(failure.error.reason), failure.is_refusal, None)
            }
        };
        RemoteOutcome { outcome, is_refused, truncated, revision: Some(self.voted_revision(server)), sent }
    }

    /// Sends a request that has a turn, repeats it as far as that may help, and returns `true` with the result if only a
    /// reduced request was taken.
    async fn send(&self, request: &RemoteRequest, deadline: Instant) -> (Result<Judgement, Failure>, bool) {
        let until = tokio::time::Instant::from_std(deadline);
        let (mut body, mut truncated, mut failures) = (request.body.clone(), false, 0_u32);
        loop {
            let judged = request.conversation.judged_turn().role;
            let Ok(attempt) = timeout_at(until, self.attempt(judged, body.clone())).await else {
                let detail = format!("no response within {} ms", self.deadline.as_millis());
                return (Err(Failure::at_deadline(Abstention::TimedOut, detail)), truncated);
            };
            let failure = match attempt {
                Err(failure) => failure,
                judgement => return (judgement, truncated),
            };
            let reduced = (failure.is_refusal && !truncated).then(|| self.reduced(request)).flatten();
            if let Some(reduced) = reduced {
                (body, truncated) = (reduced, true);
            } else {
                failures += 1;
                match self.pause_after(&failure, failures, deadline) {
                    Some(pause) => sleep(pause).await,
                    None => return (Err(failure), truncated),
                }
            }
            if !self.pace.pass(deadline).await {
                let detail = "there is no turn before the deadline".to_owned();
                return (Err(Failure::at_deadline(Abstention::Overload, detail)), truncated);
            }
        }
    }

    /// The pause before a request is repeated after this many failures; `None` if it is not repeated.
    fn pause_after(&self, failure: &Failure, failures: u32, deadline: Instant) -> Option<Duration> {
        if let Some(pause) = failure.retry_after {
            self.pace.hold(Instant::now() + pause.min(MAX_PAUSE));
        }
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
        let pause = pause.mul_f64(1.0 - fastrand::f64() / 2.0);
        let is_over = !failure.is_retryable || failures > self.retries;
        // A server may ask for any number of seconds.
        let next = Instant::now().checked_add(failure.retry_after.unwrap_or(pause));
        if is_over || next.is_none_or(|next| next >= deadline) {
            return None;
        }
        // A pause that the server asks for holds up the other requests too, and `pace` waits for its end.
        Some(if failure.retry_after.is_some() { Duration::ZERO } else { pause })
    }

    /// Asks about a harmless text and waits for the outcome.
    ///
    /// # Errors
    /// Returns the reason if there is no vote.
    pub(crate) fn probe(self: &Arc<Self>, role: Role) -> Result<(), Abstention> {
        let judged = Turn { role, text: PROBE.to_owned() };
        let request = self.request(vec![judged]).map_err(|error| error.reason)?;
        let runtime = http::runtime().map_err(|_| Abstention::Failed)?;
        let (expert, deadline) = (Arc::clone(self), Instant::now() + self.deadline);
        let (outcome, asked) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            // The caller waits for it.
            let _ = outcome.send(expert.ask(request, deadline, || {}).await.outcome);
        });
        asked.recv().unwrap_or(Err(Abstention::Failed)).map(|_| ())
    }

    /// Sends a body once, and reads the response about a turn of this role.
    async fn attempt(&self, judged: Role, body: Bytes) -> Result<Judgement, Failure> {
        let mut request = Request::post(self.url.clone())
            .body(body)
            .map_err(|error| Failure::final_one(RunError::failed(error)))?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.client.send(request, MAX_RESPONSE).await.map_err(|error| match error {
            HttpError::TooLarge { .. } => Failure::final_one(RunError::shape(error.to_string())),
            _ => Failure { is_retryable: true, ..Failure::final_one(RunError::failed(error)) },
        })?;
        if !response.status().is_success() {
            return Err(failed_status(&response));
        }
        self.api.read(judged, response.body()).map_err(Failure::final_one)
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
fn failed_status(response: &Response<Bytes>) -> Failure {
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
    let is_refusal = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    );
    let reason = if is_busy { Abstention::Overload } else { Abstention::Failed };
    Failure {
        error: RunError { reason, detail: format!("it answers {status}{hint}") },
        is_retryable: is_busy || status.is_server_error(),
        is_refusal,
        retry_after: is_busy.then(|| retry_after(response.headers())).flatten(),
    }
}
