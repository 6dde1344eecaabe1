//! The three requests of Confluent's API that Aegis sends. Each is bounded in time and size.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use super::RegistryError;
use crate::codec::{MAX_SCHEMA, SchemaId, Writer};
use crate::config::{self, pem};

/// The maximum size of an answer, in bytes: a schema with every character escaped.
const MAX_ANSWER: u64 = 6 * MAX_SCHEMA as u64 + 4_096;
/// The maximum length of the registry's message in an error, in characters.
const MAX_MESSAGE: usize = 300;
/// The first line of a private key in PKCS#8, the only format that native-tls passes to OpenSSL.
const PKCS8_HEADER: &[u8] = b"-----BEGIN PRIVATE KEY-----";
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
    agent: ureq::Agent,
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

fn certificates(key: &'static str, path: &Path) -> Result<Vec<Certificate<'static>>, RegistryError> {
    pem::certificates(path).map_err(|reason| settings_error(key, reason))
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, RegistryError> {
    let pem = fs::read(path)
        .map_err(|error| settings_error("key", format!("cannot read {}: {error}", path.display())))?;
    // The other formats begin with "BEGIN RSA PRIVATE KEY", "BEGIN EC PRIVATE KEY", ...
    let is_pkcs8 = pem.windows(PKCS8_HEADER.len()).any(|part| part == PKCS8_HEADER);
    PrivateKey::from_pem(&pem).ok().filter(|_| is_pkcs8).ok_or_else(|| {
        let fix = "openssl pkcs8 -topk8 -nocrypt makes one";
        settings_error(
            "key",
            format!("{} holds no key in PKCS#8 PEM without a pass phrase: {fix}", path.display()),
        )
    })
}

fn tls(settings: &config::Registry) -> Result<TlsConfig, RegistryError> {
    let given = |path: &Path| !path.as_os_str().is_empty();
    let roots = if given(&settings.authorities) {
        RootCerts::from(certificates("authorities", &settings.authorities)?.into_iter())
    } else {
        RootCerts::PlatformVerifier
    };
    let mut tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots);
    if given(&settings.certificate) && given(&settings.key) {
        let chain = certificates("certificate", &settings.certificate)?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, private_key(&settings.key)?)));
    }
    Ok(tls.build())
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
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(settings.request_timeout_ms)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A registry is in the network of its brokers, which are not reached through a proxy either.
            .proxy(None)
            .user_agent(concat!("aegis/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls(settings)?)
            .build()
            .new_agent();
        let authorization = (!settings.user.is_empty()).then(|| {
            let credentials = format!("{}:{}", settings.user, settings.password.expose());
            format!("Basic {}", STANDARD.encode(credentials))
        });
        Ok(Self { agent, urls, current: AtomicUsize::new(0), authorization })
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
        let unavailable = |error: ureq::Error| RequestError::Unavailable(format!("{url}: {error}"));
        let mut request = ureq::http::Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri(format!("{url}{path}"))
            .header("Accept", MEDIA_TYPE);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let answer = match body {
            Some(body) => {
                let request = request.header("Content-Type", MEDIA_TYPE).body(body);
                request.map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
            }
            None => request.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request)),
        };
        let mut answer = answer.map_err(unavailable)?;
        let status = answer.status();
        let bytes = match answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec() {
            Ok(bytes) => bytes,
            Err(ureq::Error::BodyExceedsLimit(_)) if status.is_success() => {
                return Err(RequestError::Unusable);
            }
            Err(error) => return Err(unavailable(error)),
        };
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
