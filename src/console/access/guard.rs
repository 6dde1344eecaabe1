//! The guard of `/api`: it finds the user of a request and refuses forged ones.
//!
//! A browser sends a session's cookie, basic credentials and what a proxy adds with every request, also with those that
//! another site makes it send. So a request that changes something must carry the CSRF token, which other sites cannot read,
//! and must not come from another origin. A bearer token is never sent by itself, and needs no CSRF token.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::credentials::{Entry, MAX_SECRET};
use super::failures::Attempt;
use super::secrets::{self, Digest};
use super::{Access, ApiError, Role, Session};
use crate::console::App;
use crate::ops::http::Peer;

/// The header with the CSRF token.
pub const CSRF_HEADER: &str = "x-aegis-csrf";
/// The header with the secret of a proxy.
const PROXY_SECRET_HEADER: &str = "x-aegis-proxy-secret";
/// The cookie of a session.
pub const COOKIE: &str = "aegis_session";
/// The paths that need no session. They still need the header of the CSRF token, which another site cannot send.
const OPEN: [&str; 2] = ["/api/login", "/api/logout"];
/// The greatest number of verified passwords that are remembered.
const MAX_VERIFIED: usize = 256;

/// The kind of proof that a request carries.
enum Proof {
    /// A bearer token, which no browser sends by itself.
    Bearer,
    /// Something that a browser or a proxy sends with every request.
    Ambient,
}

/// Finds the session of a request, and refuses forged ones.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admit(&app.access, &parts).await {
        Ok(session) => {
            if let Some(session) = session {
                parts.extensions.insert(session);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    }
}

/// Returns the session, or `None` for a request that needs none.
async fn admit(access: &Access, request: &Parts) -> Result<Option<Session>, ApiError> {
    let headers = &request.headers;
    let changes = !matches!(request.method, Method::GET | Method::HEAD);
    if changes {
        check_origin(headers)?;
    }
    let open = OPEN.contains(&request.uri.path());
    if open {
        if changes && text(headers, CSRF_HEADER).is_none() {
            return Err(forged());
        }
        return Ok(None);
    }
    let peer = request.extensions.get::<Peer>().map(|peer| peer.0.ip());
    let (session, proof) = access.identify(headers, peer).await?;
    if changes && matches!(proof, Proof::Ambient) {
        let sent = text(headers, CSRF_HEADER).unwrap_or_default();
        if !secrets::equal(sent.as_bytes(), access.csrf(&session.name).as_bytes()) {
            return Err(forged());
        }
    }
    Ok(Some(session))
}

fn forged() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "the request does not come from this console's pages: load the page again",
    )
}

/// Refuses a request that another site makes a browser send.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    match text(headers, header::ORIGIN.as_str()) {
        Some(origin) => {
            let from = origin.split_once("://").map_or("", |(_, host)| host);
            // Proxies may set another Host. Another site can send neither of the two.
            let own = [header::HOST.as_str(), "x-forwarded-host"].map(|name| text(headers, name));
            if !from.is_empty() && own.into_iter().flatten().any(|host| host.eq_ignore_ascii_case(from)) {
                return Ok(());
            }
            Err(forged())
        }
        // Programs send no Origin. Browsers send it, or at least this one.
        None => match text(headers, "sec-fetch-site") {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) => Err(forged()),
        },
    }
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
    async fn identify(
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
    let host = text(headers, header::HOST.as_str()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if ["localhost", "127.0.0.1", "[::1]"].contains(&name) {
        return Ok(());
    }
    let reason =
        "without credentials the console answers only to localhost and 127.0.0.1: set console.credentials";
    Err(ApiError::new(StatusCode::FORBIDDEN, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Console;
    use crate::console::access::{Credentials, Kind};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers
                .append(axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn request(method: &str, path: &str, pairs: &[(&str, &str)]) -> Request {
        let mut request =
            Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
        *request.headers_mut() = headers(pairs);
        request
    }

    fn status(access: &Access, method: &str, path: &str, pairs: &[(&str, &str)]) -> u16 {
        match run(admit(access, &request(method, path, pairs).into_parts().0)) {
            Ok(_) => 200,
            Err(error) => error.status().as_u16(),
        }
    }

    struct Site {
        access: Access,
        token: String,
        password: String,
        _folder: tempfile::TempDir,
    }

    fn site(header: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let token = Credentials::add(&path, "ann", Role::Reviewer, Kind::Token).unwrap().unwrap();
        let password = Credentials::add(&path, "bob", Role::Viewer, Kind::Password).unwrap().unwrap();
        Credentials::add(&path, "eve", Role::Viewer, Kind::Proxy).unwrap();
        let settings = Console { credentials: path, proxy_header: header.into(), ..Console::default() };
        Site { access: Access::open(&settings).unwrap(), token, password, _folder: folder }
    }

    #[test]
    fn a_session_is_needed_and_a_wrong_secret_is_refused() {
        let Site { access, token, password, .. } = site("");
        let get = |authorization: &str| {
            status(&access, "GET", "/api/overview", &[("authorization", authorization)])
        };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(status(&access, "GET", "/api/overview", &[]), 401);
        assert_eq!(status(&access, "GET", "/api/overview", &[("cookie", "aegis_session=x")]), 401);
        assert_eq!(get(&format!("Bearer {token}")), 200);
        assert_eq!(get(&basic(&format!("bob:{password}"))), 200);
        assert_eq!(get(&basic(&format!("bob:{password}"))), 200, "as verified before");
        for wrong in [
            "Bearer",
            "Bearer x",
            "Basic x",
            "Digest x",
            &*basic("bob:x"),
            &*basic(&format!("ann:{password}")),
        ] {
            assert_eq!(get(wrong), 401, "{wrong}");
        }
        let proxied = [("x-user", "eve")];
        assert_eq!(status(&access, "GET", "/api/overview", &proxied), 401, "no proxy is configured");
    }

    #[test]
    fn failures_are_limited_and_a_token_is_never_locked_out() {
        static NOW: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let Site { mut access, token, password, .. } = site("");
        access.clock = || *NOW;
        let get = |authorization: &str| status(&access, "GET", "/api/x", &[("authorization", authorization)]);
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for _ in 0..20 {
            assert_eq!(get("Bearer wrong"), 401);
        }
        assert_eq!(get("Bearer wrong"), 429);
        assert_eq!(get(&format!("Bearer {token}")), 200);
        assert_eq!(get(&basic(&format!("bob:{password}"))), 200, "wrong tokens do not limit passwords");
        let wrong: Vec<u16> = (0..6).map(|_| get(&basic("ann:x"))).collect();
        assert_eq!(wrong, [401, 401, 401, 401, 401, 429]);
        assert_eq!(get(&basic(&format!("bob:{password}"))), 200);
    }

    #[test]
    fn a_forged_request_changes_nothing() {
        let Site { access, token, .. } = site("");
        let entry = run(access.verify(None, &token, None)).unwrap_or_else(|_| unreachable!());
        let cookie = access.sessions().begin("ann", entry.fingerprint(), Instant::now());
        let cookie = format!("other=1; {COOKIE}={cookie}");
        let csrf = access.csrf("ann");
        let post = |pairs: &[(&str, &str)]| {
            let all = [&[("cookie", cookie.as_str()), ("host", "console:1")][..], pairs].concat();
            status(&access, "POST", "/api/x", &all)
        };
        assert_eq!(post(&[(CSRF_HEADER, &csrf), ("origin", "http://console:1")]), 200);
        assert_eq!(post(&[(CSRF_HEADER, &csrf)]), 200, "a program");
        for forged in [
            &[] as &[_],
            &[("origin", "http://console:1")],
            &[(CSRF_HEADER, "x")],
            &[(CSRF_HEADER, &*access.csrf("bob"))],
            &[(CSRF_HEADER, &*csrf), ("origin", "http://evil:1")],
            &[(CSRF_HEADER, &*csrf), ("origin", "null")],
            &[(CSRF_HEADER, &*csrf), ("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(post(forged), 403, "{forged:?}");
        }
        let bearer = format!("Bearer {token}");
        assert_eq!(status(&access, "POST", "/api/x", &[("authorization", &bearer)]), 200);
        assert_eq!(status(&access, "POST", "/api/login", &[]), 403, "a form of another site");
    }

    #[test]
    fn a_session_ends_with_its_user() {
        let Site { access, token, _folder: folder, .. } = site("");
        let entry = run(access.verify(None, &token, None)).unwrap_or_else(|_| unreachable!());
        let cookie = access.sessions().begin("ann", [0; 32], Instant::now());
        let get =
            |cookie: &str| status(&access, "GET", "/api/x", &[("cookie", &format!("{COOKIE}={cookie}"))]);
        assert_eq!(get(&cookie), 401, "the entry has changed since");
        let cookie = access.sessions().begin("ann", entry.fingerprint(), Instant::now());
        assert_eq!(get(&cookie), 200);
        drop(folder);
    }

    #[test]
    fn a_proxy_is_trusted_only_with_its_secret() {
        let mut site = site("x-user");
        let get = |access: &Access, pairs: &[(&str, &str)]| status(access, "GET", "/api/x", pairs);
        assert_eq!(get(&site.access, &[("x-user", "eve")]), 200);
        assert_eq!(
            get(&site.access, &[("x-user", "ann")]),
            403,
            "ann has a token, and no proxy speaks for her"
        );
        assert_eq!(get(&site.access, &[("x-user", "absent")]), 403);
        assert_eq!(
            get(&site.access, &[("x-user", "eve"), ("x-user", "eve")]),
            403,
            "one may be the browser's"
        );
        site.access.proxy.as_mut().unwrap().secret = Some("s3cret".into());
        assert_eq!(get(&site.access, &[("x-user", "eve")]), 403);
        assert_eq!(get(&site.access, &[("x-user", "eve"), (PROXY_SECRET_HEADER, "x")]), 403);
        assert_eq!(get(&site.access, &[("x-user", "eve"), (PROXY_SECRET_HEADER, "s3cret")]), 200);
    }

    #[test]
    fn without_credentials_only_this_machine_is_answered() {
        let access = Access::open(&Console::default()).unwrap();
        for host in ["localhost", "localhost:9465", "127.0.0.1:1", "[::1]:1", "[::1]"] {
            assert_eq!(status(&access, "GET", "/api/x", &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example:9465", "", "127.0.0.1.evil.example", "localhost:x"] {
            assert_eq!(status(&access, "GET", "/api/x", &[("host", host)]), 403, "{host}");
        }
        let csrf = access.csrf("local");
        let post =
            |csrf: &str| status(&access, "POST", "/api/x", &[("host", "localhost"), (CSRF_HEADER, csrf)]);
        assert_eq!((post(&csrf), post("x")), (200, 403));
    }
}
