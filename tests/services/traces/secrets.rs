//! The secrets of registry and collector are in no output of the program.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use super::collector::Collector;
use super::{SAMPLED, traced, until};
use crate::support::flow::{raw, read_all, send};
use crate::support::site::{Site, wait};

const PASSWORD: &str = "correct-horse-71";
const TOKEN: &str = "battery-staple-72";
/// `aegis:correct-horse-71` in Base64, as it is sent.
const BASIC: &str = "YWVnaXM6Y29ycmVjdC1ob3JzZS03MQ==";

/// Starts a registry that refuses every client. Returns its address.
fn registry() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
            let credentials = lines.take_while(|line| !line.is_empty()).any(|line| line.contains(BASIC));
            let status = if credentials { "403 Forbidden" } else { "400 Bad Request" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    url
}

fn holds_none(what: &str, text: &[u8]) {
    for secret in [PASSWORD, TOKEN, BASIC] {
        let found = text.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!found, "{what} holds {secret}:\n{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn no_output_holds_the_secrets_of_registry_and_collector() {
    let collector = Collector::refusing(0, &[(401, None); 100]);
    let (endpoint, url) = (collector.endpoint(), registry());
    let site = Site::with(
        "secrets",
        &[
            ("log.level", "trace"),
            ("traces.endpoint", &endpoint),
            ("registry.url", &url),
            ("registry.user", "aegis"),
            ("registry.password", PASSWORD),
        ],
    );
    std::fs::write(site.folder.path().join("token"), format!("Bearer {TOKEN}\n")).unwrap();
    let token = ["--set", "traces.secrets.authorization=token"];
    for command in [&["config", "show"][..], &["config", "show", "--output", "json"], &["check"]] {
        let output = site.aegis(&[command, &token].concat());
        assert!(output.status.success(), "{command:?}: {output:?}");
        holds_none(&command.join(" "), &[output.stdout, output.stderr].concat());
    }

    let mut score = site.start_with("score", &token, &[]);
    score.says("health and metrics");
    send(&site.connection, &[traced(&site, 0, "hello", SAMPLED)]);
    until(&site, "decisions", 1);
    score.says("the collector does not accept them");
    assert!(score.log().contains("the headers of traces.secrets are not accepted"), "{}", score.log());
    for path in ["/metrics", "/readyz?verbose", "/livez"] {
        holds_none(path, score.get(path).1.as_bytes());
    }
    // The schema is only in the registry, which refuses every client.
    send(&site.connection, &[raw(&site.topic("events"), "key", *b"\0\0\0\0\x07framed")]);
    wait("the registry's word", || score.log().contains("403"));
    score.signal("TERM");
    score.end();
    holds_none("the log", score.log().as_bytes());
    for topic in ["decisions", "review", "dlq"] {
        for record in read_all(&site.connection, &site.topic(topic)) {
            holds_none(topic, &record.payload.unwrap_or_default());
            record
                .headers
                .iter()
                .for_each(|(_, value)| holds_none(topic, value.as_deref().unwrap_or_default()));
        }
    }
    assert!(collector.refused().iter().all(|body| !body.is_empty()));
    collector.refused().iter().for_each(|body| holds_none("a span", body));
}
