//! Servers that are slow, wrong, busy or hostile. The other experts vote whatever the server does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis::core::vote::Abstention;
use aegis::experts::PanelError;

use super::server::{Reply, Server};
use super::{PATIENT, folder, moderation, open, outcomes};
use crate::experts_support::asked::wait_until;
use crate::identity::identity;

/// A deadline that ends a test of a server that never answers.
const HASTY: &str = "deadline_ms = 100\n";

fn answer(status: u16, body: &str) -> Reply {
    Reply::Answer(status, "", body.to_owned())
}

#[test]
fn a_wrong_response_is_an_abstention() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"results\":".to_vec();
    let two = "{\"results\": [{\"category_scores\": {\"hate\": 1}}, {\"category_scores\": {\"hate\": 1}}]}";
    let scored = |number: &str| {
        answer(200, &format!("{{\"results\": [{{\"category_scores\": {{\"hate\": {number}}}}}]}}"))
    };
    let cases = [
        ("not found", answer(404, "no such path"), Abstention::Failed),
        ("refused", answer(401, "who is this?"), Abstention::Failed),
        ("broken", answer(500, "oh no"), Abstention::Failed),
        ("moved", Reply::Answer(302, "Location: http://127.0.0.1:1/\r\n", String::new()), Abstention::Failed),
        ("html", answer(200, "<html><body>Sign in</body></html>"), Abstention::WrongShape),
        ("nothing", answer(200, ""), Abstention::WrongShape),
        ("another form", answer(200, "{\"choices\": []}"), Abstention::WrongShape),
        ("no result", answer(200, "{\"results\": []}"), Abstention::WrongShape),
        ("two results", answer(200, two), Abstention::WrongShape),
        (
            "no known category",
            answer(200, "{\"results\": [{\"category_scores\": {\"x\": 1}}]}"),
            Abstention::WrongShape,
        ),
        ("deep", answer(200, &"[".repeat(500_000)), Abstention::WrongShape),
        ("deep objects", answer(200, &"{\"results\":".repeat(50_000)), Abstention::WrongShape),
        ("not a number", scored("NaN"), Abstention::WrongShape),
        ("text", scored("\"0.5\""), Abstention::WrongShape),
        ("infinite", scored("1e39"), Abstention::NotFinite),
        ("no probability", scored("7"), Abstention::Failed),
        ("negative", scored("-0.5"), Abstention::Failed),
        ("closed", Reply::Raw(Vec::new()), Abstention::Failed),
        ("half closed", Reply::Raw(half), Abstention::Failed),
        ("no HTTP", Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()), Abstention::Failed),
    ];
    for (name, reply, reason) in cases {
        let server = Server::start(move |_| reply.clone());
        let panel = open(&folder(&server, &format!("{PATIENT}retries = 0\n")), |_| {});
        assert_eq!(outcomes(&panel, "a bad text"), (Err(reason), Ok(0.875)), "{name}");
    }
}

#[test]
fn a_response_of_any_size_is_bounded() {
    for size in [Some(100_000_000), None] {
        let server = Server::start(move |_| Reply::Large(size));
        let panel = open(&folder(&server, PATIENT), |_| {});
        assert_eq!(outcomes(&panel, "text"), (Err(Abstention::WrongShape), Ok(0.125)), "{size:?}");
        // Only the bytes that fit in the sockets' buffers may be sent.
        let sent = server.wait_for_close();
        assert!(sent < 50_000_000, "{sent}");
    }
}

#[test]
fn a_server_that_does_not_answer_times_out_and_is_left() {
    let server = Server::start(|_| Reply::Silence);
    let panel = open(&folder(&server, HASTY), |_| {});
    assert_eq!(outcomes(&panel, "a bad text"), (Err(Abstention::TimedOut), Ok(0.875)));
    server.wait_for_close();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_request_that_never_gets_a_place_times_out_too() {
    let server = Server::start(|_| Reply::Silence);
    let panel = open(&folder(&server, &format!("{HASTY}max_in_flight = 1\n")), |_| {});
    let texts: Vec<String> = (0..5).map(|number| format!("text {number}")).collect();
    for answer in panel.ask(&texts) {
        assert_eq!(crate::experts_support::asked::outcome(&answer.votes[0]), Err(Abstention::TimedOut));
    }
}

#[test]
fn an_endpoint_that_is_down_does_not_stop_a_panel() {
    let server = Server::start(|_| Reply::Silence);
    let folder = folder(&server, &format!("{PATIENT}retries = 1\n"));
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let unused = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let path = folder.path().join("remote/manifest.toml");
    let manifest = std::fs::read_to_string(&path).unwrap().replace(&server.url, &unused);
    std::fs::write(&path, manifest).unwrap();
    let panel = open(&folder, |_| {});
    assert_eq!(outcomes(&panel, "text"), (Err(Abstention::Failed), Ok(0.125)));
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Answer(429, "Retry-After: 0\r\n", String::new()),
        1 => Reply::Answer(503, "", String::new()),
        _ => moderation(0.75),
    });
    let panel = open(&folder(&server, PATIENT), |_| {});
    assert_eq!(outcomes(&panel, "text").0, Ok(0.75));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_request_is_repeated_only_so_often_and_only_if_that_can_help() {
    for (status, retries, requests, reason) in
        [(503, 2, 3, Abstention::Overload), (500, 1, 2, Abstention::Failed), (400, 5, 1, Abstention::Failed)]
    {
        let server = Server::start(move |_| answer(status, ""));
        let panel = open(&folder(&server, &format!("{PATIENT}retries = {retries}\n")), |_| {});
        assert_eq!(outcomes(&panel, "text"), (Err(reason), Ok(0.125)), "{status}");
        assert_eq!(server.requests().len(), requests, "{status}");
    }
}

/// The pause ends after the deadline, so nothing waits for it, and it holds up the other texts.
#[test]
fn a_long_pause_that_a_server_asks_for_is_an_abstention_at_once() {
    for busy in ["Retry-After: 3600\r\n", "Retry-After: 99999999999999999999\r\n"] {
        let server = Server::start(move |_| Reply::Answer(429, busy, String::new()));
        let panel = open(&folder(&server, "deadline_ms = 50000\n"), |_| {});
        assert_eq!(outcomes(&panel, "text"), (Err(Abstention::Overload), Ok(0.125)));
        assert_eq!(outcomes(&panel, "a bad text"), (Err(Abstention::Overload), Ok(0.875)));
        assert_eq!(server.requests().len(), 1);
    }
}

/// The server does not take these texts, whatever the reason is. Other texts are still sent.
#[test]
fn texts_that_a_server_refuses_do_not_open_the_breaker() {
    for status in [400, 413, 422] {
        let server = Server::start(move |request| match request.body.contains("refuse") {
            true => answer(status, ""),
            false => moderation(0.75),
        });
        let panel = open(&folder(&server, PATIENT), |_| {});
        for number in 0..10 {
            assert_eq!(outcomes(&panel, &format!("refuse {number}")).0, Err(Abstention::Failed));
        }
        assert_eq!((panel.down(), server.requests().len()), (vec![None, None], 10), "{status}");
        assert_eq!(outcomes(&panel, "text").0, Ok(0.75));
    }
}

#[test]
fn a_third_of_a_text_is_sent_if_the_server_refuses_the_whole() {
    let server = Server::start(|request| {
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        if body["input"].as_str().unwrap().len() > 4 { answer(413, "") } else { moderation(0.75) }
    });
    let panel = open(&folder(&server, &format!("{PATIENT}max_chars = 12\nretries = 0\n")), |_| {});
    let cut = |text: &str| super::votes(&panel, text)[0].truncated;
    assert!(cut("123456") && !cut("1234"));
    assert_eq!(server.requests().len(), 3);
    assert!(cut("123456"), "the cache keeps that it was cut");
    assert_eq!(server.requests().len(), 3);
}

/// The second text has a turn in ten seconds, which is within the pause that the first one's response asks for.
#[test]
fn a_pause_holds_up_requests_that_have_a_turn() {
    let server = Server::start(|_| Reply::Answer(429, "Retry-After: 3600\r\n", String::new()));
    let panel = open(&folder(&server, &format!("{PATIENT}rate = 0.1\n")), |_| {});
    for answer in panel.ask(&["one", "two", "three"]) {
        assert_eq!(crate::experts_support::asked::outcome(&answer.votes[0]), Err(Abstention::Overload));
    }
    assert_eq!(server.requests().len(), 1);
}

/// The second request would be due after a day.
#[test]
fn no_more_requests_are_sent_than_the_rate_allows() {
    let server = Server::start(|_| moderation(0.75));
    let panel = open(&folder(&server, &format!("{PATIENT}rate = 0.00001\n")), |_| {});
    assert_eq!(outcomes(&panel, "text"), (Ok(0.75), Ok(0.125)));
    assert_eq!(outcomes(&panel, "another"), (Err(Abstention::Overload), Ok(0.125)));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_that_keeps_failing_is_left_alone_and_tried_again() {
    let works = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&works);
    let server = Server::start(move |_| match is_well.load(Ordering::SeqCst) {
        true => moderation(0.75),
        false => answer(500, ""),
    });
    let folder = folder(&server, &format!("{PATIENT}retries = 0\n"));
    let panel = open(&folder, |config| config.pause = Duration::from_millis(50));
    for number in 0..8 {
        assert_eq!(panel.down(), [None, None], "{number}");
        assert_eq!(outcomes(&panel, &format!("text {number}")).0, Err(Abstention::Failed));
    }
    assert_eq!(panel.down(), [Some(Abstention::Failed), None]);
    works.store(true, Ordering::SeqCst);
    wait_until("it is tried again", || outcomes(&panel, "well?").0 == Ok(0.75));
    assert_eq!(panel.down(), [None, None]);
}

#[test]
fn a_server_must_have_a_certificate_of_a_trusted_authority() {
    let ours = identity("authority", 1, None);
    let server = Server::with_tls(&identity("server", 2, Some(&ours)), |_| moderation(0.75));
    let folder = folder(&server, &format!("{PATIENT}retries = 0\nauthorities = \"ca.pem\"\n"));
    let path = folder.path().join("remote/ca.pem");
    std::fs::write(&path, ours.certificate.to_pem().unwrap()).unwrap();
    assert_eq!(outcomes(&open(&folder, |_| {}), "text").0, Ok(0.75));
    std::fs::write(&path, identity("stranger", 3, None).certificate.to_pem().unwrap()).unwrap();
    assert_eq!(outcomes(&open(&folder, |_| {}), "text").0, Err(Abstention::Failed));
    std::fs::write(&path, "no certificate").unwrap();
    let config = aegis::experts::PanelConfig::new(folder.path());
    match aegis::experts::Panel::open(config).err() {
        Some(PanelError::File { field, .. }) => assert_eq!(field, "endpoint.authorities"),
        other => panic!("{other:?}"),
    }
}

/// The server closes a connection that was kept, while the next request uses it.
#[test]
fn a_kept_connection_that_was_closed_costs_nothing() {
    let replies = Mutex::new(0);
    let server = Server::start(move |_| {
        let mut replies = replies.lock().unwrap();
        *replies += 1;
        let Reply::Answer(_, _, body) = moderation(0.75) else { unreachable!() };
        // It announces that the connection stays open, and closes it.
        Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    });
    let panel = open(&folder(&server, PATIENT), |_| {});
    (0..5).for_each(|number| assert_eq!(outcomes(&panel, &format!("text {number}")).0, Ok(0.75)));
}
