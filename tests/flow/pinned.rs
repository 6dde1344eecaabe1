//! Pinned predictors on the embedded broker: scorers hold one while labels arrive, also after a restart, and follow the
//! newest again after the pin has ended.

use crate::support;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aegis::codec::{self, Encoding};
use aegis::config::{Config, Policies, topic_specs};
use aegis::core::decision::Decision;
use aegis::core::label::Finding;
use aegis::core::policy::{Policy, Release};
use aegis::core::predictor::{Pin, Published, StateHash};
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Consumed, Delivery, Produced};
use aegis::learn::{Learn, Progress};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};
use support::flow::{decisions, event, event_record, experts, label, label_record, raw, read_until, send};
use support::site::poll;

/// A role on its own thread.
struct Role {
    shutdown: Shutdown,
    thread: JoinHandle<()>,
}

impl Role {
    fn stop(self) {
        self.shutdown.request(StopReason::Program);
        self.thread.join().unwrap();
    }
}

/// Topics on an embedded broker, and the policies of the roles.
struct Site {
    connection: Connection,
    policies: Arc<Policies>,
    folder: tempfile::TempDir,
    /// The number of events sent.
    sent: usize,
    _broker: Embedded,
}

impl Site {
    fn new(release: Release) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let mut names: Vec<(String, i32)> =
            topic_specs(&Config::default(), 1).into_iter().map(|spec| (spec.name, spec.partitions)).collect();
        names.extend(["decisions", "review", "dlq"].map(|name| (format!("second.{name}"), 1)));
        let names: Vec<_> = names.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        let broker = Embedded::start(&names).unwrap();
        let connection = Connection::new(broker.bootstrap());
        let default = Policies::default().get("default").unwrap().clone();
        let policy = Policy { release, ..default };
        let policies = [(policy.name.clone(), policy)].into();
        let policies = Arc::new(Policies { policies, ..Policies::default() });
        Self { connection, policies, folder, sent: 0, _broker: broker }
    }

    /// Starts a scorer. The second one has a group and outputs of its own, so that it decides on the same events.
    fn score(&self, second: bool) -> Role {
        let mut config = Config::default();
        if second {
            config.score.group = "second".into();
            let topics = &mut config.topics;
            for (name, topic) in [
                ("decisions", &mut topics.decisions),
                ("review", &mut topics.review),
                ("dlq", &mut topics.dlq),
            ] {
                *topic = format!("second.{name}");
            }
        }
        let panel = Arc::new(Panel::open(PanelConfig::new(self.folder.path().join("models"))).unwrap());
        let shutdown = Shutdown::new();
        let score = Score {
            config: Arc::new(config),
            policies: Arc::clone(&self.policies).into(),
            panel: PanelHandle::in_force(panel, &aegis::config::Experts::default()),
            connection: self.connection.clone(),
            delivery: Delivery::AtLeastOnce,
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        Role { shutdown, thread: thread::spawn(move || score.run().unwrap()) }
    }

    fn learn(&self) -> Role {
        let mut config = Config::default();
        config.learn.store = self.folder.path().join("store");
        config.learn.publish_interval_ms = 50;
        let shutdown = Shutdown::new();
        let learn = Learn {
            config: Arc::new(config),
            policies: Arc::clone(&self.policies).into(),
            connection: self.connection.clone(),
            delivery: Delivery::AtLeastOnce,
            health: Health::default(),
            shutdown: shutdown.clone(),
            progress: Arc::<Progress>::default(),
        };
        Role { shutdown, thread: thread::spawn(move || learn.run().unwrap()) }
    }

    /// Sends an event and waits for its decision of each scorer.
    fn decide<const N: usize>(&mut self, topics: [&str; N]) -> [Decision; N] {
        let event = event(self.sent, "I will kill you");
        self.sent += 1;
        send(&self.connection, &[event_record(&Config::default().topics.events, &event)]);
        topics.map(|topic| {
            let is_there = |records: &[Consumed]| {
                decisions(records).into_iter().find(|decision| decision.id.event == event.id)
            };
            let records =
                read_until(&self.connection, topic, "the decision", |records| is_there(records).is_some());
            is_there(&records).unwrap()
        })
    }

    /// Sends events until each scorer decides with this predictor. Each takes it between two decisions.
    fn decide_until<const N: usize>(&mut self, topics: [&str; N], expected: (StateHash, bool)) {
        poll(|| {
            let made = self.decide(topics).map(|decision| used(&decision));
            if made == [expected; N] { Ok(()) } else { Err(format!("{made:?} instead of {expected:?}")) }
        });
    }

    /// Sends labels about these events. Returns the predictor that has learned from `rounds` rounds.
    fn teach(&self, numbers: std::ops::Range<usize>, rounds: u64) -> Published {
        let topics = Config::default().topics;
        for number in numbers {
            let label = label(&format!("l{number}"), &format!("e{number:05}"), Finding::Unsafe);
            send(&self.connection, &[label_record(&topics.labels, &label)]);
        }
        let last = |records: &[Consumed]| {
            let mut of_learner =
                records.iter().filter(|record| codec::pin_policy(record.key.as_deref().unwrap()).is_none());
            Some(codec::decode_published(of_learner.next_back()?.payload.as_deref()?).unwrap())
        };
        let records = read_until(&self.connection, &topics.weights, "the predictor", |records| {
            last(records).is_some_and(|published| published.rounds == rounds)
        });
        last(&records).unwrap()
    }

    /// Pins a predictor, or ends the pin.
    fn pin(&self, published: Option<&Published>) {
        let payload = published.map(|published| {
            let pin = Pin {
                policy: published.policy.clone(),
                predictor: codec::encode_published(published, Encoding::Avro).unwrap(),
                offset: 0,
                published: Some(1),
                by: "ann".into(),
                reason: "a test".into(),
                time: 2,
            };
            codec::encode_pin(&pin, Encoding::Avro).unwrap()
        });
        let record = raw(&Config::default().topics.weights, "", Vec::new());
        let key = Some(codec::pin_key("default"));
        send(&self.connection, &[Produced { partition: Some(0), key, payload, ..record }]);
    }
}

const BOTH: [&str; 2] = ["moderation.decisions", "second.decisions"];

/// The predictor of a decision: its hash, and whether it is pinned.
fn used(decision: &Decision) -> (StateHash, bool) {
    (decision.predictor.state_hash, decision.predictor.pinned)
}

#[test]
fn scorers_hold_a_pinned_predictor_while_labels_arrive_and_follow_again_without_it() {
    let mut site = Site::new(Release::Automatic);
    let (mut first, second, learn) = (site.score(false), site.score(true), site.learn());
    for _ in 0..4 {
        site.decide(BOTH);
    }
    let pinned = site.teach(0..4, 4);
    site.pin(Some(&pinned));
    let expected = (pinned.state_hash, true);
    site.decide_until(BOTH, expected);
    let held_from = site.sent;
    let newer = site.teach(4..8.min(site.sent), 8.min(site.sent) as u64);
    assert_ne!(newer.state_hash, pinned.state_hash, "learning goes on");
    for _ in 0..3 {
        assert_eq!(site.decide(BOTH).map(|decision| used(&decision)), [expected; 2]);
    }

    // A scorer that starts later finds the pin, and a learner that starts again does not touch it.
    first.stop();
    first = site.score(false);
    learn.stop();
    let learn = site.learn();
    assert_eq!(site.decide(BOTH).map(|decision| used(&decision)), [expected; 2]);
    let taught = usize::try_from(newer.rounds).unwrap();
    let newest = site.teach(taught..site.sent, site.sent as u64);
    assert_eq!(site.decide(BOTH).map(|decision| used(&decision)), [expected; 2]);

    site.pin(None);
    let follows = (newest.state_hash, false);
    site.decide_until(BOTH, follows);
    // Each scorer has changed once to the pinned predictor, and once from it.
    for topic in BOTH {
        let all = read_until(&site.connection, topic, "all", |records| records.len() >= site.sent);
        let made: Vec<_> = decisions(&all).iter().map(used).collect();
        let held = made.iter().filter(|used| **used == expected).count();
        let changes = made.windows(2).filter(|two| two[0].1 != two[1].1).count();
        assert!(changes == 2 && held >= 5, "{topic}: {changes} changes, {held} held from {held_from}");
        assert!(made.iter().all(|used| !used.1 || *used == expected), "only the pinned one is marked");
    }
    [first, second, learn].into_iter().for_each(Role::stop);
}

#[test]
fn without_a_release_the_prior_decides_and_feedback_changes_nothing() {
    let mut site = Site::new(Release::Manual);
    let (score, learn) = (site.score(false), site.learn());
    let only = [BOTH[0]];
    for _ in 0..4 {
        site.decide(only);
    }
    let candidate = site.teach(0..4, 4);
    for _ in 0..3 {
        let [decision] = site.decide(only);
        assert_eq!((decision.predictor.rounds, decision.predictor.pinned), (0, false), "the prior");
    }
    score.stop();
    let score = site.score(false);
    let [decision] = site.decide(only);
    assert_eq!(
        (decision.predictor.rounds, decision.predictor.pinned),
        (0, false),
        "the prior, after a restart"
    );
    site.pin(Some(&candidate));
    let released = (candidate.state_hash, true);
    site.decide_until(only, released);
    let newer = site.teach(4..6, 6);
    assert_ne!(newer.state_hash, candidate.state_hash);
    assert_eq!(used(&site.decide(only)[0]), released);
    [score, learn].into_iter().for_each(Role::stop);
}
