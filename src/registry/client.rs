//! The three requests of Confluent's API that Aegis sends. Each is bounded in time and size.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use native_tls::TlsConnector;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::RegistryError;
use crate::codec::{MAX_SCHEMA, SchemaId, Writer};
use crate::config;
use crate::http::{self, HttpError, tls};

/// The maximum size of an answer, in bytes: a schema with every character escaped.
const MAX_ANSWER: usize = 6 * MAX_SCHEMA + 4_096;
/// The maximum length of the registry's message in an error, in characters.
const MAX_MESSAGE: usize = 300;
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// The reason why a request has no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// The registry does not have the schema or the subject.
    NotFound,
    /// The answer is not a schema that records can be read with.
    Unusable,
    /// The schema conflicts with those that are registered already.
    Conflict(String),
    /// The registry refuses the request. Repeating it does not change that.
    Refused(String),
    /// There was no answer, or one that makes no sense. A repeated request may succeed.
    Unavailable(String),
}

/// An HTTP client for one registry.
pub struct Client {
    client: http::Client,
    /// The timeout of a request.
    timeout: Duration,
    urls: Vec<String>,
    /// The number of failures, modulo the number of addresses: the index of the address in use.
    current: AtomicUsize,
    authorization: Option<String>,
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error_code: u32,
    #[serde(default)]
    message: String,
}

fn settings_error(key: &'static str, reason: impl Into<String>) -> RegistryError {
    RegistryError::Settings { key, reason: reason.into() }
}

fn tls(settings: &config::Registry) -> Result<TlsConnector, RegistryError> {
    let given = |path: &Path| !path.as_os_str().is_empty();
    let refused = |key| move |reason| settings_error(key, reason);
    let authorities = match given(&settings.authorities) {
        true => tls::certificates(&settings.authorities).map_err(refused("authorities"))?,
        false => Vec::new(),
    };
    let (certificate, key) = (&settings.certificate, &settings.key);
    let identity = match given(certificate) && given(key) {
        true => {
            tls::certificates(certificate).map_err(refused("certificate"))?;
            Some(tls::identity(certificate, key).map_err(refused("key"))?)
        }
        false => None,
    };
    tls::connector(authorities, identity).map_err(refused("authorities"))
}

/// Checks an address and returns it without the slashes at its end.
fn address(url: &str) -> Result<String, RegistryError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest.and_then(|rest| rest.split('/').next()) {
        // The address is logged, so it must not contain a password.
        Some(host) if host.contains('@') => Err(settings_error(
            "url",
            "take user and password out of the address: they go to registry.user and registry.password",
        )),
        Some(host) if !host.is_empty() && !url.contains(['?', '#']) => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(settings_error(
            "url",
            format!("{url} is no address: write http://host:port/path or https://..."),
        )),
    }
}

impl Client {
    pub fn new(settings: &config::Registry) -> Result<Self, RegistryError> {
        if settings.url.is_empty() {
            return Err(settings_error("url", "is empty"));
        }
        let urls = settings.url.split(',').map(|url| address(url.trim())).collect::<Result<Vec<_>, _>>()?;
        let timeout = Duration::from_millis(settings.request_timeout_ms);
        let client =
            http::Client::new(tls(settings)?, timeout).map_err(|reason| RegistryError::Thread { reason })?;
        let authorization = (!settings.user.is_empty()).then(|| {
            let credentials = format!("{}:{}", settings.user, settings.password.expose());
            format!("Basic {}", STANDARD.encode(credentials))
        });
        Ok(Self { client, timeout, urls, current: AtomicUsize::new(0), authorization })
    }

    /// Requests the schema of an id.
    pub fn writer(&self, id: SchemaId) -> Result<Writer, RequestError> {
        let path = match id {
            SchemaId::Number(number) => format!("/schemas/ids/{number}"),
            SchemaId::Guid(_) => format!("/schemas/guids/{id}"),
        };
        let found: SchemaAnswer = match self.send(&path, None) {
            // Registries without GUIDs do not have this path. One such record must not stop the service.
            Err(RequestError::Refused(_)) if matches!(id, SchemaId::Guid(_)) => {
                return Err(RequestError::NotFound);
            }
            other => other?,
        };
        match found.kind.as_deref() {
            None | Some("AVRO") if found.references.is_empty() => {
                Writer::avro(&found.schema).ok_or(RequestError::Unusable)
            }
            Some("JSON") => Ok(Writer::json()),
            _ => Err(RequestError::Unusable),
        }
    }

    /// Requests the id of a schema under a subject, and registers the schema if `add` is set.
    pub fn id(&self, subject: &str, schema: &str, add: bool) -> Result<u32, RequestError> {
        let subject = utf8_percent_encode(subject, NON_ALPHANUMERIC);
        let path = format!("/subjects/{subject}{}", if add { "/versions" } else { "" });
        let body = json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        self.send(&path, Some(&body)).map(|IdAnswer { id }| id)
    }

    /// Sends a request to the current address. The next address becomes the current one if this one is unavailable.
    fn send<T: DeserializeOwned>(&self, path: &str, body: Option<&str>) -> Result<T, RequestError> {
        let index = self.current.load(Ordering::Relaxed);
        let answer = self.send_to(&self.urls[index % self.urls.len()], path, body);
        if matches!(answer, Err(RequestError::Unavailable(_))) {
            self.current.store(index.wrapping_add(1), Ordering::Relaxed);
        }
        answer
    }

    fn send_to<T: DeserializeOwned>(
        &self,
        url: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<T, RequestError> {
        let unavailable =
            |error: &dyn std::fmt::Display| RequestError::Unavailable(format!("{url}: {error}"));
        let mut request = Request::builder()
            .method(if body.is_some() { Method::POST } else { Method::GET })
            .uri(format!("{url}{path}"))
            .header(USER_AGENT, http::USER_AGENT)
            .header(ACCEPT, MEDIA_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE);
        }
        let body = Bytes::from(body.unwrap_or_default().to_owned());
        let request = request.body(body).map_err(|error| unavailable(&error))?;
        let answer = match self.client.send_blocking(request, MAX_ANSWER, self.timeout) {
            Ok(answer) => answer,
            Err(HttpError::TooLarge { status, .. }) if status.is_success() => {
                return Err(RequestError::Unusable);
            }
            Err(error) => return Err(unavailable(&error)),
        };
        let (status, bytes) = (answer.status(), answer.into_body());
        if status.is_success() {
            let unexpected = |_| {
                RequestError::Unavailable(format!(
                    "{url} answers {status} with something else than asked for"
                ))
            };
            return serde_json::from_slice(&bytes).map_err(unexpected);
        }
        Err(status_error(url, status, &bytes))
    }
}

/// Returns the error for an answer whose status is not a success.
fn status_error(url: &str, status: StatusCode, body: &[u8]) -> RequestError {
    let answer = serde_json::from_slice::<ErrorAnswer>(body).ok();
    // Control characters would let the registry write log lines of its own.
    let message: String = answer
        .iter()
        .flat_map(|answer| answer.message.chars())
        .filter(|letter| !letter.is_control())
        .take(MAX_MESSAGE)
        .collect();
    match (status, answer) {
        (StatusCode::NOT_FOUND, Some(answer)) if (40_401..=40_403).contains(&answer.error_code) => {
            RequestError::NotFound
        }
        (StatusCode::NOT_FOUND, _) => RequestError::Refused(format!(
            "{url} answers 404 as if it were no registry: does registry.url name its Confluent API, with \
             its path?"
        )),
        (StatusCode::CONFLICT, _) => RequestError::Conflict(message),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => RequestError::Refused(format!(
            "{url} answers {status} {message}: registry.user and registry.password, or the certificate, \
             do not open it"
        )),
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => {
            RequestError::Unavailable(format!("{url} answers {status} {message}"))
        }
        _ if status.is_server_error() => {
            RequestError::Unavailable(format!("{url} answers {status} {message}"))
        }
        _ => RequestError::Refused(format!("{url} answers {status} {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address("http://r:8081/apis/v7/").as_deref(), Ok("http://r:8081/apis/v7"));
        for bad in ["", "r:8081", "ftp://r", "http://", "https:///x", "http://r/?a=b"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        let error = address("https://me:secret@r").unwrap_err().to_string();
        assert!(error.contains("registry.password") && !error.contains("secret"), "{error}");
    }
}
