//! The client of the OTLP exporter, on the HTTP client of all requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{StatusCode, Uri};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

use super::{Settings, TracesError, retry};
use crate::http::retry::retry_after;
use crate::http::{self, Client, tls};

/// The largest response that is read, in bytes.
const MAX_RESPONSE: usize = 64 << 10;

/// An HTTP client for one collector. It blocks the thread that delivers spans.
#[derive(Debug)]
pub struct CollectorClient {
    client: Client,
    timeout: Duration,
    headers: HeaderMap,
    /// Disconnected at shutdown, which ends every wait.
    end: Receiver<()>,
    last_error: Arc<LastError>,
}

/// The error of the last request, which the exporter does not pass on.
#[derive(Debug, Default)]
pub struct LastError(Mutex<Option<String>>);

impl LastError {
    fn note(&self, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Takes the error.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Returns the reason why an address is not valid, if any.
fn invalid(endpoint: &str) -> Option<&'static str> {
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    match rest.map(|rest| rest.split('/').next().unwrap_or_default()) {
        // The address is logged, and a password must not be.
        Some(host) if host.contains('@') => {
            Some("contains a user or a password: set a header from a file in traces.secrets instead")
        }
        Some(host) if !host.is_empty() && endpoint.parse::<Uri>().is_ok() => None,
        _ => Some("is not an address: write http://host:port/v1/traces or https://..."),
    }
}

impl CollectorClient {
    /// Creates a client with this timeout of a request. Requests to a busy collector are repeated until `end` disconnects.
    pub fn new(
        settings: &Settings,
        timeout: Duration,
        end: Receiver<()>,
        last_error: Arc<LastError>,
    ) -> Result<Self, TracesError> {
        let endpoint = &settings.endpoint;
        if let Some(reason) = invalid(endpoint) {
            // The part before the @ may be a password.
            let shown = endpoint.rsplit_once('@').map_or(endpoint.as_str(), |(_, host)| host);
            return Err(TracesError::Endpoint { endpoint: shown.to_owned(), reason });
        }
        let refused = |reason| TracesError::Authorities { reason };
        let authorities = match &settings.authorities {
            Some(path) => tls::certificates(path).map_err(refused)?,
            None => Vec::new(),
        };
        let connector = tls::connector(authorities, None).map_err(refused)?;
        let client = Client::new(connector, timeout)
            .map_err(|reason| TracesError::Exporter { endpoint: endpoint.clone(), reason })?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let refused = || TracesError::Header { name: name.clone() };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| refused())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self { client, timeout, headers, end, last_error })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, payload) = request.into_parts();
        parts.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(http::USER_AGENT));
        parts.headers.extend(self.headers.clone());
        let mut attempts = 0;
        loop {
            let request = Request::from_parts(parts.clone(), payload.clone());
            let (status, after) = match self.client.send_blocking(request, MAX_RESPONSE, self.timeout) {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => (response.status(), retry_after(response.headers())),
                Err(http::HttpError::TooLarge { status, .. }) if !status.is_success() => (status, None),
                Err(error) => return Err(error.into()),
            };
            attempts += 1;
            let again = retry::is_retryable(status)
                .then(|| retry::delay(attempts, after, fastrand::f64()))
                .flatten()
                .filter(|delay| self.wait(*delay, status));
            if again.is_none() {
                return Err(refusal(status, attempts).into());
            }
        }
    }

    /// Waits. Returns `false` if shutdown came first. Moderation continues meanwhile: new spans go to the queue or, if it is
    /// full, are dropped and counted.
    fn wait(&self, delay: Duration, status: StatusCode) -> bool {
        tracing::debug!(%status, delay_ms = delay.as_millis(), "the collector is busy: the request is repeated");
        matches!(self.end.recv_timeout(delay), Err(RecvTimeoutError::Timeout))
    }
}

/// Describes the status. The collector's own text may have any length and is not used.
fn refusal(status: StatusCode, attempts: u32) -> String {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": the headers of traces.secrets are not accepted, or there are none"
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            ": the path is wrong; most collectors accept spans at /v1/traces"
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ": it does not accept OTLP as protobuf",
        _ => "",
    };
    let times = if attempts > 1 { format!(" to {attempts} requests") } else { String::new() };
    format!("it answers {status}{times}{hint}")
}

#[async_trait::async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.send(request).inspect_err(|error| self.last_error.note(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crossbeam_channel::never;

    use super::*;

    fn open(endpoint: &str, header: (&str, &str)) -> Result<CollectorClient, TracesError> {
        let (name, value) = header;
        let settings = Settings {
            endpoint: endpoint.into(),
            headers: vec![(name.into(), value.into())],
            ..Settings::default()
        };
        CollectorClient::new(&settings, Duration::from_secs(1), never(), Arc::default())
    }

    #[test]
    fn addresses_and_headers_are_checked_without_showing_secrets() {
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
        let refused = || {
            CollectorClient::new(&settings, Duration::from_secs(1), never(), Arc::default())
                .unwrap_err()
                .to_string()
        };
        assert!(refused().contains("ca.pem"), "{}", refused());
        fs::write(&path, "no certificate").unwrap();
        assert!(refused().contains("no certificate in PEM"), "{}", refused());
    }
}
