//! The routes of reviews.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis::codec::{self, Defaults, Encoding};
use aegis::config::{Config, Policies, topic_specs};
use aegis::console::Console;
use aegis::console::access::{Credentials, Kind, Role};
use aegis::core::decision::{Origin, ReviewReason, Sampling};
use aegis::core::event::{Event, Role as Speaker, Turn};
use aegis::core::label::{DecisionRef, Finding, Label, Source};
use aegis::core::ledger::RoundId;
use aegis::core::policy::Action;
use aegis::core::review::ReviewRequest;
use aegis::http::{Client, tls};
use aegis::kafka::Connection;
use aegis::kafka::embedded::Embedded;
use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};

use crate::browser::WAIT;
use crate::support::flow::{event, event_record, label, label_record, read_all, send};
use crate::support::record;

const POLICIES: &str = "[policies.default]\nflagged = \"review\"\nreviewer_note = \"Threats count as unsafe.\"\n\
                        [[taxonomy]]\nslug = \"violence\"\nname = \"Violence\"\n[[taxonomy]]\nslug = \"spam\"\nname = \"Spam\"\n";

pub fn policies() -> Policies {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policies.toml");
    std::fs::write(&file, POLICIES).unwrap();
    Policies::read(&file).unwrap()
}

/// A user of the console as a program.
pub struct Person {
    pub address: String,
    pub bearer: String,
}

impl Person {
    /// Sends a request, and returns its status with the answer.
    fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let client = Client::new(tls::connector(Vec::new(), None).unwrap(), WAIT).unwrap();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/review{path}", self.address))
            .header("authorization", format!("Bearer {}", self.bearer))
            .header("content-type", "application/json");
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let response = client.send_blocking(request.body(Bytes::from(body)).unwrap(), 1 << 24, WAIT).unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
        let answer = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        (response.status().as_u16(), answer)
    }

    /// Sends a request that succeeds. Returns its answer.
    pub fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send("POST", path, &body);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Sends a request that is refused. Returns its status and reason.
    fn refused(&self, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.send("POST", path, &body);
        (status, answer["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// Returns the next request, waiting until the queue has read its topics.
    pub fn next(&self) -> Value {
        let until = Instant::now() + WAIT;
        loop {
            let (status, answer) = self.send("POST", "/next", &json!({ "policy": "default" }));
            assert_eq!(status, 200, "{answer}");
            if answer["state"] != "loading" {
                return answer;
            }
            assert!(Instant::now() < until, "{answer}");
            // The console announces nothing to a program.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Answers the request of a claim.
    pub fn answer(&self, claim: &Value, verdict: &str) -> Value {
        self.post("/answer", json!({ "claim": claim, "verdict": verdict }))
    }

    /// Waits until this number of requests is open.
    pub fn await_open(&self, open: usize) {
        let until = Instant::now() + WAIT;
        while self.send("GET", "", &Value::Null).1["policies"][0]["open"] != json!(open) {
            assert!(Instant::now() < until, "{open} requests did not open");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A console on a broker, without the roles.
pub struct Room {
    pub ann: Person,
    pub bob: Person,
    /// A viewer.
    pub vic: Person,
    pub connection: Connection,
    pub config: Arc<Config>,
    _console: Console,
    pub broker: Embedded,
    _folder: tempfile::TempDir,
}

impl Room {
    pub fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        let mut config = Config::default();
        config.console.show_text = true;
        config.console.credentials = users.clone();
        adjust(&mut config);
        let specs = topic_specs(&config, 1);
        let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
        let broker = Embedded::start(&names).unwrap();
        let mut connection = Connection::new(broker.bootstrap());
        connection.settings.insert("message.max.bytes".into(), "4000000".into());
        let add = |name, role| Credentials::add(&users, name, role, Kind::Token).unwrap().unwrap();
        let tokens = [("ann", Role::Reviewer), ("bob", Role::Reviewer), ("vic", Role::Viewer)]
            .map(|(name, role)| add(name, role));
        let config = Arc::new(config);
        let local = ([127, 0, 0, 1], 0).into();
        let policies = Arc::new(policies());
        let console =
            Console::start(Arc::clone(&config), policies.into(), connection.clone(), local, None).unwrap();
        let address = format!("http://{}", console.address());
        let [ann, bob, vic] = tokens.map(|bearer| Person { address: address.clone(), bearer });
        Self { ann, bob, vic, connection, config, _console: console, broker, _folder: folder }
    }

    /// Sends an event with its request. The events of a room have the offsets of their order.
    pub fn request(&self, offset: usize, turns: &[&str], reason: ReviewReason) {
        self.request_again(offset, offset, turns, reason);
    }

    /// Sends the event with this number at this offset, with a request about it.
    fn request_again(&self, number: usize, offset: usize, turns: &[&str], reason: ReviewReason) {
        let turns: Vec<_> =
            turns.iter().map(|text| Turn { role: Speaker::User, text: (*text).to_owned() }).collect();
        let event = Event { judged: turns.len() - 1, turns, ..event(number, "") };
        let topics = &self.config.topics;
        let mut request = request(&topics.events, number, reason);
        request.origin.offset = i64::try_from(offset).unwrap();
        let payload = codec::encode_review(&request, Encoding::Avro).unwrap();
        send(&self.connection, &[event_record(&topics.events, &event), record(&topics.review, 0, payload)]);
    }

    pub fn labels(&self) -> Vec<Label> {
        labels(&self.connection, &self.config)
    }
}

pub fn labels(connection: &Connection, config: &Config) -> Vec<Label> {
    let defaults = Defaults { tenant: "t".into(), policy: "default".into(), ..Defaults::default() };
    let records = read_all(connection, &config.topics.labels);
    records
        .iter()
        .map(|one| codec::decode_label(one.payload.as_deref().unwrap(), &defaults).unwrap())
        .collect()
}

fn request(topic: &str, number: usize, reason: ReviewReason) -> ReviewRequest {
    ReviewRequest {
        id: RoundId { tenant: "t".into(), policy: "default".into(), event: format!("e{number:05}") },
        conversation: "c".into(),
        subject: Some("u".into()),
        origin: Origin { topic: topic.into(), partition: 0, offset: i64::try_from(number).unwrap() },
        decision: DecisionRef { partition: 0, offset: 40 + i64::try_from(number).unwrap() },
        round_time: 1,
        policy_version: "1".into(),
        action: Action::Review,
        probability: Some(0.625),
        threshold: 0.5,
        reasons: vec![reason],
        inclusion_probability: 0.25,
        sampling: Sampling::default(),
        categories: Vec::new(),
        trace: None,
    }
}

#[test]
fn two_reviewers_never_get_the_same_request_and_a_confirmed_label_is_in_its_topic() {
    let room = Room::start(|_| {});
    (0..10).for_each(|number| room.request(number, &["hello"], ReviewReason::Audit));
    room.ann.await_open(10);
    let mut seen = BTreeSet::new();
    for round in 0..5 {
        let (one, other) = (room.ann.next(), room.bob.next());
        assert_eq!(room.ann.next(), one, "a page that is loaded again shows the same request");
        assert!(one["opinion"].is_null() && !one.to_string().contains("0.625"), "{one}");
        for (person, request, verdict) in [(&room.ann, &one, "unsafe"), (&room.bob, &other, "safe")] {
            assert!(seen.insert(request["event"].as_str().unwrap().to_owned()), "{request}");
            let sent = person.post(
                "/answer",
                json!({ "claim": request["claim"], "verdict": verdict, "categories": ["violence"] }),
            );
            assert_eq!(sent["opinion"]["probability"], json!(0.625));
        }
        assert_eq!(room.labels().len(), 2 * round + 2, "the brokers have what was confirmed");
    }
    assert_eq!(room.ann.next()["state"], "empty");
    for label in room.labels() {
        let number: i64 = label.event.trim_start_matches('e').parse().unwrap();
        let annotator = label.annotator.clone().unwrap();
        let verdict = if annotator == "ann" { Finding::Unsafe } else { Finding::Safe };
        assert_eq!((label.verdict, label.source), (Some(verdict), Source::Review));
        assert_eq!(label.decision, Some(DecisionRef { partition: 0, offset: 40 + number }));
        assert_eq!((label.inclusion_probability, label.id), (Some(0.25), format!("console/{annotator}/1")));
        assert!(label.categories == ["violence"] && label.time > 1_600_000_000_000);
    }
}

#[test]
fn a_refused_answer_says_why_and_nothing_is_written() {
    let room = Room::start(|_| {});
    (0..3).for_each(|number| room.request(number, &["hello"], ReviewReason::Flagged));
    room.ann.await_open(3);
    let one = room.ann.next();
    let answer = |verdict: &str| json!({ "claim": one["claim"], "verdict": verdict });
    assert_eq!(room.vic.refused("/next", json!({ "policy": "default" })).0, 403);
    assert_eq!(room.vic.refused("/turns", json!({ "claim": one["claim"], "from": 0 })).0, 403);
    assert_eq!(room.bob.refused("/answer", answer("safe")), (409, "not_claimed".into()));
    assert_eq!(room.bob.refused("/turns", json!({ "claim": one["claim"], "from": 0 })).0, 409);
    assert_eq!(room.ann.refused("/answer", answer("evil")).0, 400);
    let strange = json!({ "claim": one["claim"], "verdict": "safe", "categories": ["strange"] });
    assert_eq!(room.ann.refused("/answer", strange).0, 400);
    assert_eq!(room.ann.refused("/next", json!({ "policy": "absent" })).0, 404);
    let nothing = json!({ "claim": one["claim"] });
    assert_eq!(room.ann.refused("/undo", nothing), (409, "nothing_to_undo".into()));
    assert_eq!(room.labels(), []);
    // A label of another tool closes the request that ann has.
    let event = one["event"].as_str().unwrap();
    send(&room.connection, &[label_record(&room.config.topics.labels, &label("x", event, Finding::Safe))]);
    room.ann.await_open(2);
    assert_eq!(room.ann.refused("/answer", answer("safe")), (409, "answered".into()));
    assert_eq!(room.ann.refused("/activity", json!({ "claim": one["claim"] })), (409, "not_claimed".into()));
    assert_eq!(room.labels().len(), 1);
}

#[test]
fn undo_retracts_skip_releases_and_both_give_the_request_on() {
    let room = Room::start(|_| {});
    (0..2).for_each(|number| room.request(number, &["hello"], ReviewReason::Flagged));
    room.ann.await_open(2);
    let one = room.ann.next();
    room.ann.answer(&one["claim"], "safe");
    // A page whose request timed out sends it again.
    assert_eq!(room.ann.answer(&one["claim"], "safe")["state"], "sent");
    let again = json!({ "claim": one["claim"], "verdict": "unsafe" });
    assert_eq!(room.ann.refused("/answer", again), (409, "already_answered".into()));
    let undo = || room.ann.post("/undo", json!({ "claim": one["claim"] }));
    let back = undo();
    assert_eq!((&back["event"], &back["open"]), (&one["event"], &json!(2)));
    assert_eq!(undo()["state"], "undone", "a page that got no response sends it again");
    assert_eq!(room.ann.next()["claim"], back["claim"]);
    room.ann.post("/skip", json!({ "claim": back["claim"] }));
    assert_eq!(room.bob.next()["event"], one["event"]);
    let other = room.ann.next();
    assert_ne!(other["event"], one["event"]);
    room.ann.post("/skip", json!({ "claim": other["claim"] }));
    assert_eq!((&room.ann.next()["state"], &room.ann.next()["open"]), (&json!("empty"), &json!(2)));
    assert_eq!(room.ann.post("/unskip", json!({}))["skipped"], json!(2));
    assert_eq!(room.ann.next()["event"], other["event"]);
    let labels = room.labels();
    assert_eq!(labels.len(), 2);
    assert_eq!((labels[1].retracts.as_deref(), labels[1].verdict), (Some("console/ann/1"), None));
}

#[test]
fn texts_are_read_when_shown_and_a_deleted_one_closes_its_request() {
    let room = Room::start(|_| {});
    let long = "0123456789\u{202e}".repeat(75_000);
    let turns: Vec<&str> = std::iter::repeat_n("ha", 9_999).chain(["<script>alert(1)</script>"]).collect();
    room.request(0, &[&long], ReviewReason::Flagged);
    room.request(1, &turns, ReviewReason::Flagged);
    room.ann.await_open(2);
    let one = room.ann.next();
    let shown = room.ann.post("/turns", json!({ "claim": one["claim"], "from": null }));
    assert_eq!((&shown["count"], &shown["turns"][0]["more"]), (&json!(1), &json!(805_000)));
    let part = room.ann.post("/part", json!({ "claim": one["claim"], "turn": 0, "from": 815_000 }));
    assert_eq!((part["text"].as_str().unwrap().chars().count(), &part["more"]), (10_000, &json!(0)));
    let many = room.bob.next();
    let shown = room.bob.post("/turns", json!({ "claim": many["claim"], "from": null }));
    assert_eq!(
        (&shown["count"], &shown["judged"], &shown["from"]),
        (&json!(10_000), &json!(9_999), &json!(9_979))
    );
    assert_eq!(shown["turns"][20]["text"], "<script>alert(1)</script>");
    room.bob.post("/skip", json!({ "claim": many["claim"] }));
    room.ann.answer(&one["claim"], "safe");
    // Retention deletes the events: the embedded broker keeps five MiB.
    let noise = |_| record(&room.config.topics.events, 0, noise(1_900_000));
    send(&room.connection, &(0..4).map(noise).collect::<Vec<_>>());
    let gone = room.ann.next();
    assert_eq!(gone["event"], "e00001");
    let turns = json!({ "claim": gone["claim"], "from": null });
    assert_eq!(room.ann.refused("/turns", turns), (409, "expired".into()));
    let answer = json!({ "claim": gone["claim"], "verdict": "safe" });
    assert_eq!(room.ann.refused("/answer", answer), (409, "expired".into()));
    assert_eq!(room.ann.next()["state"], "empty");
}

#[test]
fn an_event_that_is_sent_again_is_shown_as_it_is_now() {
    let room = Room::start(|_| {});
    room.request(0, &["the first text"], ReviewReason::Flagged);
    room.ann.await_open(1);
    let one = room.ann.next();
    let turns = || room.ann.post("/turns", json!({ "claim": one["claim"], "from": 0 }));
    assert_eq!(turns()["turns"][0]["text"], "the first text");
    room.request_again(0, 1, &["the second text"], ReviewReason::Flagged);
    // Requests are read in their order.
    room.request(2, &["another event"], ReviewReason::Flagged);
    room.ann.await_open(2);
    assert_eq!(turns()["turns"][0]["text"], "the second text");
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| random.u8(..)).take(size).collect()
}

#[test]
fn without_the_setting_no_text_is_given() {
    let room = Room::start(|config| config.console.show_text = false);
    room.request(0, &["secret words"], ReviewReason::Flagged);
    room.ann.await_open(1);
    let one = room.ann.next();
    for (path, body) in [
        ("/turns", json!({ "claim": one["claim"], "from": null })),
        ("/part", json!({ "claim": one["claim"], "turn": 0, "from": 0 })),
    ] {
        let (status, answer) = room.ann.send("POST", path, &body);
        assert!(status == 403 && !answer.to_string().contains("secret words"), "{path}: {answer}");
    }
    room.ann.answer(&one["claim"], "safe");
}

#[test]
fn without_brokers_the_answer_is_not_lost_and_sent_again_it_is_one_label() {
    let room = Room::start(|_| {});
    room.request(0, &["hello"], ReviewReason::Flagged);
    room.ann.await_open(1);
    let one = room.ann.next();
    room.broker.set_up(false).unwrap();
    let answer = json!({ "claim": one["claim"], "verdict": "unsafe" });
    assert_eq!(room.ann.refused("/answer", answer.clone()), (503, "brokers".into()));
    room.broker.set_up(true).unwrap();
    let until = Instant::now() + WAIT;
    loop {
        let (status, sent) = room.ann.send("POST", "/answer", &answer);
        if status == 200 {
            break;
        }
        assert!((status, &sent["reason"]) == (503, &json!("brokers")) && Instant::now() < until, "{sent}");
    }
    let ids: BTreeSet<_> = room.labels().into_iter().map(|label| label.id).collect();
    assert_eq!(ids, BTreeSet::from(["console/ann/1".to_owned()]));
    assert_eq!(room.bob.next()["state"], "empty");
}
