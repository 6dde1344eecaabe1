//! Experts that are asked only when their votes could change the decision: on the bundled experts, real texts and learned
//! weights, no decision differs from that with all experts asked, and the learner loses nothing.

use crate::experts_support::{models, sha256};
use crate::support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::thread;

use aegis::codec;
use aegis::config::{Config, Policies, topic_specs};
use aegis::core::decision::Decision;
use aegis::core::decisive::{Decisive, Unasked, decisive};
use aegis::core::learners::{LearnerSpec, Name, RoundInput};
use aegis::core::policy::{Action, CategoryRule};
use aegis::core::predictor::{Predictor, Published};
use aegis::core::vote::{Abstention, Outcome, Vote};
use aegis::experts::{Answer, Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Delivery, Produced};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};
use support::flow::{decisions, event, event_record, read_until, send, topics};

/// The number of texts that teach, and of those that are decided.
pub const TEXTS: usize = 360;

/// The line of a manifest of an expert that is asked only when it is decisive.
const ASK: &str = "ask = \"when_decisive\"\n";
/// The bundled experts that have it. They vote on one encoder.
const BUNDLED: [&str; 3] = ["smollm2-abuse", "smollm2-harm", "smollm2-request"];

/// A demo text and its label.
pub struct Sample {
    text: String,
    pub is_unsafe: bool,
}

/// Returns texts of the demo in an order that mixes its sources.
fn samples() -> Vec<Sample> {
    let mut found = Vec::new();
    for source in ["injection", "everyday", "jailbreaks"] {
        let lines = fs::read_to_string(models().join(format!("demo/{source}.jsonl"))).unwrap();
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        found.extend(lines.lines().map(parse).map(|line| Sample {
            text: line["text"].as_str().unwrap().to_owned(),
            is_unsafe: line["unsafe"].as_bool().unwrap(),
        }));
    }
    found.sort_by_cached_key(|sample| sha256(sample.text.as_bytes()));
    found.truncate(2 * TEXTS);
    found
}

/// Opens the bundled experts, of which these and no others are asked only when they are decisive.
fn panel(folder: &Path, deferred: &[&str]) -> Arc<Panel> {
    for expert in fs::read_dir(models()).unwrap().map(|entry| entry.unwrap()) {
        let Ok(manifest) = fs::read_to_string(expert.path().join("manifest.toml")) else { continue };
        let id = expert.file_name().into_string().unwrap();
        let copy = folder.join(&id);
        fs::create_dir(&copy).unwrap();
        for file in fs::read_dir(expert.path()).unwrap().map(|file| file.unwrap()) {
            if file.file_name() != "manifest.toml" {
                symlink(fs::canonicalize(file.path()).unwrap(), copy.join(file.file_name())).unwrap();
            }
        }
        let manifest = manifest.replace(ASK, "");
        let ask = if deferred.contains(&id.as_str()) { ASK } else { "" };
        fs::write(copy.join("manifest.toml"), format!("{ask}{manifest}")).unwrap();
    }
    let mut config = PanelConfig::new(folder);
    config.runtime = models().join("runtime/libonnxruntime.so");
    config.sessions = Some(1);
    Arc::new(Panel::open(config).unwrap())
}

/// The texts with the answers of all bundled experts.
pub static ANSWERED: LazyLock<Vec<(Sample, Answer)>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples();
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    let answers = panel(folder.path(), &[]).ask(&texts);
    samples.into_iter().zip(answers).collect()
});

/// The scores of the experts that are awake; NaN stands for the others.
pub fn row(votes: &[Vote]) -> Vec<f64> {
    votes.iter().map(|vote| vote.awake().unwrap_or(f64::NAN)).collect()
}

/// Returns a learner's state as it is published.
fn published(experts: &[String], encoder: [u8; 32], state: Vec<f64>, rounds: usize) -> Published {
    Published {
        learner: LearnerSpec::new(Name::Default),
        mapping: "test".into(),
        experts: experts.to_vec(),
        encoder: Some(encoder),
        rounds: rounds as u64,
        state_hash: [7; 32],
        state,
        ..Published::example("default")
    }
}

/// Returns the predictor of a learner that has learned the first texts.
fn learned() -> Published {
    let first = &ANSWERED[0].1;
    let experts: Vec<String> = first.votes.iter().map(|vote| vote.expert.clone()).collect();
    let ids: Vec<&str> = experts.iter().map(String::as_str).collect();
    let mut learner = LearnerSpec::new(Name::Default).build(&ids, "default").unwrap();
    for (number, (sample, answer)) in ANSWERED.iter().take(TEXTS).enumerate() {
        let votes = row(&answer.votes);
        let features = answer.reading.as_ref().map(|reading| &*reading.features);
        let round = RoundInput { votes: &votes, features, event: &event(number, "").id };
        learner.step(&round, f64::from(u8::from(sample.is_unsafe)));
    }
    let mut state = Vec::new();
    learner.save(&mut state);
    published(&experts, first.reading.as_ref().unwrap().encoder, state, TEXTS)
}

/// The category of the policy's only rule. No expert that a test defers reports it: one that does is asked about every event
/// that the rule could make stricter.
const RULED: &str = "violence";

/// The default policy with a rule.
fn policies() -> Policies {
    let mut policies = Policies::default();
    let policy = policies.policies.get_mut("default").unwrap();
    policy.categories.insert(RULED.to_owned(), CategoryRule { threshold: 0.5, action: Action::Review });
    policies
}

/// Decides the texts that did not teach, with the learned predictor.
fn decided(prefix: &str, panel: &Arc<Panel>, explore: f64) -> BTreeMap<String, Decision> {
    let mut config = Config { topics: topics(prefix), ..Config::default() };
    config.experts.explore = explore;
    let specs = topic_specs(&config, 3);
    let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
    let broker = Embedded::start(&names).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let weights = Produced {
        topic: config.topics.weights.as_str().into(),
        partition: None,
        key: Some(b"default".to_vec()),
        payload: Some(codec::encode_published(&learned(), codec::Encoding::Avro).unwrap()),
        headers: Vec::new(),
        timestamp: None,
    };
    send(&connection, &[weights]);
    let texts = ANSWERED.iter().enumerate().skip(TEXTS);
    let records =
        texts.map(|(number, (sample, _))| event_record(&config.topics.events, &event(number, &sample.text)));
    send(&connection, &records.collect::<Vec<_>>());
    let shutdown = Shutdown::new();
    let score = Score {
        config: Arc::new(config.clone()),
        policies: Arc::new(policies()).into(),
        panel: PanelHandle::in_force(Arc::clone(panel), &aegis::config::Experts::default()),
        connection: connection.clone(),
        delivery: Delivery::AtLeastOnce,
        health: Health::default(),
        shutdown: shutdown.clone(),
    };
    let score = thread::spawn(move || score.run().unwrap());
    let enough = |records: &[_]| records.len() == TEXTS;
    let made = decisions(&read_until(&connection, &config.topics.decisions, "decisions", enough));
    shutdown.request(StopReason::Program);
    score.join().unwrap();
    assert!(made.iter().all(|decision| decision.predictor.state_hash == [7; 32]));
    made.into_iter().map(|decision| (decision.id.event.clone(), decision)).collect()
}

fn vote<'a>(decision: &'a Decision, expert: &str) -> &'a Vote {
    decision.votes.iter().map(|weighed| &weighed.vote).find(|vote| vote.expert == expert).unwrap()
}

/// Two heads on one encoder.
const MINILM: [&str; 2] = ["harmful-request", "jailguard"];

/// Checks that the rulings with deferred experts, and what was drawn, are those with all experts asked. Returns the share of events on which
/// each was asked.
fn same_decisions(prefix: &str, deferred: &[&str]) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let panel = panel(folder.path(), deferred);
    let always = decided(&format!("{prefix}.always"), &panel, 1.0);
    let needed = decided(&format!("{prefix}.needed"), &panel, 0.02);
    let mut asked = vec![0; deferred.len()];
    for (id, with) in &always {
        let without = &needed[id];
        let ruling = |decision: &Decision| {
            let ruled = decision.categories.iter().find(|found| found.category == RULED).cloned();
            let Decision { action, review_probability, sampling, .. } = *decision;
            (action, decision.reasons.clone(), review_probability, sampling, ruled)
        };
        assert_eq!(
            ruling(with),
            ruling(without),
            "{id}: p {:?}, {:?}",
            with.probability,
            without.probability
        );
        for (expert, asked) in deferred.iter().zip(&mut asked) {
            let (all, some) = (vote(with, expert), vote(without, expert));
            assert!(all.explored && !all.decisive, "with the share 1 it is drawn each time");
            if some.outcome == Outcome::Abstained(Abstention::NotNeeded) {
                assert!(!some.explored && !some.decisive);
            } else if some.outcome == Outcome::Abstained(Abstention::Language) {
                assert!(!some.decisive && all.outcome == some.outcome, "it is asked in neither case");
            } else {
                assert!(some.explored != some.decisive);
                assert_eq!(some.score(), all.score());
                *asked += 1;
            }
        }
        assert_eq!(with.degraded, without.degraded, "{id}: an expert that is not needed is not missing");
        let heads: Vec<_> = deferred
            .iter()
            .filter(|expert| expert.starts_with("smollm2-") || MINILM.contains(expert))
            .collect();
        let is_asked =
            |expert: &str| vote(without, expert).outcome != Outcome::Abstained(Abstention::NotNeeded);
        assert!(
            heads.windows(2).all(|two| is_asked(two[0]) == is_asked(two[1])),
            "{id}: one run answers for all"
        );
    }
    asked.into_iter().map(|asked| f64::from(asked) / TEXTS as f64).collect()
}

#[test]
fn no_decision_differs_from_that_with_all_experts_asked() {
    let shares = same_decisions("one", &["toxic-bilstm"]);
    println!("toxic-bilstm was asked on {:.3} of the events", shares[0]);
    assert!(shares[0] < 1.0 / 3.0, "{shares:?}");
    let shares = same_decisions("three", &["harmful-request", "jailguard", "toxic-bilstm"]);
    println!("harmful-request, jailguard and toxic-bilstm were asked on {shares:.3?} of the events");
    assert!(shares.iter().any(|share| *share < 1.0 / 3.0), "{shares:?}");
    let shares = same_decisions("bundled", &BUNDLED);
    println!("{BUNDLED:?} were asked on {shares:.3?} of the events");
    // Close to .325 on every machine: only the last bits of a vote differ.
    assert!(shares.iter().all(|share| *share < 1.0 / 3.0), "{shares:?}");
}

/// The orders of the texts over which the loss with three deferred experts is compared. In one order, its ratio to that of
/// asking always is up to .03 above or below the mean.
const ORDERS: u8 = 4;

/// Returns the places of the texts in one of several orders.
fn order(number: u8) -> Vec<usize> {
    let mut places: Vec<usize> = (0..ANSWERED.len()).collect();
    places.sort_by_cached_key(|place| sha256(format!("{number}{}", ANSWERED[*place].0.text).as_bytes()));
    places
}

/// The learner that gets the votes of one expert only when they are decisive or drawn has a Brier loss that is at most 3 %
/// higher, over all experts. The mistakes are few here: docs/asking.md counts them on longer streams.
#[test]
fn the_learner_is_as_good_without_the_votes_that_were_not_needed() {
    let policies = Policies::default();
    let policy = policies.get("default").unwrap();
    let first = &ANSWERED[0].1;
    let experts: Vec<String> = first.votes.iter().map(|vote| vote.expert.clone()).collect();
    let ids: Vec<&str> = experts.iter().map(String::as_str).collect();
    let encoder = first.reading.as_ref().unwrap().encoder;
    let play = |deferred: &[usize], order: &[usize]| {
        let mut learner = policy.learner.build(&ids, "default").unwrap();
        let (mut mistakes, mut loss) = (0.0, 0.0);
        for (number, (sample, answer)) in order.iter().map(|place| &ANSWERED[*place]).enumerate() {
            let mut votes = answer.votes.clone();
            let id = event(number, "").id;
            if !deferred.is_empty() {
                let mut state = Vec::new();
                learner.save(&mut state);
                let state = published(&experts, encoder, state, number);
                let mut predictor = Predictor::published(&state).unwrap();
                let mut unasked = Vec::new();
                for &at in deferred {
                    votes[at].outcome = Outcome::Abstained(Abstention::NotNeeded);
                    unasked.push(Unasked { expert: &experts[at], categories: &[], shadow: false, cost: 1.0 });
                }
                let features = answer.reading.as_ref();
                let needed = decisive(&mut predictor, policy, &id, &votes, features, &unasked);
                if needed != Decisive::No || number % 50 == 7 {
                    // One run answers for all of them.
                    votes.clone_from(&answer.votes);
                }
            }
            let row = row(&votes);
            let features = answer.reading.as_ref().map(|reading| &*reading.features);
            let target = f64::from(u8::from(sample.is_unsafe));
            let p = learner.step(&RoundInput { votes: &row, features, event: &id }, target);
            mistakes += f64::from(u8::from((p >= 0.5) != sample.is_unsafe));
            loss += (p - target) * (p - target);
        }
        [mistakes, loss]
    };
    let first_order = order(0);
    let always = play(&[], &first_order);
    let mut ratios = [0.0; 2];
    for at in 0..experts.len() {
        let found = play(&[at], &first_order);
        for (ratio, (found, always)) in ratios.iter_mut().zip(found.iter().zip(always)) {
            *ratio += (found / always).ln() / experts.len() as f64;
        }
    }
    let bundled: Vec<usize> = (0..experts.len()).filter(|at| BUNDLED.contains(&ids[*at])).collect();
    let mut total = 0.0;
    for order in (0..ORDERS).map(order) {
        let ([few, loss], [all, whole]) = (play(&bundled, &order), play(&[], &order));
        println!("{BUNDLED:?} deferred: {few} mistakes instead of {all}, {:.4} times the loss", loss / whole);
        total += (loss / whole).ln();
    }
    let loss = (total / f64::from(ORDERS)).exp();
    println!("{loss:.4} times the loss, geometric mean");
    // Three experts are without votes at once.
    assert!(loss < 1.06, "{loss}");
    let [mistakes, loss] = ratios.map(f64::exp);
    println!("{mistakes:.3} times the {} mistakes of asking always, {loss:.4} times its loss", always[0]);
    assert!(loss < 1.03, "{loss}");
}
