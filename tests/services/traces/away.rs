//! Collectors that are unavailable, hang, are busy, or are not trusted: they only cause the loss of spans.

use std::collections::BTreeSet;
use std::net::TcpListener;

use super::collector::Collector;
use super::{INFO, SAMPLED, metric, traced, until};
use crate::support::flow::{decisions, read_all, send};
use crate::support::free_port;
use crate::support::identity::identity;
use crate::support::site::{Process, Site, wait};

/// Without a collector events are moderated all the same. Lost spans are counted, their loss is logged once, and so is
/// the return of the collector.
#[test]
fn a_collector_that_is_away_costs_its_spans_and_nothing_else() {
    let port = free_port();
    let endpoint = format!("http://127.0.0.1:{port}/v1/traces");
    let site = Site::with("away", &[INFO, ("traces.endpoint", &endpoint)]);
    let mut score = site.start_with("score", &[], &[]);
    score.says("health and metrics");
    let failed = |score: &Process| metric(score, "aegis_spans_total{outcome=\"failed\"}");
    let mut sent = 0;
    let mut lost = 0.0;
    for _ in 0..3 {
        let more: Vec<_> = (sent..sent + 20).map(|number| traced(&site, number, "hello", SAMPLED)).collect();
        send(&site.connection, &more);
        sent += more.len();
        until(&site, "decisions", sent);
        wait("the count of what is lost", || failed(&score) > lost);
        lost = failed(&score);
    }
    const AWAY: &str = "the collector does not accept them";
    assert_eq!(score.log().matches(AWAY).count(), 1, "{}", score.log());
    assert!(score.log().contains(&endpoint) && score.log().contains("traces.endpoint"), "{}", score.log());

    let collector = Collector::start(port);
    send(&site.connection, &[traced(&site, sent, "hello", SAMPLED)]);
    score.says("the collector accepts spans again");
    assert!(!collector.named("moderate").is_empty());
    assert!(metric(&score, "aegis_spans_total{outcome=\"sent\"}") > 0.0);
    score.stop();
}

/// A collector that accepts connections and never responds delays nothing, not even the end: the process ends while all
/// requests are still open, and does not send one after the other.
#[test]
fn a_collector_that_hangs_does_not_hold_up_the_end() {
    let hangs = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}/v1/traces", hangs.local_addr().unwrap());
    let site = Site::with("hangs", &[INFO, ("traces.endpoint", &endpoint)]);
    let mut score = site.start_with("score", &[], &[]);
    score.says("health and metrics");
    // Each event has four spans. That makes eight requests, one after the other, each with a timeout of five seconds.
    const EVENTS: usize = 1_000;
    let events: Vec<_> = (0..EVENTS).map(|number| traced(&site, number, "hello", SAMPLED)).collect();
    send(&site.connection, &events);
    wait("the events", || site.committed("score", "events") == EVENTS as i64);
    // The connections stay open without a response.
    let mut held = Vec::new();
    hangs.set_nonblocking(true).unwrap();
    let mut requests = || {
        held.extend(std::iter::from_fn(|| hangs.accept().ok()));
        held.len()
    };
    let before = requests();
    score.signal("TERM");
    let status = score.end();
    assert!(status.success(), "{status}\n{}", score.log());
    // The time for the remaining spans is shorter than a request's timeout, so at most one more request begins in it.
    let later = requests() - before;
    assert!(later <= 1, "{later} requests after {before}");
    assert!(
        score.log().contains("the process ends before the collector has accepted these spans"),
        "{}",
        score.log()
    );
    assert_eq!(decisions(&read_all(&site.connection, &site.topic("decisions"))).len(), EVENTS);
}

/// A request to a busy collector is repeated after the delay that it states. Nothing is lost, and no loss is reported.
#[test]
fn a_collector_that_is_busy_is_asked_again() {
    let collector = Collector::refusing(0, &[(429, Some("2")), (503, Some("0")), (502, None)]);
    let endpoint = collector.endpoint();
    let site = Site::with("busy", &[("log.level", "debug"), ("traces.endpoint", &endpoint)]);
    let mut score = site.start_with("score", &[], &[]);
    score.says("health and metrics");
    send(&site.connection, &[traced(&site, 0, "hello", SAMPLED)]);
    until(&site, "decisions", 1);
    wait("the spans", || !collector.requests().is_empty());
    let refused = collector.refused();
    let bodies: BTreeSet<_> = refused.iter().cloned().collect();
    assert_eq!((refused.len(), bodies.len()), (3, 1), "the same spans each time");
    assert_eq!(collector.requests()[0].1, refused[0]);
    let log = score.log();
    assert!(log.contains("delay_ms=2000") && log.contains("delay_ms=0"), "the delays of Retry-After: {log}");
    wait("the count", || metric(&score, "aegis_spans_total{outcome=\"sent\"}") > 0.0);
    assert_eq!(metric(&score, "aegis_spans_total{outcome=\"failed\"}"), 0.0);
    assert!(!score.log().contains("the collector does not accept them"), "{}", score.log());
    score.stop();
}

/// A collector that is busy for an hour delays no decision, and not the end: the process ends before the hour does.
/// Spans that it does not accept are counted.
#[test]
fn a_collector_that_stays_busy_holds_nothing_up() {
    let collector = Collector::refusing(0, &[(503, Some("3600")); 100]);
    let endpoint = collector.endpoint();
    let site = Site::with("stays", &[INFO, ("traces.endpoint", &endpoint)]);
    let mut score = site.start_with("score", &[], &[]);
    score.says("health and metrics");
    const EVENTS: usize = 200;
    send(&site.connection, &[traced(&site, 0, "hello", SAMPLED)]);
    wait("the first refusal", || !collector.refused().is_empty());
    let events: Vec<_> = (1..EVENTS).map(|number| traced(&site, number, "hello", SAMPLED)).collect();
    send(&site.connection, &events);
    wait("the events", || site.committed("score", "events") == EVENTS as i64);
    assert_eq!(collector.refused().len(), 1, "it waits before it asks again");
    score.signal("TERM");
    let status = score.end();
    assert!(status.success(), "{status}\n{}", score.log());
    assert!(score.log().contains("spans are dropped") && score.log().contains("503"), "{}", score.log());
    assert!(collector.requests().is_empty());
}

/// TLS to the collector: a certificate of a configured authority is accepted, and those of other authorities or of the
/// system's are not.
#[test]
fn spans_go_to_a_collector_that_our_authorities_vouch_for() {
    let (ours, stranger) = (identity("test authority", 1, None), identity("another authority", 2, None));
    let collector = Collector::secure(&identity("collector", 3, Some(&ours)));
    let endpoint = collector.endpoint();
    let site = Site::with("tls", &[INFO, ("traces.endpoint", &endpoint)]);
    let put = |name: &str, pem: Vec<u8>| std::fs::write(site.folder.path().join(name), pem).unwrap();
    put("ours.pem", ours.certificate.to_pem().unwrap());
    put("stranger.pem", stranger.certificate.to_pem().unwrap());
    let mut sent = 0;
    for authorities in ["traces.authorities=stranger.pem", "traces.authorities="] {
        let mut score = site.start_with("score", &["--set", authorities], &[]);
        score.says("health and metrics");
        send(&site.connection, &[traced(&site, sent, "hello", SAMPLED)]);
        sent += 1;
        until(&site, "decisions", sent);
        score.says("the collector does not accept them");
        assert!(score.log().contains("certificate"), "{authorities}: {}", score.log());
        assert!(collector.requests().is_empty(), "{authorities}");
        score.stop();
    }
    let score = site.start_with("score", &["--set", "traces.authorities=ours.pem"], &[]);
    send(&site.connection, &[traced(&site, sent, "hello", SAMPLED)]);
    wait("the spans", || !collector.named("moderate").is_empty());
    score.stop();
}
