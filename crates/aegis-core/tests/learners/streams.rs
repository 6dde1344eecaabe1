//! Streams to judge learners by, and what every test needs to run one.

use aegis_core::features::{DIMENSIONS, Features};
use aegis_core::learners::{Learner, LearnerSpec, Name, RoundInput, Tally};

/// Ids in the order of their bytes.
pub const IDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// Every learner with its defaults, and others with parameters that matter.
pub const SPECS: [&str; 20] = [
    "weighted-majority",
    "weighted-majority beta=0.9",
    "hedge",
    "hedge eta=0.5",
    "hedge eta=20",
    "fpl",
    "fpl noise=exponential seed=s",
    "adahedge",
    "squint",
    "adanormalhedge",
    "fixed-share",
    "fixed-share eta=1 alpha=0.01",
    "fixed-share-grid",
    "log-loss",
    "brier",
    "stacking",
    "stacking gamma=1",
    "reading variance=0.3 gamma=0.9995",
    "default",
    "majority",
];

/// A small generator of its own, so that a stream is the same for ever.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d);
        (0..8).for_each(|_| {
            chance.next();
        });
        chance
    }

    /// Uniform in [0,1).
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / 9_007_199_254_740_992.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() * n as f64) as usize
    }

    pub fn features(&mut self) -> Box<Features> {
        Box::new(std::array::from_fn::<i8, DIMENSIONS, _>(|_| (self.next() * 255.0 - 127.0) as i8))
    }
}

#[derive(Clone)]
pub struct Round {
    pub votes: Vec<f64>,
    pub target: f64,
    pub features: Option<Box<Features>>,
    pub event: String,
}

impl Round {
    pub fn sight(&self) -> RoundInput<'_> {
        RoundInput { votes: &self.votes, features: self.features.as_deref(), event: &self.event }
    }
}

pub fn round(at: usize, votes: Vec<f64>, target: f64) -> Round {
    Round { votes, target, features: None, event: format!("event {at}") }
}

pub fn build(spec: &str, n: usize) -> Box<dyn Learner> {
    spec.parse::<LearnerSpec>().unwrap().build(&IDS[..n], "policy").unwrap()
}

pub fn spec(name: Name) -> LearnerSpec {
    LearnerSpec::new(name)
}

pub fn state(learner: &dyn Learner) -> Vec<f64> {
    let mut state = Vec::new();
    learner.save(&mut state);
    state
}

pub fn bits(xs: &[f64]) -> Vec<u64> {
    xs.iter().map(|x| x.to_bits()).collect()
}

/// Plays a stream; gives the predictions and the tally.
pub fn play(learner: &mut dyn Learner, rounds: &[Round]) -> (Vec<f64>, Tally) {
    let n = rounds[0].votes.len();
    let mut tally = Tally::new(n, learner.loss_kind(), None);
    let mut weights = vec![0.0; n];
    let predictions = rounds.iter().map(|round| {
        let sight = round.sight();
        let played = learner.weights(&sight, &mut weights);
        let p = learner.step(&sight, round.target);
        tally.add(&round.votes, played.then_some(&weights[..]), p, round.target);
        p
    });
    (predictions.collect(), tally)
}

/// A vote of an expert that is right at `rate`: hard or soft.
pub fn vote(chance: &mut Chance, target: f64, rate: f64, soft: bool) -> f64 {
    let leaning = if chance.next() < rate { target } else { 1.0 - target };
    if soft {
        (0.65 * leaning + 0.35 * chance.next()).clamp(0.0, 1.0)
    } else {
        f64::from(u8::from(leaning >= 0.5))
    }
}

/// Experts right at fixed rates.
pub fn stochastic(seed: u64, n: usize, rounds: usize, soft: bool) -> Vec<Round> {
    let mut chance = Chance::new(seed);
    let rates: Vec<f64> = (0..n).map(|at| 0.5 + 0.4 * at as f64 / n as f64).collect();
    (0..rounds)
        .map(|at| {
            let target = f64::from(u8::from(chance.next() < 0.4));
            round(at, rates.iter().map(|rate| vote(&mut chance, target, *rate, soft)).collect(), target)
        })
        .collect()
}

/// Who is right changes twice.
pub fn shifting(seed: u64, n: usize, rounds: usize, soft: bool) -> Vec<Round> {
    let mut chance = Chance::new(seed);
    (0..rounds)
        .map(|at| {
            let best = (3 * at / rounds) * (n - 1) / 2;
            let target = f64::from(u8::from(chance.next() < 0.5));
            let rate = |expert| if expert == best { 0.92 } else { 0.55 };
            round(at, (0..n).map(|expert| vote(&mut chance, target, rate(expert), soft)).collect(), target)
        })
        .collect()
}

/// Who is right changes in every round, in turn.
pub fn rotating(n: usize, rounds: usize) -> Vec<Round> {
    (0..rounds)
        .map(|at| {
            let target = f64::from(u8::from((at / n).is_multiple_of(2)));
            let votes = (0..n).map(|expert| if expert == at % n { target } else { 1.0 - target });
            round(at, votes.collect(), target)
        })
        .collect()
}

/// Experts sleep at random, or for long; targets are shares of annotators.
pub fn sleeping(seed: u64, n: usize, rounds: usize) -> Vec<Round> {
    let mut chance = Chance::new(seed);
    let mut stream = stochastic(seed + 1, n, rounds, true);
    for (at, round) in stream.iter_mut().enumerate() {
        let awake = chance.below(n);
        for (expert, vote) in round.votes.iter_mut().enumerate() {
            let long = at / (rounds / 5).max(1) == expert % 5 && expert % 2 == 0;
            if expert != awake && (chance.next() < 0.4 || long) {
                *vote = f64::NAN;
            }
        }
        if chance.next() < 0.2 {
            round.target = (chance.next() * 4.0).round() / 4.0;
        }
    }
    stream
}

/// Some events carry features that tell something.
pub fn with_features(mut stream: Vec<Round>, seed: u64) -> Vec<Round> {
    let mut chance = Chance::new(seed);
    for round in &mut stream {
        let mut features = chance.features();
        for byte in features.iter_mut().take(5) {
            *byte = if chance.next() < 0.5 + 0.4 * round.target { 90 } else { -90 };
        }
        round.features = (chance.next() < 0.8).then_some(features);
    }
    stream
}

/// An adversary that makes the heaviest expert wrong each time, and the learner with it.
pub fn attack(learner: &mut dyn Learner, n: usize, rounds: usize, sleepers: bool) -> (Vec<Round>, Tally) {
    let mut chance = Chance::new(77);
    let mut tally = Tally::new(n, learner.loss_kind(), None);
    let mut weights = vec![0.0; n];
    let mut stream = Vec::new();
    for at in 0..rounds {
        let masses = learner.masses();
        let heaviest = (0..n).max_by(|a, b| {
            let mass = |at: usize| masses.get(at).map_or(0.0, |mass| mass.mass);
            mass(*a).total_cmp(&mass(*b))
        });
        let side = f64::from(u8::from(chance.next() < 0.5));
        let mut votes: Vec<f64> =
            (0..n).map(|expert| if Some(expert) == heaviest { side } else { 1.0 - side }).collect();
        if sleepers {
            let awake = chance.below(n);
            for (expert, vote) in votes.iter_mut().enumerate() {
                if expert != awake && chance.next() < 0.3 {
                    *vote = f64::NAN;
                }
            }
        }
        let mut round = round(at, votes, 0.0);
        round.target = if learner.predict(&round.sight()) >= 0.5 { 0.0 } else { 1.0 };
        let played = learner.weights(&round.sight(), &mut weights);
        let p = learner.step(&round.sight(), round.target);
        tally.add(&round.votes, played.then_some(&weights[..]), p, round.target);
        stream.push(round);
    }
    (stream, tally)
}
