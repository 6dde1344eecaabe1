//! What goes over the wire: OTLP requests, on the client that the schema registry's has brought.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::http::header::RETRY_AFTER;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::{Settings, TracesError, retry};
use crate::config::pem;

/// Greatest answer read, in bytes: it says little.
const MAX_ANSWER: u64 = 64 << 10;

/// An HTTP client for one collector. It blocks, and so only the thread that delivers.
#[derive(Debug)]
pub struct Post {
    agent: ureq::Agent,
    headers: HeaderMap,
    /// Hung up at the end: nothing is waited for any more.
    end: Receiver<()>,
    why: Arc<Why>,
}

/// Why the last request came to nothing: the exporter above keeps it to itself.
#[derive(Debug, Default)]
pub struct Why(Mutex<Option<String>>);

impl Why {
    fn note(&self, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// The reason, once.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is wrong with an address, if anything.
fn wrong(endpoint: &str) -> Option<&'static str> {
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    match rest.map(|rest| rest.split('/').next().unwrap_or_default()) {
        // The address is logged: what it would hold of a password must not be.
        Some(host) if host.contains('@') => {
            Some("holds a user or a password: they go to a header, from a file in traces.secrets")
        }
        Some(host) if !host.is_empty() && endpoint.parse::<ureq::http::Uri>().is_ok() => None,
        _ => Some("is no address: write http://host:port/v1/traces or https://..."),
    }
}

impl Post {
    /// A client whose requests may take so long each; until `end` hangs up, a busy collector is asked again.
    pub fn new(
        settings: &Settings,
        timeout: Duration,
        end: Receiver<()>,
        why: Arc<Why>,
    ) -> Result<Self, TracesError> {
        let endpoint = &settings.endpoint;
        if let Some(reason) = wrong(endpoint) {
            // What stands before the @ may be a password.
            let shown = endpoint.rsplit_once('@').map_or(endpoint.as_str(), |(_, host)| host);
            return Err(TracesError::Endpoint { endpoint: shown.to_owned(), reason });
        }
        let roots = match &settings.authorities {
            Some(path) => {
                let refused = |reason| TracesError::Authorities { reason };
                RootCerts::from(pem::certificates(path).map_err(refused)?.into_iter())
            }
            None => RootCerts::PlatformVerifier,
        };
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build();
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A collector stands beside the program, where no proxy leads to.
            .proxy(None)
            .user_agent(concat!("aegis/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build()
            .new_agent();
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let refused = || TracesError::Header { name: name.clone() };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| refused())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self { agent, headers, end, why })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        parts.headers.extend(self.headers.clone());
        let mut tried = 0;
        loop {
            let answer = self.agent.run(Request::from_parts(parts.clone(), &body[..]))?;
            let (answered, mut said) = answer.into_parts();
            if answered.status.is_success() {
                let bytes = said.with_config().limit(MAX_ANSWER).read_to_vec()?;
                return Ok(Response::from_parts(answered, bytes.into()));
            }
            tried += 1;
            let asked = || answered.headers.get(RETRY_AFTER).and_then(|value| retry::asked(value.as_bytes()));
            let again = retry::is_retryable(answered.status)
                .then(|| retry::wait(tried, asked(), fastrand::f64()))
                .flatten()
                .filter(|wait| self.waits(*wait, answered.status));
            if again.is_none() {
                return Err(refusal(answered.status, tried).into());
            }
        }
    }

    /// Waits; false where the end came first. Who moderates waits for nothing meanwhile: spans that come have
    /// their queue, and what finds no room there is dropped and counted.
    fn waits(&self, wait: Duration, status: StatusCode) -> bool {
        tracing::debug!(%status, wait_ms = wait.as_millis(), "the collector is busy: its spans wait");
        matches!(self.end.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }
}

/// In words of ours: the collector's are its own affair, and may be of any length.
fn refusal(status: StatusCode, tried: u32) -> String {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": the headers of traces.secrets do not open it, or there are none"
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            ": its path is another; most collectors take spans at /v1/traces"
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ": it does not take OTLP as protobuf",
        _ => "",
    };
    let times = if tried > 1 { format!(" to {tried} requests") } else { String::new() };
    format!("it answers {status}{times}{hint}")
}

#[async_trait::async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.send(request).inspect_err(|error| self.why.note(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crossbeam_channel::never;

    use super::*;

    fn open(endpoint: &str, header: (&str, &str)) -> Result<Post, TracesError> {
        let (name, value) = header;
        let settings = Settings {
            endpoint: endpoint.into(),
            headers: vec![(name.into(), value.into())],
            ..Settings::default()
        };
        Post::new(&settings, Duration::from_secs(1), never(), Arc::default())
    }

    #[test]
    fn addresses_and_headers_are_looked_at_and_secrets_not_told() {
        let header = ("authorization", "Bearer hunter2");
        let post = open("https://collector:4318/v1/traces?team=a", header).unwrap();
        assert!(!format!("{post:?}").contains("hunter2"));
        for bad in ["collector:4318", "ftp://c/", "http://", "https:///v1", "http://a b/"] {
            assert!(matches!(open(bad, header), Err(TracesError::Endpoint { .. })), "{bad}");
        }
        let error = open("http://me:hunter2@c:4318/v1/traces", header).unwrap_err().to_string();
        assert!(error.contains("traces.secrets") && !error.contains("hunter2"), "{error}");
        for bad in [("a b", "x"), ("a", "hunter2\nhunter2")] {
            let error = open("http://c:4318/v1/traces", bad).unwrap_err().to_string();
            assert!(error.contains(bad.0) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn authorities_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let settings = Settings {
            endpoint: "https://c/v1/traces".into(),
            authorities: Some(path.clone()),
            ..Settings::default()
        };
        let refused =
            || Post::new(&settings, Duration::from_secs(1), never(), Arc::default()).unwrap_err().to_string();
        assert!(refused().contains("ca.pem"), "{}", refused());
        fs::write(&path, "no certificate").unwrap();
        assert!(refused().contains("no certificate in PEM"), "{}", refused());
    }
}
