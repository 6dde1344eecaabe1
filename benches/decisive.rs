//! The cost and the saving of asking an expert only when its vote could change the decision.
//!
//!     aegis evaluate --texts 1000 --streams target/streams
//!     cargo bench --bench decisive -- target/streams/*.jsonl
//!     cargo bench --bench decisive -- --panel EXPERT [TEXTS]
//!
//! With label streams, each expert in turn is asked only when it is decisive, or drawn with the share .02: the share of the
//! rounds on which it was asked, the time of the check, and the learner's mistakes and Brier loss, online, beside those
//! with all votes. With `--panel`, the installed panel answers the demo's texts with the expert asked always and when
//! decisive, in the same run, with a predictor that has learned other texts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis::config::Policies;
use aegis::core::decisive::{Decisive, Unasked, decisive};
use aegis::core::draw::Draws;
use aegis::core::features::Features;
use aegis::core::learners::{Learner, RoundInput};
use aegis::core::ledger::TextFeatures;
use aegis::core::policy::Policy;
use aegis::core::predictor::{Predictor, Published};
use aegis::core::vote::{Abstention, Outcome, Vote};
use aegis::experts::{Asked, Panel, PanelConfig, UnderLoad};
use base64::Engine as _;

const ENCODER: [u8; 32] = [7; 32];
const EXPLORE: f64 = 0.02;

/// A round of a stream.
struct Round {
    votes: Vec<Vote>,
    features: Option<TextFeatures>,
    target: f64,
}

impl Round {
    fn row(&self) -> Vec<f64> {
        row(&self.votes)
    }
}

fn row(votes: &[Vote]) -> Vec<f64> {
    votes.iter().map(|vote| vote.awake().unwrap_or(f64::NAN)).collect()
}

fn input<'a>(row: &'a [f64], features: Option<&'a TextFeatures>, event: &'a str) -> RoundInput<'a> {
    RoundInput { votes: row, features: features.map(|read| &*read.features), event }
}

/// Reads the rounds of a stream with votes and a verdict, and its experts.
fn read(path: &str) -> (Vec<String>, Vec<Round>) {
    let text = std::fs::read_to_string(path).expect("the stream can be read");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let lines: Vec<_> =
        lines.filter(|line| line["votes"].is_object() && line["unsafe"].is_boolean()).collect();
    let names = lines.iter().flat_map(|line| line["votes"].as_object().expect("an object").keys());
    let experts: Vec<String> = names.cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let vote = |line: &serde_json::Value, expert: &String| match line["votes"][expert].as_f64() {
        Some(score) => Vote::scored(expert, [0; 32], score, Vec::new()),
        None => Vote::abstained(expert, None, Abstention::Failed),
    };
    let round = |line: &serde_json::Value| Round {
        votes: experts.iter().map(|expert| vote(line, expert)).collect(),
        features: line["features"].as_str().map(|text| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
            let features: Features = std::array::from_fn(|at| bytes[at].cast_signed());
            TextFeatures { encoder: ENCODER, features: Box::new(features) }
        }),
        target: f64::from(u8::from(line["unsafe"] == true)),
    };
    let rounds = lines.iter().map(round).collect();
    (experts, rounds)
}

fn build(policy: &Policy, experts: &[String]) -> Box<dyn Learner> {
    let ids: Vec<&str> = experts.iter().map(String::as_str).collect();
    policy.learner.build(&ids, &policy.name).expect("the learner takes these experts")
}

fn predictor(policy: &Policy, experts: &[String], encoder: [u8; 32], learner: &dyn Learner) -> Predictor {
    let mut state = Vec::new();
    learner.save(&mut state);
    let published = Published {
        learner: policy.learner.clone(),
        experts: experts.to_vec(),
        encoder: Some(encoder),
        state,
        ..Published::example(&policy.name)
    };
    Predictor::published(&published).expect("a state of this learner")
}

/// The outcome of one pass over a stream.
#[derive(Default)]
struct Pass {
    mistakes: u32,
    loss: f64,
    asked: u32,
    checks: Duration,
}

/// Learns a stream online. `deferred`: the expert that is asked only when it is decisive or drawn.
fn play(policy: &Policy, experts: &[String], rounds: &[Round], deferred: Option<usize>) -> Pass {
    let mut learner = build(policy, experts);
    let draws = Draws::new(b"", &policy.name);
    let mut pass = Pass::default();
    for (number, round) in rounds.iter().enumerate() {
        let (event, mut row) = (number.to_string(), round.row());
        if let Some(at) = deferred {
            let mut predictor = predictor(policy, experts, ENCODER, learner.as_ref());
            let mut votes = round.votes.clone();
            votes[at].outcome = Outcome::Abstained(Abstention::NotNeeded);
            let open = Unasked { expert: &experts[at], categories: &[], shadow: false, cost: 1.0 };
            let started = Instant::now();
            let needed = decisive(&mut predictor, policy, &event, &votes, round.features.as_ref(), &[open]);
            pass.checks += started.elapsed();
            if needed == Decisive::No && draws.uniform(&event, &experts[at], "explore") >= EXPLORE {
                row[at] = f64::NAN;
            } else {
                pass.asked += 1;
            }
        }
        if row.iter().all(|vote| vote.is_nan()) {
            continue;
        }
        let p = learner.step(&input(&row, round.features.as_ref(), &event), round.target);
        pass.mistakes += u32::from((p >= 0.5) != (round.target >= 0.5));
        pass.loss += (p - round.target) * (p - round.target);
    }
    pass
}

fn streams(paths: &[String], policy: &Policy) {
    let (mut mistakes, mut count) = (0.0, 0.0);
    println!("| stream | expert | asked | check, µs | mistakes | always | Brier | always |");
    println!("|---|---|---|---|---|---|---|---|");
    for path in paths {
        let (experts, rounds) = read(path);
        let always = play(policy, &experts, &rounds, None);
        let (n, stream) = (rounds.len() as f64, Path::new(path).file_stem().unwrap_or_default());
        for at in 0..experts.len() {
            let pass = play(policy, &experts, &rounds, Some(at));
            println!(
                "| {} | {} | {:.2} | {:.0} | {} | {} | {:.4} | {:.4} |",
                stream.display(),
                experts[at],
                f64::from(pass.asked) / n,
                pass.checks.as_secs_f64() * 1e6 / n,
                pass.mistakes,
                always.mistakes,
                pass.loss / n,
                always.loss / n
            );
            mistakes += (f64::from(pass.mistakes.max(1)) / f64::from(always.mistakes.max(1))).ln();
            count += 1.0;
        }
    }
    println!("geometric mean of the mistakes beside asking always: {:.3}", (mistakes / count).exp());
}

/// Texts of the demo with their labels, in an order that mixes its sources.
fn demo_texts() -> Vec<(String, f64)> {
    let mut texts = BTreeMap::new();
    for source in ["injection", "everyday", "jailbreaks"] {
        let lines = std::fs::read_to_string(format!("models/demo/{source}.jsonl")).expect("run `make setup`");
        for line in lines.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let text = line["text"].as_str().expect("a text").to_owned();
            let order = (Draws::new(b"", "order").uniform(&text, "", "") * 1e12) as u64;
            texts.insert(order, (text, f64::from(u8::from(line["unsafe"] == true))));
        }
    }
    texts.into_values().collect()
}

/// Answers texts through the stream, with the expert asked when it is decisive, or always. Returns the number of questions
/// to it and the time.
fn answer(
    panel: &Arc<Panel>,
    texts: &[(String, f64)],
    deferred: usize,
    mut predictor: Option<(&mut Predictor, &Policy)>,
) -> (u32, Duration) {
    let mut stream = panel.stream(64, Duration::from_millis(2)).expect("the panel's threads start");
    let info = &panel.experts()[deferred];
    let (started, mut next, mut asked, mut first) = (Instant::now(), 0, 0, BTreeSet::new());
    let submit = |stream: &mut aegis::experts::Stream, key: usize, asked: Asked| {
        let text = texts[key].0.as_str();
        stream.submit_asking(key as u64, text, UnderLoad::All, asked).expect("there is room");
    };
    while next < texts.len() || stream.inside() > 0 {
        while next < texts.len() && stream.room() > 0 {
            let choice = if predictor.is_some() { Asked::Without([deferred].into()) } else { Asked::All };
            submit(&mut stream, next, choice);
            first.insert(next as u64);
            next += 1;
        }
        let (key, answer) = stream.next(Duration::from_secs(60)).expect("every text is answered");
        if let Some((predictor, policy)) = &mut predictor
            && first.remove(&key)
        {
            let open = Unasked { expert: &info.id, categories: &info.categories, shadow: false, cost: 1.0 };
            let (event, features) = (key.to_string(), answer.reading.as_ref());
            if decisive(predictor, policy, &event, &answer.votes, features, &[open]) != Decisive::No {
                asked += 1;
                submit(&mut stream, key as usize, Asked::Only([deferred].into()));
            }
        }
    }
    (if predictor.is_some() { asked } else { texts.len() as u32 }, started.elapsed())
}

fn panel(expert: &str, count: usize, policy: &Policy) {
    // Without the cache, in which the second pass would find the answers of the first.
    let mut config = PanelConfig::new("models");
    config.cache = 0;
    let panel = Arc::new(Panel::open(config).expect("run `make setup`"));
    let experts: Vec<String> = panel.experts().iter().map(|info| info.id.clone()).collect();
    let deferred = experts.iter().position(|id| id == expert).expect("an expert of the panel");
    let mut texts = demo_texts();
    texts.truncate(2 * count);
    let (taught, decided) = texts.split_at(texts.len() / 2);
    let mut learner = build(policy, &experts);
    let read: Vec<&str> = taught.iter().map(|(text, _)| text.as_str()).collect();
    for (number, (answer, (_, target))) in panel.ask(&read).iter().zip(taught).enumerate() {
        let (event, row) = (number.to_string(), row(&answer.votes));
        if row.iter().any(|vote| !vote.is_nan()) {
            learner.step(&input(&row, answer.reading.as_ref(), &event), *target);
        }
    }
    let encoder = panel.encoder().unwrap_or_default();
    let mut predictor = predictor(policy, &experts, encoder, learner.as_ref());
    println!("| asking `{expert}` | texts a second | asked |\n|---|---|---|");
    for lap in ["", "again"] {
        for (name, with) in [("always", None), ("when decisive", Some((&mut predictor, policy)))] {
            let (asked, took) = answer(&panel, decided, deferred, with);
            let rate = decided.len() as f64 / took.as_secs_f64();
            println!("| {name} {lap} | {rate:.1} | {:.2} |", f64::from(asked) / decided.len() as f64);
        }
    }
}

fn main() {
    let policies = Policies::default();
    let policy = policies.get("default").expect("there is a default policy");
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [flag, expert, rest @ ..] if flag == "--panel" => {
            panel(expert, rest.first().map_or(500, |count| count.parse().expect("a number")), policy);
        }
        [] => println!("give label streams, or --panel EXPERT [TEXTS]"),
        paths => streams(paths, policy),
    }
}
