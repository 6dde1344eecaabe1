//! Traces: from an event's `traceparent` to that of its decision, and the spans between them, as an OpenTelemetry
//! collector gets them over HTTP. The program runs in its own process on a real Apache Kafka.

mod away;
mod collector;
mod requests;
mod secrets;
use crate::support;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aegis::core::event::Event;
use aegis::core::label::Finding;
use aegis::core::trace::Traceparent;
use aegis::kafka::{Consumed, Produced};
use collector::{Collector, Span, attribute, traceparent};
use support::flow::{
    decisions, event, event_record, label, label_record, raw, read_all, read_until, reviews, send,
};
use support::site::{Process, Site, hex, wait};

const INFO: (&str, &str) = ("log.level", "info");
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// The text of a user and other private values of an event.
const WORD: &str = "quaggamire";
const CONVERSATION: &str = "conversation-4711";
const SUBJECT: &str = "subject-4712";

/// Returns event number `number` with this `traceparent`, in partition 0.
fn traced(site: &Site, number: usize, text: &str, traceparent: &str) -> Produced {
    let (conversation, subject) = (CONVERSATION.to_owned(), Some(SUBJECT.to_owned()));
    let event = Event { conversation, subject, ..event(number, text) };
    with(event_record(&site.topic("events"), &event), traceparent)
}

fn with(record: Produced, traceparent: &str) -> Produced {
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    let mut headers = vec![header("mine", "1")];
    if !traceparent.is_empty() {
        headers.extend([header("traceparent", traceparent), header("tracestate", "vendor=x")]);
    }
    Produced { headers, partition: Some(0), ..record }
}

fn header(record: &Consumed, name: &str) -> String {
    let mut found = record.headers.iter().filter(|(key, _)| key == name);
    let value = found.next().and_then(|(_, value)| value.clone()).unwrap_or_default();
    assert!(found.next().is_none(), "{name} is there twice");
    String::from_utf8(value).unwrap()
}

fn until(site: &Site, topic: &str, count: usize) -> Vec<Consumed> {
    read_until(&site.connection, &site.topic(topic), topic, |records| records.len() >= count)
}

/// Returns the value of a metric on /metrics.
fn metric(process: &Process, name: &str) -> f64 {
    let (_, page) = process.get("/metrics");
    let line = page.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("{name} is not in\n{page}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_trace_goes_on_from_the_event_to_its_decision_by_way_of_its_spans() {
    let began = SystemTime::now();
    let collector = Collector::start(0);
    let endpoint = collector.endpoint();
    let site = Site::with("road", &[INFO, ("traces.endpoint", &endpoint), ("traces.service", "shop")]);
    std::fs::write(site.folder.path().join("token"), "Bearer hunter2\n").unwrap();
    let score = site.start_with("score", &["--set", "traces.secrets.authorization=token"], &[]);
    let unsampled = SAMPLED.replace("-01", "-00");
    let text = format!("I will kill you, {WORD}");
    send(
        &site.connection,
        &[
            traced(&site, 0, &text, SAMPLED),
            traced(&site, 1, &text, &unsampled),
            traced(&site, 2, &text, ""),
            traced(&site, 3, &text, "00-none-of-the-kind-01"),
            // No expert can read it, so a person is asked.
            traced(&site, 4, "\u{1f642}", SAMPLED),
            with(raw(&site.topic("events"), "key", format!("poison {WORD}")), SAMPLED),
        ],
    );
    let decided = until(&site, "decisions", 5);
    let letters = until(&site, "dlq", 1);
    let log = score.log();
    score.stop();
    let requests = read_all(&site.connection, &site.topic("review"));
    assert!(!log.contains("hunter2"), "{log}");

    // The records on Kafka.
    let made = decisions(&decided);
    let given = [SAMPLED, &unsampled, "", "00-none-of-the-kind-01", SAMPLED];
    for ((record, decision), given) in decided.iter().zip(&made).zip(given) {
        assert_eq!(decision.trace.as_deref().unwrap_or_default(), given, "the record says what came");
        assert_eq!(header(record, "mine"), "1");
        let goes_on = header(record, "traceparent");
        if given == SAMPLED {
            let (came, goes_on) = (
                Traceparent::parse(given.as_bytes()).unwrap(),
                Traceparent::parse(goes_on.as_bytes()).unwrap(),
            );
            assert!(goes_on.is_sampled() && goes_on.trace == came.trace && goes_on.span != came.span);
            assert_eq!(header(record, "tracestate"), "vendor=x");
        } else {
            assert_eq!(goes_on, given, "what is not traced here goes on as it came");
        }
    }
    assert!(
        made[4].review().is_some()
            && requests.len() >= made.iter().filter(|made| made.review().is_some()).count()
    );
    for (record, request) in requests.iter().zip(reviews(&requests)) {
        let of = decided.iter().find(|decided| decided.offset == request.decision.offset).unwrap();
        assert_eq!(record.headers, of.headers, "a request goes on as its decision does");
    }
    assert_eq!(header(&letters[0], "traceparent"), SAMPLED, "a dead letter's own headers are untouched");

    // The spans at the collector.
    let requests = collector.requests();
    assert!(!requests.is_empty());
    for (headers, body) in &requests {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["authorization"], "Bearer hunter2");
        // The spans contain none of the events' texts, ids, conversations, subjects and keys.
        for hidden in [WORD, "kill", "e00000", "e00004", CONVERSATION, SUBJECT, "hunter2"] {
            let found = body.windows(hidden.len()).any(|part| part == hidden.as_bytes());
            assert!(!found, "{hidden} is in a span");
        }
    }
    assert!(collector.spans().iter().all(|(service, _)| service == "shop"));
    let own = collector.named("moderate");
    assert_eq!(own.len(), 3, "{own:?}");
    let commits: BTreeSet<_> = collector.named("commit").into_iter().map(|span| span.span_id).collect();
    for span in &own {
        assert_eq!(hex(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
        assert_eq!((span.kind, span.trace_state.as_str()), (5, "vendor=x"), "a consumer's");
        assert!(span.start_time_unix_nano < span.end_time_unix_nano);
        let read_at = UNIX_EPOCH + Duration::from_nanos(span.start_time_unix_nano);
        assert!(began < read_at && read_at < SystemTime::now(), "it was read during this test");
        for (name, value) in [
            ("messaging.system", "kafka"),
            ("messaging.destination.name", site.topic("events").as_str()),
            ("messaging.destination.partition.id", "0"),
            ("messaging.consumer.group.name", site.topic("score").as_str()),
        ] {
            assert_eq!(attribute(&span.attributes, name), value, "{name}");
        }
        assert!(span.links.len() == 1 && commits.contains(&span.links[0].span_id));
    }
    let at = |offset: &str| {
        let mut of =
            own.iter().filter(|span| attribute(&span.attributes, "messaging.kafka.offset") == offset);
        of.next().unwrap()
    };
    assert_eq!(header(&decided[0], "traceparent"), traceparent(at("0")));
    assert_eq!(header(&decided[4], "traceparent"), traceparent(at("4")));
    for (index, offset) in [(0, "0"), (4, "4")] {
        let (decision, span) = (&made[index], at(offset));
        assert_eq!(attribute(&span.attributes, "aegis.policy"), "default");
        assert_eq!(attribute(&span.attributes, "aegis.action"), decision.action.word());
        assert_eq!(attribute(&span.attributes, "aegis.degraded"), decision.degraded.to_string());
        let reasons: Vec<_> = decision.reasons.iter().map(|reason| reason.word()).collect();
        assert_eq!(attribute(&span.attributes, "aegis.review"), reasons.join(","));
    }
    assert_eq!(attribute(&at("5").attributes, "error.type"), "NotAvro");
    assert_eq!(at("5").status.as_ref().unwrap().code, 2);

    // Within the span of the first event: the span of the panel, and in it those of both experts, with their times.
    let panels = collector.named("panel");
    let panel = panels.iter().find(|panel| panel.parent_span_id == at("0").span_id).unwrap();
    let within =
        |inner: (u64, u64), outer: (u64, u64)| outer.0 <= inner.0 && inner.0 <= inner.1 && inner.1 <= outer.1;
    let times = |span: &Span| (span.start_time_unix_nano, span.end_time_unix_nano);
    assert!(within(times(panel), times(at("0"))));
    for name in ["expert lenient", "expert strict"] {
        // The fifth event, which they cannot read, has spans of its own.
        let spans: Vec<_> = collector
            .named(name)
            .into_iter()
            .filter(|span| span.trace_id == panel.trace_id && span.parent_span_id == panel.span_id)
            .collect();
        let [expert] = spans.as_slice() else { panic!("{name}: {spans:?}") };
        assert_eq!((&expert.trace_id, &expert.parent_span_id), (&panel.trace_id, &panel.span_id));
        assert_eq!(attribute(&expert.attributes, "aegis.outcome"), "voted");
        assert!(within(times(expert), times(panel)), "{name}");
    }
}

/// An event without a sampled trace begins one if it is in the traced share, and an event whose outcome is written
/// again has the same span.
#[test]
fn a_trace_begins_here_and_an_event_that_is_read_again_has_the_same_span() {
    let collector = Collector::start(0);
    let endpoint = collector.endpoint();
    let once_more = ("kafka.delivery", "at-least-once");
    let sets = [INFO, once_more, ("traces.endpoint", &endpoint), ("traces.sample", "1.0")];
    let site = Site::with("again", &sets);
    let mut first = site.start_with("score", &[], &[("AEGIS_CRASH_AT", "unit.sent")]);
    send(&site.connection, &[traced(&site, 0, "hello", ""), traced(&site, 1, "hello", SAMPLED)]);
    let status = first.end();
    first.died_at(status, "unit.sent");
    assert!(collector.spans().is_empty(), "no unit was committed");
    let second = site.start_with("score", &[], &[]);
    wait("the events", || site.committed("score", "events") == 2);
    second.stop();

    let decided = read_all(&site.connection, &site.topic("decisions"));
    let parents = |offset: i64| -> Vec<String> {
        let of = decided.iter().zip(decisions(&decided)).filter(|(_, made)| made.origin.offset == offset);
        of.map(|(record, _)| header(record, "traceparent")).collect()
    };
    for offset in [0, 1] {
        let parents = parents(offset);
        assert!(!parents.is_empty() && parents.iter().all(|parent| *parent == parents[0]), "{parents:?}");
    }
    assert!(decided.len() > 2, "at least one decision is there twice");
    let own: BTreeSet<_> = collector.named("moderate").iter().map(traceparent).collect();
    assert_eq!(own, BTreeSet::from([parents(0)[0].clone(), parents(1)[0].clone()]));
    let begun = collector.named("moderate").into_iter().find(|span| span.parent_span_id.is_empty()).unwrap();
    assert_eq!(traceparent(&begun), parents(0)[0]);
}

#[test]
fn without_an_endpoint_everything_goes_on_as_it_came() {
    let site = Site::with("off", &[INFO]);
    let score = site.start_with("score", &["--set", "traces.sample=1.0"], &[]);
    send(&site.connection, &[traced(&site, 0, "hello", SAMPLED), traced(&site, 1, "\u{1f642}", SAMPLED)]);
    let decided = until(&site, "decisions", 2);
    let requests = until(&site, "review", 1);
    score.stop();
    for record in decided.iter().chain(&requests) {
        assert_eq!(header(record, "traceparent"), SAMPLED);
    }
}

/// A label that has the `traceparent` of its decision: the spans of its read, commit and publication, each linked to
/// the previous one.
#[test]
fn a_label_is_traced_from_its_decision_to_the_predictor_that_learned_from_it() {
    let collector = Collector::start(0);
    let endpoint = collector.endpoint();
    let site = Site::with("labels", &[INFO, ("traces.endpoint", &endpoint)]);
    let (score, learn) = (site.start_with("score", &[], &[]), site.start_with("learn", &[], &[]));
    send(&site.connection, &[traced(&site, 0, "hello", SAMPLED), traced(&site, 1, "hello", "")]);
    let decided = until(&site, "decisions", 2);
    let answered = header(&decided[0], "traceparent");
    let labels = site.topic("labels");
    let about = |number: usize| label_record(&labels, &label("l", &format!("e{number:05}"), Finding::Unsafe));
    send(&site.connection, &[with(about(0), &answered), with(about(1), "")]);
    send(&site.connection, &[with(raw(&labels, "key", format!("poison {WORD}")), &answered)]);
    site.published(2, 0);
    until(&site, "dlq", 1);
    wait("the labels' spans", || collector.named("label").len() >= 2);
    learn.stop();
    score.stop();

    let own = collector.named("label");
    assert_eq!(own.len(), 2, "the event without a sampled trace has none: {own:?}");
    let decision = Traceparent::parse(answered.as_bytes()).unwrap();
    let commits = collector.named("commit");
    for span in &own {
        assert!(span.parent_span_id.is_empty() && span.trace_id != decision.trace);
        assert_eq!(attribute(&span.attributes, "messaging.destination.name"), labels);
        let [answers, commit] = span.links.as_slice() else { panic!("{:?}", span.links) };
        assert_eq!((&answers.trace_id[..], &answers.span_id[..]), (&decision.trace[..], &decision.span[..]));
        let commit = commits.iter().find(|found| found.span_id == commit.span_id).unwrap();
        assert_eq!(attribute(&commit.attributes, "messaging.consumer.group.name"), site.topic("learn"));
    }
    let errors: Vec<_> = own.iter().map(|span| attribute(&span.attributes, "error.type")).collect();
    assert!(errors.contains(&"NotAvro".into()) && errors.contains(&String::new()), "{errors:?}");
    let learned = own.iter().find(|span| attribute(&span.attributes, "error.type").is_empty()).unwrap();
    let published = collector.named("publish");
    let reflects = |span: &Span| span.links.iter().any(|link| link.span_id == learned.links[1].span_id);
    assert_eq!(published.iter().filter(|span| reflects(span)).count(), 1, "{published:?}");
    for (_, body) in collector.requests() {
        for hidden in [WORD, "hello", "e00000", CONVERSATION, SUBJECT] {
            assert!(
                !body.windows(hidden.len()).any(|part| part == hidden.as_bytes()),
                "{hidden} is in a span"
            );
        }
    }
}
