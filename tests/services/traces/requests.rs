//! Traces of requests over HTTP: from a client's `traceparent` by way of the server's spans to the event, the scorer's span
//! and the decision. Server and scorer run in processes of their own on a real Apache Kafka.

use std::collections::BTreeMap;
use std::fs;

use aegis::core::trace::Traceparent;
use serde_json::{Value, json};

use super::collector::{Collector, Span, attribute, traceparent};
use super::{CONVERSATION, INFO, SAMPLED, SUBJECT, WORD, header, until};
use crate::support::flow::{decisions, read_all};
use crate::support::free_port;
use crate::support::http::{Answer, send};
use crate::support::site::{Process, Site, hex};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The names of attributes of a decision, which spans of events and of texts of requests share.
const DECISION: [&str; 8] = [
    "aegis.policy",
    "aegis.policy.version",
    "aegis.action",
    "aegis.degraded",
    "aegis.language",
    "aegis.review",
    "aegis.nothing_to_judge",
    "aegis.hidden_text",
];

/// A site with a server and a scorer, which send their spans to this collector.
struct Served {
    site: Site,
    address: String,
    server: Process,
    scorer: Process,
    _secret: tempfile::NamedTempFile,
}

impl Served {
    fn start(prefix: &str, collector: &Collector, sets: &[(&str, &str)]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let secret = tempfile::NamedTempFile::new().unwrap();
        fs::write(secret.path(), "a secret that servers and scorers share\n").unwrap();
        let (endpoint, secret_file) = (collector.endpoint(), secret.path().to_str().unwrap());
        let own = [
            INFO,
            ("traces.endpoint", &endpoint),
            ("http.moderation.record_key_file", secret_file),
            ("http.moderation.durable", "true"),
        ];
        let site = Site::with(prefix, &[&own[..], sets].concat());
        let mut command = site.command(&["serve"]);
        command.args(["--set", &format!("http.moderation.listen=\"{address}\"")]);
        let mut server = site.start_command("serve", command);
        let mut scorer = site.start_with("score", &[], &[]);
        server.ready();
        scorer.ready();
        Self { site, address, server, scorer, _secret: secret }
    }

    fn post(&self, path: &str, headers: &[&str], body: &Value) -> Answer {
        let headers = [&["content-type: application/json"], headers].concat();
        send(&self.address, "POST", path, &headers, &body.to_string())
    }

    /// Ends both processes, which deliver their spans. Returns the site.
    fn stop(self) -> Site {
        self.server.stop();
        self.scorer.stop();
        self.site
    }
}

fn with_parent(traceparent: &str) -> [String; 2] {
    [format!("traceparent: {traceparent}"), "tracestate: vendor=x".to_owned()]
}

/// Returns the attributes of a span that are about its decision.
fn decision_of(span: &Span) -> BTreeMap<&'static str, String> {
    DECISION.iter().map(|name| (*name, attribute(&span.attributes, name))).collect()
}

fn within(inner: &Span, outer: &Span) -> bool {
    outer.start_time_unix_nano <= inner.start_time_unix_nano
        && inner.start_time_unix_nano <= inner.end_time_unix_nano
        && inner.end_time_unix_nano <= outer.end_time_unix_nano
}

#[test]
fn a_clients_trace_goes_on_through_the_request_to_the_decisions_on_the_topic() {
    let collector = Collector::start(0);
    let served = Served::start("asked", &collector, &[]);
    let [parent, state] = with_parent(SAMPLED);
    let traced = [parent.as_str(), state.as_str()];
    let harm = format!("I will kill you, {WORD}");
    let answer = served.post("/v1/moderations", &traced, &json!({ "input": [harm, "\u{1f642}"] }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let event = json!({
        "id": "e4711", "conversation": CONVERSATION, "subject": SUBJECT, "text": format!("hello {WORD}"),
    });
    assert_eq!(served.post("/v1/decisions", &traced, &event).status, 200);
    // A request that is refused is traced as well, and one whose trace is not sampled is not.
    let refused = served.post("/v1/decisions", &traced, &json!({ "text": WORD, "policy": "absent" }));
    assert_eq!(refused.status, 400);
    let unsampled = SAMPLED.replace("-01", "-00");
    for (id, given) in [("e4712", unsampled.as_str()), ("e4713", "00-none-of-the-kind-01")] {
        let headers = with_parent(given);
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        assert_eq!(served.post("/v1/decisions", &headers, &json!({ "id": id, "text": WORD })).status, 200);
    }
    // A page of another site is not admitted, and cannot add spans.
    let foreign = [parent.as_str(), "origin: https://evil.example"];
    assert_eq!(served.post("/v1/decisions", &foreign, &json!({ "text": WORD })).status, 403);
    until(&served.site, "decisions", 5);
    let site = served.stop();

    // The spans of the server.
    let requests = collector.named("POST /v1/moderations");
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    let others = collector.named("POST /v1/decisions");
    assert_eq!(others.len(), 2, "{others:?}");
    for span in requests.iter().chain(&others) {
        assert_eq!((hex(&span.trace_id).as_str(), span.kind), (TRACE, 2), "a server's");
        assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
        assert_eq!(span.trace_state, "vendor=x");
        assert_eq!(attribute(&span.attributes, "http.request.method"), "POST");
        assert_eq!(attribute(&span.attributes, "url.scheme"), "http");
    }
    assert_eq!(attribute(&request.attributes, "http.route"), "/v1/moderations");
    assert_eq!(attribute(&request.attributes, "http.response.status_code"), "200");
    assert_eq!(attribute(&request.attributes, "aegis.texts"), "2");
    let statuses: Vec<_> =
        others.iter().map(|span| attribute(&span.attributes, "http.response.status_code")).collect();
    assert!(statuses.contains(&"200".into()) && statuses.contains(&"400".into()), "{statuses:?}");

    // Within a request the texts, within each the panel and its experts.
    let texts = collector.named("moderate");
    assert_eq!(texts.len(), 3, "{texts:?}");
    let of_first: Vec<_> = texts.iter().filter(|text| text.parent_span_id == request.span_id).collect();
    assert_eq!(of_first.len(), 2);
    assert!(of_first.iter().all(|text| within(text, request)));
    let actions: Vec<_> = of_first.iter().map(|text| attribute(&text.attributes, "aegis.action")).collect();
    assert_eq!(actions, ["block", "review"]);
    assert!(!attribute(&of_first[0].attributes, "aegis.language").is_empty());
    let panels = collector.named("panel");
    let panel = panels.iter().find(|panel| panel.parent_span_id == of_first[0].span_id).unwrap();
    assert!(within(panel, of_first[0]));
    for name in ["expert lenient", "expert strict"] {
        let experts = collector.named(name);
        let expert = experts.iter().find(|expert| expert.parent_span_id == panel.span_id).unwrap();
        assert_eq!(attribute(&expert.attributes, "aegis.outcome"), "voted");
        assert!(within(expert, panel), "{name}");
    }

    // The events continue the spans of their texts, the scorer's spans those of the events, and the decisions the scorer's.
    let recorded = collector.named("record");
    assert_eq!(recorded.len(), 3, "{recorded:?}");
    let events = read_all(&site.connection, &site.topic("events"));
    let decided = read_all(&site.connection, &site.topic("decisions"));
    for span in &recorded {
        assert_eq!((hex(&span.trace_id).as_str(), span.kind), (TRACE, 5), "a consumer's");
        let text = texts.iter().find(|text| text.span_id == span.parent_span_id).unwrap();
        assert_eq!(decision_of(span), decision_of(text));
        let place = |name: &str| attribute(&span.attributes, name).parse::<i64>().unwrap();
        let offset = place("messaging.kafka.offset");
        let partition = i32::try_from(place("messaging.destination.partition.id")).unwrap();
        let event = events.iter().find(|one| (one.partition, one.offset) == (partition, offset)).unwrap();
        assert_eq!(header(event, "traceparent"), traceparent(text));
        assert_eq!(header(event, "tracestate"), "vendor=x");
        let made = decisions(&decided);
        let of =
            |origin: &aegis::core::decision::Origin| (origin.partition, origin.offset) == (partition, offset);
        let found = made.iter().position(|decision| of(&decision.origin)).unwrap();
        assert_eq!(made[found].trace.as_deref(), Some(traceparent(text).as_str()));
        assert_eq!(header(&decided[found], "traceparent"), traceparent(span));
    }

    // An event without a trace is passed on unchanged, and a malformed header is ignored.
    let passed = |id: &str| {
        let event = events.iter().find(|event| event.key.as_deref() == Some(id.as_bytes())).unwrap();
        header(event, "traceparent")
    };
    assert_eq!((passed("e4712"), passed("e4713")), (unsampled, String::new()));
    for (_, body) in collector.requests() {
        for hidden in [WORD, "kill", "e4711", CONVERSATION, SUBJECT] {
            let found = body.windows(hidden.len()).any(|part| part == hidden.as_bytes());
            assert!(!found, "{hidden} is in a span");
        }
    }
}

/// A request without a sampled trace begins one if it is in the traced share.
#[test]
fn a_trace_begins_with_a_request_of_the_traced_share() {
    let collector = Collector::start(0);
    let served = Served::start("begun", &collector, &[("traces.sample", "1.0")]);
    assert_eq!(served.post("/v1/decisions", &[], &json!({ "text": "hello" })).status, 200);
    until(&served.site, "decisions", 1);
    let site = served.stop();
    let [request, text, recorded] = ["POST /v1/decisions", "moderate", "record"].map(|name| {
        let mut found = collector.named(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found.remove(0)
    });
    assert!(request.parent_span_id.is_empty());
    assert_eq!((&text.parent_span_id, &recorded.parent_span_id), (&request.span_id, &text.span_id));
    assert!(text.trace_id == request.trace_id && recorded.trace_id == request.trace_id);
    let decided = read_all(&site.connection, &site.topic("decisions"));
    let goes_on = header(&decided[0], "traceparent");
    assert!(Traceparent::parse(goes_on.as_bytes()).unwrap().is_sampled());
    assert_eq!(goes_on, traceparent(&recorded));
}
