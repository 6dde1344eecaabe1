//! What goes over the wire: three requests of Confluent's API, each bounded in time and size.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use super::{RegistryError, Settings};
use crate::codec::{MAX_SCHEMA, SchemaId, Writer};
use crate::config::pem;

/// Greatest answer read, in bytes: a schema with every character escaped.
const MAX_ANSWER: u64 = 6 * MAX_SCHEMA as u64 + 4_096;
/// Greatest part of the registry's own words passed on, in characters.
const MAX_WORDS: usize = 300;
/// How a key in PKCS#8 begins; no other kind goes to OpenSSL through native-tls.
const PKCS8: &[u8] = b"-----BEGIN PRIVATE KEY-----";
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// Why there is no answer to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The registry does not have it.
    Unknown,
    /// It has it, and it is no schema that we can read with.
    Unfit,
    /// It is at odds with what is registered already.
    Conflict(String),
    /// The registry will not answer this however often it is asked.
    Refused(String),
    /// No answer, or none that makes sense: asking again may help.
    Absent(String),
}

/// An HTTP client for one registry.
pub struct Client {
    agent: ureq::Agent,
    urls: Vec<String>,
    /// The address that answered last.
    current: AtomicUsize,
    authorization: Option<String>,
}

#[derive(Deserialize)]
struct Schema {
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Complaint {
    error_code: u32,
    #[serde(default)]
    message: String,
}

fn wrong(key: &'static str, reason: impl Into<String>) -> RegistryError {
    RegistryError::Settings { key, reason: reason.into() }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, RegistryError> {
    fs::read(path).map_err(|error| wrong(key, format!("cannot read {}: {error}", path.display())))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<Certificate<'static>>, RegistryError> {
    pem::certificates(path).map_err(|reason| wrong(key, reason))
}

fn tls(settings: &Settings) -> Result<TlsConfig, RegistryError> {
    let roots = match &settings.authorities {
        Some(path) => RootCerts::from(certificates("authorities", path)?.into_iter()),
        None => RootCerts::PlatformVerifier,
    };
    let mut tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots);
    if let Some((certificate, key)) = &settings.identity {
        let chain = certificates("certificate", certificate)?;
        let unfit = || {
            let how = "openssl pkcs8 -topk8 -nocrypt makes one";
            wrong("key", format!("{} holds no key in PKCS#8 PEM without a pass phrase: {how}", key.display()))
        };
        let pem = read("key", key)?;
        // The other kinds begin with "BEGIN RSA PRIVATE KEY", "BEGIN EC PRIVATE KEY", ...
        if !pem.windows(PKCS8.len()).any(|part| part == PKCS8) {
            return Err(unfit());
        }
        let key = PrivateKey::from_pem(&pem).map_err(|_| unfit())?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(tls.build())
}

/// An address as requests begin with it.
fn address(url: &str) -> Result<String, RegistryError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest.map(|rest| rest.split('/').next().unwrap_or_default()) {
        // The address is logged: what it would hold of a password must not be.
        Some(host) if host.contains('@') => Err(wrong(
            "url",
            "take user and password out of the address: they go to registry.user and registry.password",
        )),
        Some(host) if !host.is_empty() && !url.contains(['?', '#']) => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(wrong("url", format!("{url} is no address: write http://host:port/path or https://..."))),
    }
}

impl Client {
    pub fn new(settings: &Settings) -> Result<Self, RegistryError> {
        let urls = settings.urls.iter().map(|url| address(url)).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(wrong("url", "is empty"));
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(settings.request))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A registry stands beside its brokers, which no proxy leads to either.
            .proxy(None)
            .user_agent(concat!("aegis/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls(settings)?)
            .build()
            .new_agent();
        let authorization = (!settings.user.is_empty()).then(|| {
            format!("Basic {}", STANDARD.encode(format!("{}:{}", settings.user, settings.password)))
        });
        Ok(Self { agent, urls, current: AtomicUsize::new(0), authorization })
    }

    /// The schema of an id.
    pub fn writer(&self, id: SchemaId) -> Result<Writer, Fault> {
        let path = match id {
            SchemaId::Number(number) => format!("/schemas/ids/{number}"),
            SchemaId::Guid(_) => format!("/schemas/guids/{id}"),
        };
        let found: Schema = match self.send(&path, None) {
            // Registries without GUIDs do not know the path either; one record must not stop the service.
            Err(Fault::Refused(_)) if matches!(id, SchemaId::Guid(_)) => return Err(Fault::Unknown),
            other => other?,
        };
        match found.kind.as_deref() {
            None | Some("AVRO") if found.references.is_empty() => {
                Writer::avro(&found.schema).ok_or(Fault::Unfit)
            }
            Some("JSON") => Ok(Writer::json()),
            _ => Err(Fault::Unfit),
        }
    }

    /// The id of a schema under a subject, registering it where `add` is set.
    pub fn id(&self, subject: &str, schema: &str, add: bool) -> Result<u32, Fault> {
        let subject = utf8_percent_encode(subject, NON_ALPHANUMERIC);
        let path = format!("/subjects/{subject}{}", if add { "/versions" } else { "" });
        let body = json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        self.send(&path, Some(&body)).map(|Id { id }| id)
    }

    fn send<T: DeserializeOwned>(&self, path: &str, body: Option<&str>) -> Result<T, Fault> {
        let place = self.current.load(Ordering::Relaxed);
        let url = self.urls.get(place % self.urls.len()).map_or("", String::as_str);
        let answer = self.ask(url, path, body);
        if matches!(answer, Err(Fault::Absent(_))) {
            self.current.store(place.wrapping_add(1), Ordering::Relaxed);
        }
        answer
    }

    fn ask<T: DeserializeOwned>(&self, url: &str, path: &str, body: Option<&str>) -> Result<T, Fault> {
        let absent = |error: ureq::Error| Fault::Absent(format!("{url}: {error}"));
        let full = format!("{url}{path}");
        let mut answer = match body {
            None => {
                let mut request = self.agent.get(full).header("Accept", CONTENT);
                if let Some(authorization) = &self.authorization {
                    request = request.header("Authorization", authorization);
                }
                request.call()
            }
            Some(body) => {
                let mut request =
                    self.agent.post(full).header("Accept", CONTENT).header("Content-Type", CONTENT);
                if let Some(authorization) = &self.authorization {
                    request = request.header("Authorization", authorization);
                }
                request.send(body)
            }
        }
        .map_err(absent)?;
        let status = answer.status();
        let bytes = match answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec() {
            Ok(bytes) => bytes,
            Err(ureq::Error::BodyExceedsLimit(_)) if status.is_success() => return Err(Fault::Unfit),
            Err(error) => return Err(absent(error)),
        };
        if status.is_success() {
            let odd = |_| Fault::Absent(format!("{url} answers {status} with something else than asked for"));
            return serde_json::from_slice(&bytes).map_err(odd);
        }
        let complaint = serde_json::from_slice::<Complaint>(&bytes).ok();
        // Control characters would let it write log lines of its own.
        let words: String = complaint
            .iter()
            .flat_map(|complaint| complaint.message.chars())
            .filter(|letter| !letter.is_control())
            .take(MAX_WORDS)
            .collect();
        Err(match (status, complaint) {
            (StatusCode::NOT_FOUND, Some(complaint)) if (40_401..=40_403).contains(&complaint.error_code) => {
                Fault::Unknown
            }
            (StatusCode::NOT_FOUND, _) => Fault::Refused(format!(
                "{url} answers 404 as if it were no registry: does registry.url name its Confluent API, with \
                 its path?"
            )),
            (StatusCode::CONFLICT, _) => Fault::Conflict(words),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Fault::Refused(format!(
                "{url} answers {status} {words}: registry.user and registry.password, or the certificate, \
                 do not open it"
            )),
            (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => {
                Fault::Absent(format!("{url} answers {status} {words}"))
            }
            _ if status.is_server_error() => Fault::Absent(format!("{url} answers {status} {words}")),
            _ => Fault::Refused(format!("{url} answers {status} {words}")),
        })
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
