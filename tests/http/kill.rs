//! Servers that are killed, and that cannot keep up, as processes on a real Apache Kafka: which answers have a record, and
//! what `aegis verify` says of them.

use std::collections::BTreeSet;
use std::fs;

use aegis::kafka::Consumed;
use serde_json::json;

use crate::support::flow::{decisions, read_all, read_until};
use crate::support::free_port;
use crate::support::site::{Process, Site, wait};
use crate::world::{Answer, post};

/// A site whose scorers and servers share a secret, and the address of its server.
fn site(prefix: &str, sets: &[(&str, &str)]) -> (Site, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut all = vec![
        ("log.level", "info"),
        ("http.moderation.record_key_file", "record-key"),
        ("defaults.tenant", "t"),
    ];
    all.extend_from_slice(sets);
    // The environment of all commands of the site names the file, so it is written before the first of them.
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "a secret that servers and scorers share\n").unwrap();
    let (_, path) = secret.keep().unwrap();
    let path = path.to_str().unwrap().to_owned();
    all[1].1 = &path;
    (Site::with(prefix, &all), address)
}

/// Starts a server with these environment variables, and waits until it answers.
fn serve(site: &Site, address: &str, variables: &[(&str, &str)]) -> Process {
    let mut command = site.command(&["serve"]);
    command.args(["--set", &format!("http.moderation.listen=\"{address}\"")]);
    command.envs(variables.iter().copied());
    let mut process = site.start_command("serve", command);
    process.ready();
    process
}

fn ask(address: &str, id: &str) -> Answer {
    post(address, "/v1/decisions", &json!({ "id": id, "conversation": id, "text": "I will kill you" }))
}

/// Returns the ids of the events on the topic.
fn events(site: &Site) -> BTreeSet<String> {
    let keys = |record: Consumed| String::from_utf8(record.key.unwrap()).unwrap();
    read_all(&site.connection, &site.topic("events")).into_iter().map(keys).collect()
}

#[test]
fn a_run_with_requests_is_verified_and_a_repeated_request_is_one_event_twice() {
    let (site, address) = site("http.verified", &[("http.moderation.durable", "true")]);
    let server = serve(&site, &address, &[]);
    let mut scorer = site.start_with("score", &[], &[]);
    scorer.ready();
    for number in 0..20 {
        assert_eq!(ask(&address, &format!("h{number}")).status, 200);
    }
    assert_eq!(ask(&address, "h0").status, 200, "a client that saw no answer repeats its request");
    let topic = site.topic("decisions");
    let records = read_until(&site.connection, &topic, "all decisions", |records| records.len() >= 21);
    let found: Vec<_> = decisions(&records).into_iter().map(|decision| decision.id.event).collect();
    assert_eq!(
        found.iter().filter(|id| *id == "h0").count(),
        2,
        "each record has one decision, of the same event"
    );
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 20);
    server.stop();
    scorer.stop();
    site.verified();
}

#[test]
fn a_killed_server_loses_no_durable_answer_and_an_asynchronous_one_only_before_its_write() {
    // The process dies before it has written the second batch, and after it in the second case.
    for (prefix, durable, point) in [
        ("http.durable-before", "true", "http.record:2"),
        ("http.durable-after", "true", "http.recorded:2"),
        ("http.async-before", "false", "http.record:2"),
        ("http.async-after", "false", "http.recorded:2"),
    ] {
        let (site, address) = site(prefix, &[("http.moderation.durable", durable)]);
        let mut server = serve(&site, &address, &[("AEGIS_CRASH_AT", point)]);
        assert_eq!(ask(&address, "h1").status, 200);
        // The first batch is written by now, or its record would be in the second one.
        let topic = site.topic("events");
        read_until(&site.connection, &topic, "the first event", |records| !records.is_empty());
        let second = std::panic::catch_unwind(|| ask(&address, "h2").status);
        server.end();
        let written = events(&site);
        let was_written = written.contains("h2");
        assert!(written.contains("h1"), "{prefix}");
        assert_eq!(was_written, point.starts_with("http.recorded"), "{prefix}");
        if durable == "true" {
            assert!(second.is_err(), "{prefix}: it is answered after its record is confirmed, and never was");
        }
        // A new server and a scorer take over, and nothing that was written lacks its decision.
        drop(server);
        let server = serve(&site, &address, &[]);
        assert_eq!(ask(&address, "h3").status, 200);
        let mut scorer = site.start_with("score", &[], &[]);
        scorer.ready();
        wait("every event is decided", || {
            read_all(&site.connection, &site.topic("decisions")).len() == events(&site).len()
                && events(&site).contains("h3")
        });
        server.stop();
        scorer.stop();
        site.verified();
    }
}

#[test]
fn a_panel_that_hangs_costs_requests_their_deadline_and_a_place_in_the_queue() {
    let sets = [
        ("http.moderation.deadline_ms", "300"),
        ("http.moderation.queue", "1"),
        ("http.moderation.max_items", "1"),
    ];
    let (site, address) = site("http.hang", &sets);
    let server = serve(&site, &address, &[("AEGIS_HANG_AT", "panel.read")]);
    let late = ask(&address, "h1");
    assert_eq!((late.status, late.code()), (504, "deadline_exceeded"));
    // The text that was given up has left its place in the queue, and the metrics say what became of it.
    let again = ask(&address, "h2");
    assert_eq!(again.status, 504);
    let (_, page) = server.get("/metrics");
    let line = "aegis_http_requests_total{endpoint=\"decisions\",outcome=\"late\"} 2";
    assert!(page.contains(line), "{page}");
    assert!(page.contains("aegis_http_request_seconds_bucket"), "{page}");
    assert!(events(&site).is_empty(), "nothing is recorded of a request that is not answered");
}

#[test]
fn a_server_beside_a_scorer_finishes_its_requests_and_its_records() {
    let (site, address) = site("http.beside", &[]);
    let listen = format!("http.moderation.listen=\"{address}\"");
    let mut process = site.start_with("score", &["--set", &listen], &[]);
    process.ready();
    let (_, page) = process.get("/readyz?verbose");
    for condition in ["http: listening", "http: predictors usable", "score: partitions assigned"] {
        assert!(page.contains(condition), "{page}");
    }
    for number in 0..50 {
        assert_eq!(ask(&address, &format!("h{number}")).status, 200);
    }
    // SIGTERM: what was answered is written before the process ends.
    process.stop();
    assert_eq!(events(&site).len(), 50);
    let mut scorer = site.start_with("score", &[], &[]);
    scorer.ready();
    wait("every event is decided", || read_all(&site.connection, &site.topic("decisions")).len() == 50);
    scorer.stop();
    site.verified();
}
