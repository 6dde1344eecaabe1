//! Requests with and without a proof, forged ones, and too many failures.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::Console;
use crate::console::access::identify::{COOKIE, PROXY_SECRET_HEADER};
use crate::console::access::{Credentials, Kind, Role};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn request(method: &str, path: &str, pairs: &[(&str, &str)]) -> Request {
    let mut request = Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
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
    let get =
        |authorization: &str| status(&access, "GET", "/api/overview", &[("authorization", authorization)]);
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    assert_eq!(status(&access, "GET", "/api/overview", &[]), 401);
    assert_eq!(status(&access, "GET", "/api/overview", &[("cookie", "aegis_session=x")]), 401);
    assert_eq!(get(&format!("Bearer {token}")), 200);
    assert_eq!(get(&basic(&format!("bob:{password}"))), 200);
    assert_eq!(get(&basic(&format!("bob:{password}"))), 200, "as verified before");
    for wrong in
        ["Bearer", "Bearer x", "Basic x", "Digest x", &*basic("bob:x"), &*basic(&format!("ann:{password}"))]
    {
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
    let get = |cookie: &str| status(&access, "GET", "/api/x", &[("cookie", &format!("{COOKIE}={cookie}"))]);
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
    assert_eq!(get(&site.access, &[("x-user", "ann")]), 403, "ann has a token, and no proxy speaks for her");
    assert_eq!(get(&site.access, &[("x-user", "absent")]), 403);
    assert_eq!(get(&site.access, &[("x-user", "eve"), ("x-user", "eve")]), 403, "one may be the browser's");
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
    let post = |csrf: &str| status(&access, "POST", "/api/x", &[("host", "localhost"), (CSRF_HEADER, csrf)]);
    assert_eq!((post(&csrf), post("x")), (200, 403));
}
