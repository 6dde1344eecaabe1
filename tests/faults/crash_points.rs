//! A process that dies at a named point, on a real Apache Kafka. At every point the final state is that of an
//! undisturbed run, to the bit of every decision and of the learner's state.
//!
//! The stream is small and fixed, and only one role runs at a time, so that two runs can be compared: labels before
//! their events, events with duplicates and poison, labels with every outcome, and further events under the learned
//! predictor.

use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aegis::codec::{self, Defaults};
use aegis::core::event::{Event, Millis};
use aegis::core::label::{DecisionRef, Finding, Label};
use aegis::core::ledger::{LabelStatus, Record};
use aegis::core::policy::Action;
use aegis::dead_letter::Headers;
use aegis::kafka::{GroupProtocol, Produced};
use support::flow::{decisions, event, event_record, label, label_record, raw, read_all, send};
use support::kafka;
use support::site::{Process, Site, hex, poll};

/// The number of sites that run at the same time. Most of the time they wait for sessions to end.
const PARALLEL: usize = 8;
/// Settings for small batches, so that there are several.
const UNITS: [(&str, &str); 4] = [
    ("log.level", "info"),
    ("score.window", "8"),
    ("score.commit_records", "8"),
    ("learn.commit_records", "8"),
];

/// The parts of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// learn gets labels of unknown events.
    Early,
    /// score gets events.
    Events,
    /// learn gets labels.
    Labels,
    /// score gets events, and has a predictor.
    More,
}

/// The crash points, each with the part in which the process dies there.
const DEATHS: [(Part, &str); 26] = [
    // No record of the first batch is written, or none of a later one.
    (Part::Events, "unit.produce"),
    (Part::Events, "unit.produce:2"),
    // The records are written and not committed, without and with their offsets.
    (Part::Events, "unit.sent"),
    (Part::Events, "unit.offsets:2"),
    // The commit is requested and its response is not received, or it is received and not handled.
    (Part::Events, "unit.commit"),
    (Part::Events, "unit.committed"),
    (Part::More, "unit.sent"),
    (Part::More, "unit.commit"),
    (Part::More, "unit.committed"),
    // sled is being created. A waiting label is committed, and sled has none, a half, or all of it.
    (Part::Early, "store.applied"),
    (Part::Early, "learn.committed"),
    (Part::Early, "store.flush:2"),
    (Part::Early, "learn.kept"),
    // The same steps of learn, in the middle of the labels.
    (Part::Labels, "learn.restored"),
    (Part::Labels, "unit.produce:3"),
    (Part::Labels, "unit.sent:2"),
    (Part::Labels, "unit.offsets:2"),
    (Part::Labels, "unit.commit:3"),
    (Part::Labels, "learn.committed:2"),
    (Part::Labels, "learn.read-back:3"),
    (Part::Labels, "store.applied:3"),
    (Part::Labels, "store.flush:4"),
    (Part::Labels, "store.merge:3"),
    (Part::Labels, "learn.publish:2"),
    (Part::Labels, "learn.published"),
    // sled was deleted and is being created again.
    (Part::Labels, RESTORING),
];
/// The deaths that are repeated under the consumer protocol of groups: those at steps that commit offsets.
const DEATHS_OF_CONSUMERS: [(Part, &str); 7] = [
    (Part::Events, "unit.sent"),
    (Part::Events, "unit.offsets:2"),
    (Part::Events, "unit.commit"),
    (Part::Events, "unit.committed"),
    (Part::Labels, "unit.offsets:2"),
    (Part::Labels, "unit.commit:3"),
    (Part::Labels, "learn.committed:2"),
];
/// This point is only reached if the topic of the ledger has more records than sled, so sled is deleted before it.
const RESTORING: &str = "learn.restoring:3";

/// The records that are sent.
struct Stream {
    early: Vec<Label>,
    events: [Vec<Sent>; 2],
    labels: [Vec<Sent>; 2],
    more: Vec<Sent>,
}

/// A record without a topic.
enum Sent {
    Event(Event),
    Label(Label),
    Poison(&'static str),
}

impl Sent {
    fn record(&self, topic: &str) -> Produced {
        match self {
            Self::Event(event) => event_record(topic, event),
            Self::Label(label) => label_record(topic, label),
            Self::Poison(key) => raw(topic, key, "poison"),
        }
    }
}

impl Stream {
    /// Creates the stream. The events' own times are before `now`, so that the broker's clock does not matter.
    fn new(now: Millis) -> Self {
        let dated = |number: usize| {
            let text = if number.is_multiple_of(3) { "I will kill you" } else { "hello" };
            let offset = Millis::try_from(number).unwrap() * 1000;
            Event { time: Some(now - 3_600_000 + offset), ..event(number, text) }
        };
        let events = |numbers: std::ops::Range<usize>| numbers.map(|number| Sent::Event(dated(number)));
        let finding = |number: usize| if number.is_multiple_of(3) { Finding::Unsafe } else { Finding::Safe };
        let about = |id: &str, number: usize| label(id, &dated(number).id, finding(number));
        let labels =
            |numbers: std::ops::Range<usize>| numbers.map(|number| about(&format!("l{number}"), number));

        let old = Event { time: Some(now - 60 * 86_400_000), ..dated(99) };
        let other = Event { policy: "absent".into(), ..dated(98) };
        let mut first: Vec<_> = events(0..30).collect();
        first.extend([Sent::Poison("c1"), Sent::Event(dated(7)), Sent::Event(old.clone())]);
        let mut second: Vec<_> = events(30..50).collect();
        second.extend([Sent::Event(dated(8)), Sent::Poison("c2"), Sent::Event(other), Sent::Event(dated(9))]);

        let doubts = Label { annotator: Some("r2".into()), ..label("d5", &dated(5).id, Finding::Unsafe) };
        let fix =
            Label { corrects: Some("l10".into()), time: 2, ..label("fix", &dated(10).id, Finding::Unsafe) };
        let undo = Label { retracts: Some("l11".into()), verdict: None, time: 2, ..about("undo", 11) };
        let mut taught: Vec<_> = labels(4..24).map(Sent::Label).collect();
        taught.extend([Sent::Label(undo), Sent::Label(doubts), Sent::Poison("e1")]);
        let mut again: Vec<_> = labels(20..40).map(Sent::Label).collect();
        again.extend([
            Sent::Label(fix),
            Sent::Label(label("late", &old.id, Finding::Safe)),
            Sent::Label(Label { policy: "absent".into(), ..about("other", 12) }),
            Sent::Label(about("l3", 3)),
        ]);
        Self {
            early: labels(0..4).chain([label("ghost", "e77777", Finding::Safe)]).collect(),
            events: [first, second],
            labels: [taught, again],
            more: events(60..80).chain([Sent::Poison("c3"), Sent::Event(dated(61))]).collect(),
        }
    }
}

/// A decision: its event, the bits of p, the action, and the predictor's hash.
type Made = (String, Option<u64>, Action, String);

/// The final state of a run.
#[derive(Debug, PartialEq)]
struct Left {
    /// The decisions, by the position of their event.
    decisions: BTreeMap<(i32, i64), Made>,
    /// The role that wrote a dead letter and the reason, by the position of the original.
    letters: BTreeMap<(String, i32, i64), (String, String)>,
    /// The ledger by key, without the parts that depend on the clock and on the markers of transactions.
    ledger: BTreeMap<String, String>,
    /// The labels that came too late, from dead letters, and from the ledger for labels that had waited.
    late: BTreeSet<String>,
    /// The state hash of the published predictor.
    hash: String,
}

impl Left {
    fn read(site: &Site) -> Self {
        let all = |topic: &str| read_all(&site.connection, &site.topic(topic));
        let mut left = Self {
            decisions: BTreeMap::new(),
            letters: BTreeMap::new(),
            ledger: BTreeMap::new(),
            late: BTreeSet::new(),
            hash: String::new(),
        };
        let decided = all("decisions");
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        for (record, decision) in decided.iter().zip(decisions(&decided)) {
            let (partition, offset) = (decision.origin.partition, decision.origin.offset);
            assert_eq!(record.partition, partition);
            let before = last.insert(partition, offset);
            assert!(before < Some(offset), "partition {partition}: {offset} comes after {before:?}");
            let made = (
                decision.id.event,
                decision.probability.map(f64::to_bits),
                decision.action,
                hex(&decision.predictor.state_hash),
            );
            left.decisions.insert((partition, offset), made);
        }
        for record in all("dlq") {
            let said = Headers::of(&record.headers).unwrap();
            let topic = said.topic.rsplit('.').next().unwrap().to_owned();
            if said.reason == "TooLate" {
                let payload = record.payload.as_deref().unwrap();
                let label = codec::decode_label(payload, &Defaults::default()).unwrap();
                assert!(left.late.insert(label.id), "a label is refused twice");
                continue;
            }
            let place = (topic, said.partition, said.offset);
            let twice = left.letters.insert(place, (said.stage, said.reason));
            assert_eq!(twice, None, "a record has two dead letters");
        }
        for (key, record) in site.ledger() {
            let shown = match record {
                Record::Label(filed) if filed.status == LabelStatus::TooLate => {
                    assert!(left.late.insert(filed.label.id), "a label has two outcomes");
                    continue;
                }
                Record::Label(mut filed) => {
                    filed.received = 0;
                    format!("{filed:?}")
                }
                Record::Round(mut judged) => {
                    judged.decision = DecisionRef { partition: 0, offset: 0 };
                    format!("{judged:?}")
                }
                Record::Edit(edit) => format!("{edit:?}"),
            };
            left.ledger.insert(key, shown);
        }
        left.hash = site.hash();
        left
    }
}

/// A running role, which is started again when it has died as intended.
struct Worker<'a> {
    site: &'a Site,
    role: &'a str,
    process: Process,
    due: Option<&'a str>,
}

impl<'a> Worker<'a> {
    fn start(site: &'a Site, role: &'a str, due: Option<&'a str>) -> Self {
        let variables = due.map(|at| ("AEGIS_CRASH_AT", at));
        Self { site, role, process: site.start_with(role, &[], variables.as_slice()), due }
    }

    fn tend(&mut self) {
        let Some(status) = self.process.ended() else { return };
        let Some(at) = self.due.take() else {
            panic!("{} ended by itself, {status}:\n{}", self.role, self.process.log())
        };
        self.process.died_at(status, at.split(':').next().unwrap());
        self.process = self.site.start_with(self.role, &[], &[]);
    }

    /// Waits until `done` returns `true`, and until the process has died if it must die in this batch.
    fn work(&mut self, what: &str, mut done: impl FnMut() -> bool) {
        poll(|| {
            self.tend();
            if self.due.is_none_or(|_| what != LAST) && done() {
                return Ok(());
            }
            Err(format!("{what}: not done; {:?} still to come\n{}", self.due, self.process.log()))
        });
    }
}

/// The last batch of a part. A process that must die has died when it is done.
const LAST: &str = "the last batch";

/// Runs all parts with members of this protocol. Returns the final state.
fn play(name: &str, protocol: GroupProtocol, stream: &Stream, death: Option<(Part, &str)>) -> Left {
    let settings: Vec<_> = UNITS.into_iter().chain([("kafka.group_protocol", protocol.name())]).collect();
    let site = &Site::with(name, &settings);
    let at = |part| death.filter(|(when, _)| *when == part).map(|(_, point)| point);
    let labels =
        |sent: &[Sent]| -> Vec<_> { sent.iter().map(|sent| sent.record(&site.topic("labels"))).collect() };
    let events =
        |sent: &[Sent]| -> Vec<_> { sent.iter().map(|sent| sent.record(&site.topic("events"))).collect() };
    let early: Vec<_> = stream.early.iter().map(|label| label_record(&site.topic("labels"), label)).collect();
    let mut sent = (0, 0);
    let mut run = |part: Part, role: &str, topic: &str, batches: &[Vec<Produced>]| {
        let mut worker = Worker::start(site, role, at(part));
        let total = if role == "score" { &mut sent.0 } else { &mut sent.1 };
        for (number, batch) in batches.iter().enumerate() {
            send(&site.connection, batch);
            *total += i64::try_from(batch.len()).unwrap();
            let what = if number + 1 == batches.len() { LAST } else { "a batch" };
            worker.work(what, || site.committed(role, topic) == *total && settled(site, part));
        }
        // A process that was just started does not handle signals yet.
        worker.process.says("health and metrics");
        worker.process.stop();
    };
    run(Part::Early, "learn", "labels", &[early]);
    run(Part::Events, "score", "events", &stream.events.each_ref().map(|sent| events(sent)));
    if at(Part::Labels) == Some(RESTORING) {
        fs::remove_dir_all(site.store()).unwrap();
    }
    run(Part::Labels, "learn", "labels", &stream.labels.each_ref().map(|sent| labels(sent)));
    run(Part::More, "score", "events", &[events(&stream.more)]);

    let left = Left::read(site);
    assert_eq!(left.hash, site.replayed(), "the published state is that of a replay");
    site.verified();
    left
}

/// Returns `true` if, after the labels, only the one of an unknown event is waiting.
fn settled(site: &Site, part: Part) -> bool {
    part != Part::Labels || site.waiting() == BTreeSet::from(["ghost".to_owned()])
}

#[test]
fn wherever_a_process_dies_the_same_is_left() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let stream = Stream::new(Millis::try_from(now).unwrap());
    let began = Instant::now();
    kafka();
    let undisturbed = play("undisturbed", GroupProtocol::Classic, &stream, None);
    assert_eq!(undisturbed.decisions.len(), 50 + 3 + 1 + 21, "each readable event has a decision");
    assert_eq!(undisturbed.letters.len(), 3 + 1 + 1 + 1, "all else has a dead letter");
    assert_eq!(undisturbed.late, BTreeSet::from(["late".to_owned()]));
    let predictors: BTreeSet<_> = undisturbed.decisions.values().map(|made| &made.3).collect();
    assert_eq!(predictors.len(), 2, "nothing learned yet, and what was learned in the end");

    let classic = DEATHS.iter().map(|death| (GroupProtocol::Classic, death));
    let consumer = DEATHS_OF_CONSUMERS.iter().map(|death| (GroupProtocol::Consumer, death));
    let all: Vec<_> = classic.chain(consumer).collect();
    let deaths = Mutex::new(all.iter().enumerate());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let next = deaths.lock().unwrap().next();
                    let Some((number, (protocol, death))) = next else { return };
                    let run = || play(&format!("death{number}"), *protocol, &stream, Some(**death));
                    match thread::scope(|inner| inner.spawn(run).join()) {
                        Ok(left) if left == undisturbed => {}
                        Ok(left) => {
                            failed.lock().unwrap().push(format!("{protocol:?} {death:?}: {left:#?}"));
                        }
                        Err(_) => failed.lock().unwrap().push(format!("{protocol:?} {death:?}: see above")),
                    }
                }
            });
        }
    });
    println!("{} deaths in {:?}", all.len(), began.elapsed());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "undisturbed: {undisturbed:#?}\n{}", failed.join("\n"));
}
