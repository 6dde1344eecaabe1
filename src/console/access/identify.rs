//! Finds the user of a request: by a session, a proxy, a token or a password.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::credentials::{Entry, MAX_SECRET};
use super::failures::Attempt;
use super::{Access, ApiError, Role, Session};
use crate::access::is_to_this_machine;
use crate::access::secrets::{self, Digest};

/// The cookie of a session.
pub const COOKIE: &str = "aegis_session";
/// The header with the secret of a proxy.
pub const PROXY_SECRET_HEADER: &str = "x-aegis-proxy-secret";
/// The greatest number of verified passwords that are remembered.
const MAX_VERIFIED: usize = 256;

/// The kind of proof that a request carries.
pub enum Proof {
    /// A bearer token, which no browser sends by itself.
    Bearer,
    /// Something that a browser or a proxy sends with every request.
    Ambient,
}

/// Returns a header as text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the value of the session's cookie.
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn session(entry: &Entry) -> Session {
    Session { name: entry.name.clone(), role: entry.role }
}

impl Access {
    /// Returns the session of a request, and the kind of proof that it carries.
    ///
    /// # Errors
    /// Returns 401 or 403 if no user is proven, and 429 after too many failures.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<(Session, Proof), ApiError> {
        if self.store.is_none() {
            check_host(headers)?;
            return Ok((Session { name: "local".into(), role: Role::Reviewer }, Proof::Ambient));
        }
        let credentials = self.credentials();
        if let Some(proxy) = &self.proxy
            && let Some(name) = headers.get(&proxy.header).and_then(|value| value.to_str().ok())
        {
            if headers.get_all(&proxy.header).iter().count() > 1 {
                // A proxy that adds its header to that of a browser lets everyone choose a name.
                let refused =
                    "the proxy sends console.proxy_header more than once: let it replace the header";
                return Err(ApiError::new(StatusCode::FORBIDDEN, refused));
            }
            let proven = proxy.secret.as_ref().is_none_or(|secret| {
                let sent = text(headers, PROXY_SECRET_HEADER).unwrap_or_default();
                secrets::equal(sent.as_bytes(), secret.as_bytes())
            });
            let entry = credentials.behind_proxy(name).filter(|_| proven);
            let refused =
                "the proxy's user has no entry in the console's credentials, or the proxy's secret is wrong";
            let entry = entry.ok_or_else(|| ApiError::new(StatusCode::FORBIDDEN, refused))?;
            return Ok((session(entry), Proof::Ambient));
        }
        if let Some(authorization) = text(headers, header::AUTHORIZATION.as_str()) {
            return self.authorize(authorization, peer).await;
        }
        if let Some(cookie) = cookie(headers) {
            let found =
                self.sessions().find(cookie, Instant::now()).map(|(name, print)| (name.to_owned(), print));
            let entry = found.and_then(|(name, fingerprint)| {
                credentials.find(&name).filter(|entry| entry.fingerprint() == fingerprint)
            });
            if let Some(entry) = entry {
                return Ok((session(entry), Proof::Ambient));
            }
        }
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "log in first"))
    }

    /// Returns the session of an `Authorization` header.
    async fn authorize(&self, value: &str, peer: Option<IpAddr>) -> Result<(Session, Proof), ApiError> {
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let entry = self.verify(None, rest.trim(), peer).await?;
            return Ok((session(&entry), Proof::Bearer));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some((name, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
                let entry = self.verify(Some(name), password, peer).await?;
                return Ok((session(&entry), Proof::Ambient));
            }
        }
        Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "the header Authorization is neither a bearer token nor basic",
        ))
    }

    /// Returns the entry of a token, or of a name and a password. Tokens are accepted in place of passwords.
    ///
    /// # Errors
    /// Returns 401 if the secret is wrong, and 429 after too many failures.
    pub async fn verify(
        &self,
        name: Option<&str>,
        secret: &str,
        peer: Option<IpAddr>,
    ) -> Result<Entry, ApiError> {
        let peer = peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let wrong = || ApiError::new(StatusCode::UNAUTHORIZED, "the name or the secret is wrong");
        if secret.len() > MAX_SECRET || name.is_some_and(|name| name.len() > MAX_SECRET) {
            return Err(wrong());
        }
        let credentials = self.credentials();
        // A token of 256 bits cannot be guessed, so that failures of others never lock out its owner.
        if let Some(entry) = credentials.with_token(secret)
            && name.is_none_or(|name| name.is_empty() || name == entry.name)
        {
            return Ok(entry.clone());
        }
        let entry = match name.filter(|name| !name.is_empty()) {
            Some(name) => self.with_password(&credentials, name, secret, peer).await?,
            None => {
                self.failures().charge(Attempt::Token, peer, (self.clock)()).map_err(ApiError::too_many)?;
                None
            }
        };
        entry.ok_or_else(|| {
            tracing::warn!(%peer, "a login to the console failed");
            wrong()
        })
    }

    async fn with_password(
        &self,
        credentials: &Arc<super::Credentials>,
        name: &str,
        password: &str,
        peer: IpAddr,
    ) -> Result<Option<Entry>, ApiError> {
        let attempt = Attempt::Password(name);
        // Attempts beyond the limit do not wait for those that are verified.
        if let Some(wait) = self.failures().wait(attempt, peer, (self.clock)()) {
            return Err(ApiError::too_many(wait));
        }
        let pair = format!("{}:{name}:{password}", name.len());
        let key: Digest = secrets::keyed(&self.key, "verified", pair.as_bytes());
        let known = || {
            let known = self.verified.lock().ok().and_then(|verified| verified.get(&key).copied());
            credentials.find(name).filter(|entry| known == Some(entry.fingerprint())).cloned()
        };
        if let Some(entry) = known() {
            return Ok(Some(entry));
        }
        let unavailable = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the console is stopping");
        let permit = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| unavailable())?;
        if let Some(entry) = known() {
            return Ok(Some(entry));
        }
        // Charged here, many guesses at the same time are limited as those one after the other are.
        self.failures().charge(attempt, peer, (self.clock)()).map_err(ApiError::too_many)?;
        let (shared, user, password) = (Arc::clone(credentials), name.to_owned(), password.to_owned());
        let verified = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            shared.with_password(&user, &password).cloned()
        });
        let entry = verified.await.map_err(|_| unavailable())?;
        if entry.is_some() {
            self.failures().refund(attempt, peer, (self.clock)());
        }
        if let (Some(entry), Ok(mut verified)) = (&entry, self.verified.lock()) {
            if verified.len() >= MAX_VERIFIED {
                verified.clear();
            }
            verified.insert(key, entry.fingerprint());
        }
        Ok(entry)
    }
}

/// Without credentials, the address is the only protection: a page of another site whose name resolves to this machine must
/// not read anything.
fn check_host(headers: &HeaderMap) -> Result<(), ApiError> {
    if is_to_this_machine(headers) {
        return Ok(());
    }
    let reason =
        "without credentials the console answers only to localhost and 127.0.0.1: set console.credentials";
    Err(ApiError::new(StatusCode::FORBIDDEN, reason))
}
