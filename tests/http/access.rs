//! The clients that are answered, and the bounds on what a client can make the server hold.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use aegis::config::OnReview;
use aegis::serve::keys::{ANY, ApiKeys};
use serde_json::json;

use crate::world::{World, send};

const JSON: &str = "content-type: application/json";
const HELLO: &str = r#"{"input": "hello"}"#;

#[test]
fn with_keys_only_their_owners_are_answered_with_their_tenant() {
    let mut keys = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    for (name, tenant, policy) in [("shop", "shop", "default"), ("any", ANY, ANY)] {
        keys.push(ApiKeys::add(&path, name, tenant, policy).unwrap());
    }
    let world = World::with(|config| config.http.moderation.keys = path.clone());
    let post = |lines: &[&str], body: &str| {
        let lines: Vec<_> = lines.iter().copied().chain([JSON]).collect();
        send(&world.address, "POST", "/v1/decisions", &lines, body)
    };
    for lines in [&[][..], &["authorization: Bearer aegis_wrong"], &["x-api-key: aegis_wrong"]] {
        let refused = post(lines, r#"{"text": "hello"}"#);
        assert_eq!((refused.status, refused.code()), (401, "invalid_api_key"));
        assert_eq!(refused.body["error"]["type"], "authentication_error");
    }
    let (shop, any) = (format!("authorization: Bearer {}", keys[0]), format!("x-api-key: {}", keys[1]));
    assert_eq!(post(&[&shop], r#"{"text": "hello"}"#).body["tenant"], "shop");
    let other = post(&[&shop], r#"{"text": "hello", "tenant": "bank"}"#);
    assert_eq!((other.status, other.code()), (403, "forbidden"));
    assert_eq!(other.body["error"]["param"], "tenant");
    assert_eq!(post(&[&shop], r#"{"text": "hello", "policy": "strict"}"#).status, 403);
    assert_eq!(post(&[&any], r#"{"text": "hello", "tenant": "bank"}"#).body["tenant"], "bank");
    assert_eq!(post(&[&any], r#"{"text": "hello"}"#).body["tenant"], "t", "that of [defaults]");
    // Other ways to name a tenant do not pass the key either.
    let envelope = json!({
        "specversion": "1.0", "id": "e1", "source": "/chat", "type": "message",
        "data": { "text": "hello", "tenant": "bank" },
    });
    for body in [r#"{"text": "hello", "tenant": 7}"#, envelope.to_string().as_str()] {
        let refused = post(&[&shop], body);
        assert_eq!(
            (refused.status, &refused.body["error"]["param"]),
            (403, &json!("tenant")),
            "{}",
            refused.body
        );
    }
}

#[test]
fn without_keys_pages_of_other_sites_are_not_answered() {
    let world = World::start();
    let ask = |lines: &[&str]| send(&world.address, "POST", "/v1/moderations", lines, HELLO).status;
    assert_eq!(ask(&[JSON]), 200);
    assert_eq!(ask(&[JSON, "origin: https://evil.example"]), 403);
    assert_eq!(ask(&["content-type: text/plain"]), 415, "a form of another site sends no JSON");
    assert_eq!(ask(&[]), 415);
    let raw = |host: &str| {
        let mut stream = TcpStream::connect(&world.address).unwrap();
        let head = format!("host: {host}\r\nconnection: close\r\n{JSON}\r\ncontent-length: {}", HELLO.len());
        write!(stream, "POST /v1/moderations HTTP/1.1\r\n{head}\r\n\r\n{HELLO}").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((raw("evil.example").as_str(), raw("localhost").as_str()), ("403", "200"));
}

#[test]
fn what_a_client_can_send_is_bounded() {
    let world = World::with(|config| {
        config.http.moderation.max_body_bytes = 1_000;
        config.http.moderation.queue = 2;
        config.http.moderation.requests_per_minute = 100;
    });
    let ask = |body: &str| send(&world.address, "POST", "/v1/moderations", &[JSON], body);
    let large = ask(&json!({ "input": "x".repeat(1_000) }).to_string());
    assert_eq!((large.status, large.code()), (413, "body_too_large"));
    // Three texts have no place in a queue of two, whatever else is in it.
    let full = ask(&json!({ "input": ["a", "b", "c"] }).to_string());
    assert_eq!((full.status, full.code()), (503, "overloaded"));
    assert_eq!(full.headers["retry-after"], "1");
    assert_eq!(full.body["error"]["type"], "server_error");
    assert_eq!(ask(HELLO).status, 200, "the queue is as empty as before");
    // A burst is a tenth of a minute's requests, and the bucket fills by 1.7 a second.
    let limited = (0..200).map(|_| ask(HELLO)).find(|answer| answer.status != 200).unwrap();
    assert_eq!((limited.status, limited.code()), (429, "rate_limit_exceeded"));
    assert!(limited.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    assert_eq!(send(&world.address, "GET", "/v1/absent", &[], "").status, 404);
    assert_eq!(send(&world.address, "GET", "/v1/moderations", &[], "").status, 405);
}

#[test]
fn a_request_that_never_fits_into_the_memory_for_records_is_refused_for_good() {
    let world = World::with(|config| config.http.moderation.record_queue_mib = 1);
    let ask = |texts: usize| world.post("/v1/moderations", &json!({ "input": vec!["hello"; texts] }));
    // A record takes 33 KiB at least.
    let refused = ask(40);
    assert_eq!((refused.status, refused.code()), (413, "records_too_large"));
    assert!(!refused.headers.contains_key("retry-after"));
    assert_eq!(ask(20).status, 200);
}

/// Sends the head of a request, and returns once its handler waits for the body.
fn begin(address: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("host: {address}\r\nconnection: close\r\n{JSON}\r\ncontent-length: {}", body.len());
    write!(stream, "POST /v1/moderations HTTP/1.1\r\n{head}\r\nexpect: 100-continue\r\n\r\n").unwrap();
    let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut interim = vec![0; expected.len()];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(interim, expected);
    stream
}

#[test]
fn a_connection_with_a_request_in_flight_is_never_closed_for_another() {
    let world = World::with(|config| {
        config.http.moderation.max_connections = 2;
        config.http.moderation.deadline_ms = 60_000;
    });
    let mut in_flight = [begin(&world.address, HELLO), begin(&world.address, HELLO)];
    for _ in 0..3 {
        let refused = send(&world.address, "POST", "/v1/moderations", &[JSON], HELLO);
        assert_eq!((refused.status, refused.code()), (503, "overloaded"));
        assert_eq!(refused.headers["retry-after"], "1");
    }
    for stream in &mut in_flight {
        stream.write_all(HELLO.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // An idle connection is replaced.
    let mut idle = [(); 2].map(|()| TcpStream::connect(&world.address).unwrap());
    assert_eq!(send(&world.address, "POST", "/v1/moderations", &[JSON], HELLO).status, 200);
    assert_eq!(idle[0].read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn an_idempotency_key_is_the_id_of_the_event() {
    let world = World::start();
    let ask = |key: &str, body: &str| {
        let line = format!("idempotency-key: {key}");
        send(&world.address, "POST", "/v1/moderations", &[JSON, &line], body)
    };
    let of =
        |answer: &crate::world::Answer, at: usize| answer.body["results"][at]["aegis"]["event_id"].clone();
    assert_eq!(of(&ask("order-7", HELLO), 0), "order-7");
    let two = ask("order-8", r#"{"input": ["a", "b"]}"#);
    assert_eq!((of(&two, 0), of(&two, 1)), (json!("order-8-0"), json!("order-8-1")));
    assert_eq!(ask(&"k".repeat(250), HELLO).code(), "invalid_idempotency_key");
}

#[test]
fn a_decision_that_a_person_should_look_at_blocks_or_passes_as_configured() {
    // No expert votes, so the action is review whatever the text is.
    let flagged = |review| {
        let world = World::with(|config| {
            config.http.moderation.review = review;
            config.experts.shadow = vec!["strict".into(), "lenient".into()];
        });
        let answer = world.post("/v1/moderations", &json!({ "input": "hello" }));
        assert_eq!(answer.body["results"][0]["aegis"]["action"], "review", "{}", answer.body);
        assert_eq!(answer.body["results"][0]["aegis"]["probability"], json!(null));
        answer.body["results"][0]["flagged"].clone()
    };
    assert_eq!(flagged(OnReview::Block), true, "a text without a vote is not safe");
    assert_eq!(flagged(OnReview::Pass), false);
}
