//! Wrong tokens, forged requests and the command line of users.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aegis::http::{Client, tls};
use bytes::Bytes;
use hyper::{Request, Response};

use crate::browser::{Browser, key};
use crate::world::World;

/// Sends a request to the console as a program does.
fn send(world: &World, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response<Bytes> {
    let timeout = Duration::from_secs(60);
    let client = Client::new(tls::connector(Vec::new(), None).unwrap(), timeout).unwrap();
    let mut request = Request::builder().method(method).uri(format!("{}{path}", world.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Bytes::from(body.to_owned())).unwrap();
    client.send_blocking(request, 1 << 20, timeout).unwrap()
}

#[test]
fn every_response_has_the_headers_of_security() {
    let world = World::start();
    let bearer = format!("Bearer {}", world.viewer);
    for path in ["/", "/assets/shell.js", "/api/overview", "/api/absent", "/absent"] {
        let response = send(&world, "GET", path, &[("authorization", &bearer)], "");
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(
            (header("x-content-type-options"), header("referrer-policy")),
            ("nosniff", "no-referrer"),
            "{path}"
        );
    }
}

#[test]
fn nothing_is_read_without_a_session_or_with_a_wrong_token() {
    let world = World::start();
    let status =
        |path: &str, headers: &[(&str, &str)]| send(&world, "GET", path, headers, "").status().as_u16();
    for path in [
        "/api/overview",
        "/api/experts",
        "/api/decisions",
        "/api/decisions/0/0",
        "/api/dead-letters",
        "/api/session",
        "/api/live",
        "/api/review",
    ] {
        assert_eq!(status(path, &[]), 401, "{path}");
        assert_eq!(status(path, &[("authorization", "Bearer aegis_wrong")]), 401, "{path}");
        assert_eq!(status(path, &[("cookie", "aegis_session=wrong")]), 401, "{path}");
    }
    let bearer = format!("Bearer {}", world.viewer);
    assert_eq!(status("/api/overview", &[("authorization", &bearer)]), 200);
    let login = |secret: &str| {
        let body = format!(r#"{{"name":"ann","secret":"{secret}"}}"#);
        let headers = [("content-type", "application/json"), ("x-aegis-csrf", "login")];
        send(&world, "POST", "/api/login", &headers, &body).status().as_u16()
    };
    // While a slow machine verifies, failures are forgiven: the number of attempts until the refusal is not exact.
    let allowed = (0..200).take_while(|_| match login("wrong") {
        401 => true,
        status => {
            assert_eq!(status, 429);
            false
        }
    });
    assert!((5..200).contains(&allowed.count()));
    assert_eq!(login(&world.reviewer), 200, "her token is not guessed, and she is not locked out");
}

#[test]
fn after_the_login_no_address_leads_to_another_site() {
    let (world, browser) = (World::start(), Browser::start());
    for (next, path) in [
        ("/.//elsewhere.example/experts", "//elsewhere.example/experts"),
        ("/..//elsewhere.example", "//elsewhere.example"),
        ("//elsewhere.example/", "/"),
        ("/%5Celsewhere.example", "/"),
        ("https://elsewhere.example/", "/"),
        ("/experts?policy=default", "/experts"),
    ] {
        browser.open_page(&format!("{}/login?next={next}", world.address));
        browser.run("document.getElementById('secret').focus()");
        browser.keys(&format!("{}{}", world.viewer, key::ENTER));
        let there =
            format!("return location.origin === '{}' && location.pathname === '{path}'", world.address);
        browser.until(&format!("{next} leads to {path}"), &there);
    }
}

#[test]
fn a_wrong_token_is_refused_on_the_page_and_a_right_one_leads_on() {
    let (world, browser) = (World::start(), Browser::start());
    browser.open(&format!("{}/experts", world.address));
    browser.until(
        "the page asks to log in",
        "return location.pathname === '/login' && document.body.dataset.loaded",
    );
    browser.run("document.getElementById('secret').focus()");
    browser.keys(&format!("aegis_wrong{}", key::ENTER));
    browser.until(
        "the page says why",
        "return document.getElementById('message').textContent.includes('wrong')",
    );
    assert_eq!(browser.cookies(), serde_json::json!([]));
    browser.keys(&format!("{}{}", world.viewer, key::ENTER));
    browser.until(
        "the first page comes",
        "return location.pathname === '/experts' && document.body.dataset.loaded",
    );
    let cookie = &browser.cookies()[0];
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&true.into(), &"Strict".into()), "{cookie}");
    assert_eq!(browser.run("return document.cookie"), "", "scripts cannot read it");
    browser.run("[...document.querySelectorAll('button')].find(b => b.textContent === 'Log out').click()");
    browser.until("the session is over", "return location.pathname === '/login'");
    assert_eq!(browser.cookies(), serde_json::json!([]));
}

#[test]
fn a_forged_request_is_refused_by_the_server() {
    let world = World::start();
    let body = format!(r#"{{"name":"ann","secret":"{}"}}"#, world.reviewer);
    let headers = [("content-type", "application/json"), ("x-aegis-csrf", "login")];
    let login = send(&world, "POST", "/api/login", &headers, &body);
    let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let session = send(&world, "GET", "/api/session", &[("cookie", &cookie)], "");
    let session: serde_json::Value = serde_json::from_slice(session.body()).unwrap();
    let csrf = session["csrf"].as_str().unwrap();
    let status = |more: &[(&str, &str)]| {
        let headers = [&[("cookie", cookie.as_str())], more].concat();
        send(&world, "POST", "/api/review/unskip", &headers, "").status().as_u16()
    };
    assert_eq!(status(&[("x-aegis-csrf", csrf), ("origin", &world.address)]), 200);
    for forged in [
        &[] as &[_],
        &[("origin", world.address.as_str())],
        &[("x-aegis-csrf", "x")],
        &[("x-aegis-csrf", csrf), ("origin", "http://evil.example")],
        &[("x-aegis-csrf", csrf), ("sec-fetch-site", "cross-site")],
    ] {
        assert_eq!(status(forged), 403, "{forged:?}");
    }
}

/// The browser is logged in, and opens a page of another site that tries to use this.
#[test]
fn a_request_that_another_site_forges_changes_nothing() {
    let (world, browser) = (World::start(), Browser::start());
    browser.log_in(&world.address, &world.reviewer);
    let target = format!("{}/api/logout", world.address);
    let form = format!("<form id=f method=post action='{target}'><input name=a value=b></form>");
    browser.open(&format!("data:text/html,{form}"));
    browser.run("document.getElementById('f').submit()");
    browser.until(
        "the form was refused",
        "return document.body.innerText.includes('does not come from this console')",
    );
    browser.open(&format!("data:text/html,{form}"));
    let script = format!(
        "return Promise.all(['cors', 'no-cors'].map(mode => fetch('{target}', \
         {{ method: 'POST', mode, credentials: 'include', headers: mode === 'cors' ? {{ 'x-aegis-csrf': 'x' }} : {{}} }})\
         .then(r => r.type, () => 'refused')))"
    );
    assert_eq!(browser.run(&script), serde_json::json!(["refused", "refused"]));
    browser.open_page(&format!("{}/", world.address));
    assert_eq!(browser.text(".user"), "ann", "she is still logged in");
}

fn aegis(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_aegis"))
        .args(arguments)
        .arg("--config")
        .arg(folder.join("aegis.toml"))
        .env_remove("AEGIS_CONFIG")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn users_are_managed_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("aegis.toml"), "[console]\ncredentials = \"users\"\n").unwrap();
    let (code, token, told) = aegis(path, &["console", "user", "add", "ann", "--role", "reviewer"]);
    assert_eq!((code, token.trim().len()), (0, 49), "{told}");
    assert!(token.starts_with("aegis_") && !told.contains(token.trim()), "{told}");
    assert!(!fs::read_to_string(path.join("users")).unwrap().contains(token.trim()), "only its hash is kept");
    let (code, _, told) = aegis(path, &["console", "user", "add", "ann"]);
    assert_eq!(code, 65, "{told}");
    let (code, listed, _) = aegis(path, &["console", "user", "list"]);
    assert!(code == 0 && listed.contains("ann") && listed.contains("reviewer"), "{listed}");
    assert_eq!(aegis(path, &["console", "user", "remove", "ann"]).0, 0);
    assert_eq!(aegis(path, &["console", "user", "remove", "ann"]).0, 65);
}

#[test]
fn it_refuses_to_listen_beyond_loopback_without_credentials() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("aegis.toml"), "[console]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    for command in ["console", "run"] {
        let (code, _, told) = aegis(folder.path(), &[command]);
        assert_eq!(code, 78, "{told}");
        assert!(told.contains("console.credentials"), "{told}");
    }
    fs::write(folder.path().join("aegis.toml"), "[console]\ncredentials = \"absent\"\n").unwrap();
    let (code, _, told) = aegis(folder.path(), &["console"]);
    assert!(code == 78 && told.contains("aegis console user add"), "{code} {told}");
}
