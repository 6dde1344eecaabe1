//! `aegis weights pin`, `unpin` and `release`, and what they show: on a real Apache Kafka that compacts the topic of
//! predictors.

use std::fs;
use std::time::Instant;

use aegis::codec;
use aegis::core::decision::Decision;
use aegis::core::label::Finding;
use aegis::core::predictor::Published;
use aegis::kafka::Consumed;

use crate::reload::await_metric;
use crate::site::Site;
use crate::support::flow::{decisions, label, label_record, read_all, read_until, send};
use crate::support::{WAIT, kafka, make};

/// Compaction within the time that a test can wait.
const SOON: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "200"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("max.compaction.lag.ms", "200"),
    ("delete.retention.ms", "100"),
];

/// A site whose events are decided and labelled one after the other.
struct Pins {
    site: Site,
    sent: usize,
    taught: usize,
}

impl Pins {
    /// Sends events until `enough` accepts the decision of the last one.
    fn decide(&mut self, what: &str, enough: impl Fn(&Decision) -> bool) -> Decision {
        let until = Instant::now() + WAIT;
        loop {
            self.site.send_events(self.sent..self.sent + 1);
            self.sent += 1;
            let made = decisions(&self.site.await_records("decisions", self.sent));
            let event = format!("e{:05}", self.sent - 1);
            let last = made.into_iter().find(|decision| decision.id.event == event).unwrap();
            if enough(&last) {
                return last;
            }
            assert!(Instant::now() < until, "{what}: {:?}\n{}", last.predictor, self.site.log("score"));
        }
    }

    /// Labels the next `count` events. Returns the predictor that has learned from them.
    fn teach(&mut self, count: usize) -> Published {
        let record = |number: usize| {
            let finding = if number.is_multiple_of(3) { Finding::Unsafe } else { Finding::Safe };
            let label = label(&format!("l{number}"), &format!("e{number:05}"), finding);
            label_record(&self.site.topic("labels"), &label)
        };
        let numbers = self.taught..self.taught + count;
        send(&self.site.connection, &numbers.map(record).collect::<Vec<_>>());
        self.taught += count;
        let last = |records: &[Consumed]| {
            let mut of_learner = records.iter().filter(|record| !is_pin(record));
            codec::decode_published(of_learner.next_back()?.payload.as_deref()?).ok()
        };
        let rounds = self.taught as u64;
        let records = read_until(&self.site.connection, &self.site.topic("weights"), "rounds", |records| {
            last(records).is_some_and(|published| published.rounds == rounds)
        });
        last(&records).unwrap()
    }

    fn policies(&self, text: &str) {
        fs::write(self.site.path("policies.toml"), text).unwrap();
    }
}

fn is_pin(record: &Consumed) -> bool {
    record.key.as_deref().is_some_and(|key| codec::pin_policy(key).is_some())
}

fn hash(published: &Published) -> String {
    codec::hex(&published.state_hash)
}

/// The hash of the predictor of a decision, if it was pinned.
fn pinned(decision: &Decision) -> Option<String> {
    decision.predictor.pinned.then(|| codec::hex(&decision.predictor.state_hash))
}

#[test]
fn a_policy_is_held_on_a_predictor_and_released() {
    make(&kafka().connection(), &[("pins.weights", 1, &SOON)]);
    let site = Site::new("pins", "");
    refused(&site);
    let (score, _learn) = (site.start("score"), site.start("learn"));
    let mut pins = Pins { site, sent: 0, taught: 0 };
    for _ in 0..12 {
        pins.decide("any", |_| true);
    }
    let old = pins.teach(6);
    held(&mut pins, &old);
    drop(score);
    compacted(&mut pins, &old);
    let _score = pins.site.start("score");
    pins.decide("the pin, after a restart", |decision| pinned(decision) == Some(hash(&old)));
    shown(&mut pins, &old);
    unpinned(&mut pins);
    released(&mut pins);
}

/// Commands that write nothing.
fn refused(site: &Site) {
    let pin = |code: i32, arguments: &[&str], words: &str| {
        let said = site.says(code, &[&["weights"], arguments].concat());
        assert!(said.contains(words), "{said}");
    };
    let why = ["--reason", "a test", "--by", "ann"];
    pin(64, &["pin", "abcdef"], "--reason");
    pin(64, &["pin", "abcdef", "--reason", " "], "give a reason");
    pin(64, &[&["pin", "abc"][..], &why].concat(), "give at least 4 of its digits");
    pin(64, &[&["pin", "newest"][..], &why].concat(), "newest is no hash");
    pin(65, &[&["pin", "abcdef"][..], &why].concat(), "or not any more: it is compacted");
    pin(65, &[&["unpin"][..], &why].concat(), "no predictor is pinned");
    assert_eq!(read_all(&site.connection, &site.topic("weights")), []);
}

/// A pinned predictor decides while labels arrive.
fn held(pins: &mut Pins, old: &Published) {
    let said = pins
        .site
        .says(0, &["weights", "pin", &hash(old)[..12], "--reason", "the campaign has begun", "--by", "ann"]);
    assert!(said.contains("(6 rounds) is pinned, written to pins.weights at offset "), "{said}");
    pins.decide("the pin", |decision| pinned(decision) == Some(hash(old)));
    let newer = pins.teach(6);
    assert_ne!(newer.state_hash, old.state_hash);
    for _ in 0..3 {
        assert_eq!(pinned(&pins.decide("any", |_| true)), Some(hash(old)));
    }
    await_metric(&pins.site, "score", "aegis_predictor_pinned{policy=\"default\"} 1");
    await_metric(&pins.site, "score", "aegis_predictor_rounds_behind{policy=\"default\"} 6");
    let again = pins.site.says(0, &["weights", "pin", &hash(old), "--reason", "again", "--by", "bob"]);
    assert!(again.contains("is pinned already, by ann since "), "{again}");
}

/// Learns on until compaction has removed the record in which the predictor was published.
fn compacted(pins: &mut Pins, old: &Published) {
    let until = Instant::now() + 4 * WAIT;
    loop {
        let records = read_all(&pins.site.connection, &pins.site.topic("weights"));
        let of_learner = records.iter().filter(|record| !is_pin(record));
        let mut hashes = of_learner.filter_map(|record| record.payload.as_deref());
        if hashes.all(|payload| codec::decode_published(payload).unwrap().state_hash != old.state_hash) {
            assert!(records.iter().any(is_pin), "the pin is kept");
            return;
        }
        assert!(Instant::now() < until, "the predictor is still on its topic");
        if pins.taught < pins.sent {
            pins.teach(1);
        }
    }
}

/// The pin in the output of commands.
fn shown(pins: &mut Pins, old: &Published) {
    let site = &pins.site;
    let history = site.says(0, &["weights", "history"]);
    assert!(history.contains("pinned by ann: the campaign has begun"), "{history}");
    assert!(history.contains("candidate"), "{history}");
    let history = site.json(&["weights", "history"]);
    let pin = history.as_array().unwrap().iter().find(|entry| entry["kind"] == "pin").unwrap();
    assert_eq!((&pin["by"], &pin["predictor"]["state_hash"]), (&"ann".into(), &hash(old).into()));
    let show = site.says(0, &["weights", "show"]);
    assert!(show.contains(&format!("pinned to {} (6 rounds) by ann since ", &hash(old)[..12])), "{show}");
    let event = format!("e{:05}", pins.sent - 1);
    let explained = site.says(0, &["explain", &event]);
    for words in ["pinned when this was decided", "a person has pinned it, and scorers use it"] {
        assert!(explained.contains(words), "{explained}");
    }
    let explained = site.json(&["explain", &event]);
    let predictor = &explained["predictor"];
    assert_eq!((&predictor["pinned"], &predictor["standing"]), (&true.into(), &"pinned".into()));
    assert_eq!(explained["computed"]["same"], true, "the predictor is read from the pin");
    let verified = site.says(0, &["verify"]);
    assert!(!verified.contains("unreadable"), "{verified}");

    let diff = site.json(&["weights", "diff", "pinned", "newest"]);
    assert_eq!(diff["from"]["state_hash"], hash(old).as_str());
    assert_eq!(diff["decisions"]["count"], pins.sent);
    assert_eq!(diff["rounds"]["count"], pins.taught);
    assert_eq!(diff["rounds"]["newer_than_from"], pins.taught - 6);
    let same = site.json(&["weights", "diff", "pinned", "pinned", "--rounds", "0"]);
    assert_eq!((&same["decisions"]["changed"], &same["rounds"]), (&serde_json::json!([]), &().into()));
    let text = site.says(0, &["weights", "diff", "newest", "pinned", "--decisions", "5"]);
    assert!(text.contains(" of the newest 5 would change"), "{text}");
    assert!(text.contains("mistakes on the newest "), "{text}");

    site.says(0, &["erase", "--subject", "u3"]);
    let erased = site.says(65, &["erase", "--verify", "--subject", "u3"]);
    assert!(
        erased.contains("pin      the pinned predictor of policy default is from before the edit"),
        "{erased}"
    );
}

/// The newest predictor decides again.
fn unpinned(pins: &mut Pins) {
    let unpin = ["weights", "unpin", "--reason", "it is over", "--by", "bob"];
    let other = pins.site.says(65, &[&unpin[..], &["--policy", "none"]].concat());
    assert!(other.contains("no predictor of policy none is pinned"), "{other}");
    let said = pins.site.says(0, &unpin);
    assert!(said.contains("no longer pinned") && said.contains("follow the newest"), "{said}");
    pins.decide("the newest", |decision| pinned(decision).is_none());
    let history = pins.site.says(0, &["weights", "history"]);
    assert!(history.contains("unpinned by bob: it is over"), "{history}");
    assert!(pins.site.says(65, &unpin).contains("no predictor is pinned"));
    await_metric(&pins.site, "score", "aegis_predictor_pinned{policy=\"default\"} 0");
}

/// A policy whose predictors are released by a person, and back.
fn released(pins: &mut Pins) {
    pins.policies("[policies.default]\nversion = \"2\"\nrelease = \"manual\"\n");
    let decision = pins.decide("the policy", |decision| decision.policy_version == "2");
    assert_eq!((decision.predictor.rounds, decision.predictor.pinned), (0, false), "the prior");
    let checked = pins.site.says(0, &["check"]);
    assert!(checked.contains("uses only predictors that a person has released"), "{checked}");
    let newest = pins.site.json(&["weights", "show"])[0]["state_hash"].as_str().unwrap().to_owned();
    let said =
        pins.site.says(0, &["weights", "release", &newest[..20], "--reason", "reviewed", "--by", "ann"]);
    assert!(said.contains(" is released, written to "), "{said}");
    pins.decide("the release", |decision| pinned(decision).as_ref() == Some(&newest));
    assert!(pins.site.says(0, &["weights", "history"]).contains("released"));
    let unpin = ["weights", "unpin", "--reason", "a test", "--by", "ann"];
    let refused = pins.site.says(65, &unpin);
    assert!(refused.contains("--to-prior") && refused.contains("release = \"manual\""), "{refused}");
    pins.policies("[policies.default]\nversion = \"3\"\n");
    let decision = pins.decide("the policy", |decision| decision.policy_version == "3");
    assert_eq!(pinned(&decision).as_ref(), Some(&newest), "a reload does not end a pin");
    pins.policies("[policies.default]\nversion = \"4\"\nrelease = \"manual\"\n");
    pins.decide("the policy", |decision| decision.policy_version == "4");
    pins.site.says(0, &[&unpin[..], &["--to-prior"]].concat());
    let decision = pins.decide("the prior", |decision| pinned(decision).is_none());
    assert_eq!(decision.predictor.rounds, 0);
}
