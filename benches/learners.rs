//! A benchmark of the learners against plain loops, measured in the same run: `cargo bench --bench learners`.
//!
//! It interleaves the contestants and prints the least and the median over the laps in nanoseconds per round, and the
//! ratios (plain / ours; above 1 ours is faster).

#![allow(clippy::needless_range_loop, reason = "the plain loops are written as in the formulas")]

use aegis::core::features::{DIMENSIONS, Features};
use aegis::core::learners::{Learner, LearnerSpec, RoundInput};
use std::hint::black_box;
use std::time::Instant;

const EXPERTS: usize = 8;
/// The number of laps. They are short, so that most fit between two interruptions of a shared core.
const LAPS: usize = 201;

struct Round {
    votes: [f64; EXPERTS],
    features: Features,
    target: f64,
}

/// Returns a stream whose experts are right at different rates, from an arithmetic generator without a seed.
fn stream(rounds: usize) -> Vec<Round> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / 9_007_199_254_740_992.0
    };
    let mut round = || {
        let target = f64::from(u8::from(next() < 0.4));
        let votes = std::array::from_fn(|at| {
            let leaning = if next() < 0.55 + 0.04 * at as f64 { target } else { 1.0 - target };
            0.7 * leaning + 0.3 * next()
        });
        let features = std::array::from_fn(|_| ((next() + next() + next() - 1.5) * 70.0) as i8);
        Round { votes, features, target }
    };
    (0..rounds).map(|_| round()).collect()
}

struct PlainHedge {
    eta: f64,
    loss: Vec<f64>,
    weights: Vec<f64>,
}

impl PlainHedge {
    fn step(&mut self, votes: &[f64], target: f64) -> f64 {
        let least = self.loss.iter().copied().fold(f64::INFINITY, f64::min);
        let mut total = 0.0;
        for i in 0..votes.len() {
            self.weights[i] = (-self.eta * (self.loss[i] - least)).exp();
            total += self.weights[i];
        }
        let mut p = 0.0;
        for i in 0..votes.len() {
            p += self.weights[i] / total * votes[i];
        }
        for i in 0..votes.len() {
            self.loss[i] += (votes[i] - target).abs();
        }
        p
    }
}

struct PlainStack {
    gamma: f64,
    k: usize,
    w: Vec<f64>,
    p: Vec<Vec<f64>>,
    image: Vec<f64>,
}

impl PlainStack {
    fn new(gamma: f64) -> Self {
        let d = 2 * EXPERTS + 1;
        let p = (0..d).map(|i| (0..d).map(|j| if i == j { 0.1 } else { 0.0 }).collect()).collect();
        Self { gamma, k: 0, w: vec![0.0; d], p, image: vec![0.0; d] }
    }

    fn see(&mut self, phi: &[f64]) -> f64 {
        let mut u = 0.0;
        for i in 0..phi.len() {
            self.image[i] = (0..phi.len()).map(|j| self.p[i][j] * phi[j]).sum();
            u += self.image[i] * phi[i];
        }
        u
    }

    fn step(&mut self, phi: &[f64], target: f64) -> f64 {
        let d = phi.len();
        let mut u = self.see(phi);
        let s: f64 = (0..d).map(|i| phi[i] * self.w[i]).sum();
        let p = 1.0 / (1.0 + (-s / (1.0 + std::f64::consts::PI * u / 8.0).sqrt()).exp());
        if self.gamma < 1.0 {
            for row in &mut self.p {
                row.iter_mut().for_each(|x| *x /= self.gamma);
            }
            let i = self.k % d;
            let c = (1.0 - self.gamma) * d as f64 / 0.1;
            let row = self.p[i].clone();
            let scale = c / (1.0 + c * row[i]);
            for a in 0..d {
                for b in 0..d {
                    self.p[a][b] -= scale * (row[a] * row[b]);
                }
            }
            u = self.see(phi);
        }
        let q = 1.0 / (1.0 + (-s).exp());
        let h = (q * (1.0 - q)).max(1e-6);
        let scale = h / (1.0 + h * u);
        for a in 0..d {
            for b in 0..d {
                self.p[a][b] -= scale * (self.image[a] * self.image[b]);
            }
        }
        for i in 0..d {
            self.w[i] += self.image[i] / (1.0 + h * u) * (target - q);
        }
        self.k += 1;
        p
    }
}

struct PlainShare {
    eta: f64,
    alpha: f64,
    w: Vec<f64>,
}

impl PlainShare {
    fn step(&mut self, votes: &[f64], target: f64) -> f64 {
        let n = votes.len();
        let p = (0..n).map(|i| self.w[i] * votes[i]).sum();
        let mut total = 0.0;
        for i in 0..n {
            self.w[i] *= (-self.eta * (votes[i] - target).abs()).exp();
            total += self.w[i];
        }
        for w in &mut self.w {
            *w = (1.0 - self.alpha) * *w / total + self.alpha / n as f64;
        }
        p
    }
}

struct PlainReader {
    gamma: f64,
    prior: Vec<f64>,
    w: Vec<f64>,
    p: Vec<f64>,
}

impl PlainReader {
    fn new(variance: f64, gamma: f64) -> Self {
        let mut prior = vec![variance; DIMENSIONS];
        prior.resize(DIMENSIONS + 2 * EXPERTS + 1, 0.1);
        Self { gamma, w: vec![0.0; prior.len()], p: prior.clone(), prior }
    }

    fn step(&mut self, f: &[f64], target: f64) -> f64 {
        let (mut u, mut s) = (0.0, 0.0);
        for ((f, p), w) in f.iter().zip(&self.p).zip(&self.w) {
            u += f * f * p;
            s += f * w;
        }
        let p = 1.0 / (1.0 + (-s / (1.0 + std::f64::consts::PI * u / 8.0f64).sqrt()).exp());
        let q = 1.0 / (1.0 + (-s).exp());
        let h = (q * (1.0 - q)).max(1e-6);
        for (((f, p), w), prior) in f.iter().zip(&mut self.p).zip(&mut self.w).zip(&self.prior) {
            if self.gamma < 1.0 {
                *p = (*p / self.gamma).min(*prior);
            }
            *p /= 1.0 + h * f * f * *p;
            *w += *p * f * (target - q);
        }
        p
    }
}

fn phi(votes: &[f64], out: &mut [f64]) {
    for (i, vote) in votes.iter().enumerate() {
        out[i] = 2.0 * vote - 1.0;
        out[votes.len() + i] = 1.0;
    }
    out[2 * votes.len()] = 1.0;
}

fn log_odds(votes: &[f64], out: &mut [f64]) {
    for (i, vote) in votes.iter().enumerate() {
        out[i] = ((vote + 0.001) / (1.0 - vote + 0.001)).ln() / 2.0;
        out[votes.len() + i] = 1.0;
    }
    out[2 * votes.len()] = 1.0;
}

fn ours(spec: &str) -> Box<dyn Learner> {
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
    spec.parse::<LearnerSpec>().expect("a spec").build(&ids, "bench").expect("a learner")
}

type Contestant<'a> = (&'static str, Box<dyn FnMut(&Round) -> f64 + 'a>);

fn learner(name: &'static str, spec: &str, read: bool, also_predict: bool) -> Contestant<'static> {
    let mut learner = ours(spec);
    (
        name,
        Box::new(move |round| {
            let input =
                RoundInput { votes: &round.votes, features: read.then_some(&round.features), event: "e" };
            let before = if also_predict { learner.predict(&input) } else { 0.0 };
            before + learner.step(&input, round.target)
        }),
    )
}

fn contestants() -> Vec<Contestant<'static>> {
    let mut hedge = PlainHedge { eta: 0.5, loss: vec![0.0; EXPERTS], weights: vec![0.0; EXPERTS] };
    let mut stacks: Vec<PlainStack> = [1.0, 0.9995, 0.998].map(PlainStack::new).into();
    let mut odds: Vec<PlainStack> = [1.0, 0.9995].map(PlainStack::new).into();
    let mut shares: Vec<PlainShare> = [0.1, 0.3, 1.0]
        .into_iter()
        .flat_map(|eta| {
            [0.0, 1e-4, 1e-3, 1e-2].map(|alpha| PlainShare { eta, alpha, w: vec![0.125; EXPERTS] })
        })
        .collect();
    let mut readers =
        [(0.3, 1.0), (0.3, 0.9995), (1.0, 1.0), (1.0, 0.9995)].map(|(v, g)| PlainReader::new(v, g));
    let (mut signs, mut logs) = (vec![0.0; 17], vec![0.0; 17]);
    let mut f = vec![0.0; DIMENSIONS + 17];
    vec![
        ("plain hedge", Box::new(move |round: &Round| hedge.step(&round.votes, round.target))),
        learner("hedge", "hedge eta=0.5", false, false),
        learner("hedge, predict and step", "hedge eta=0.5", false, true),
        learner("hedge, anytime", "hedge", false, false),
        (
            "plain stackings and shares",
            Box::new(move |round: &Round| {
                phi(&round.votes, &mut signs);
                log_odds(&round.votes, &mut logs);
                let mut sum = 0.0;
                stacks.iter_mut().for_each(|stack| sum += stack.step(&signs, round.target));
                odds.iter_mut().for_each(|stack| sum += stack.step(&logs, round.target));
                shares.iter_mut().for_each(|share| sum += share.step(&round.votes, round.target));
                sum
            }),
        ),
        learner("default by votes alone", "default", false, false),
        (
            "plain reading members",
            Box::new(move |round: &Round| {
                for (f, q) in f.iter_mut().zip(&round.features) {
                    *f = f64::from(*q) * 4.0 / (127.0 * 384f64.sqrt());
                }
                phi(&round.votes, &mut f[DIMENSIONS..]);
                readers.iter_mut().map(|reader| reader.step(&f, round.target)).sum()
            }),
        ),
        learner("default with features", "default", true, false),
        learner("reading", "reading", true, false),
        learner("stacking", "stacking", false, false),
        learner("fixed-share-grid", "fixed-share-grid", false, false),
        learner("weighted-majority", "weighted-majority", false, false),
        learner("squint", "squint", false, false),
        learner("fpl", "fpl", false, false),
    ]
}

fn main() {
    let rounds = stream(20_000);
    let mut laps = rounds.chunks(100).cycle();
    let mut contestants = contestants();
    let mut times = vec![Vec::with_capacity(LAPS); contestants.len()];
    for lap in 0..=LAPS {
        let Some(rounds) = laps.next() else { return };
        for ((_, run), times) in contestants.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for round in rounds {
                black_box(run(round));
            }
            // The first lap warms up.
            if lap > 0 {
                times.push(start.elapsed().as_nanos() as f64 / rounds.len() as f64);
            }
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let of = |name: &str| {
        let at = contestants.iter().position(|(known, _)| *known == name).expect("a contestant");
        (times[at][0], times[at][LAPS / 2])
    };
    println!("{EXPERTS} experts, ns a round: least and median of {LAPS} laps");
    for (name, _) in &contestants {
        println!("{name:28} {:9.1} {:9.1}", of(name).0, of(name).1);
    }
    println!("\nplain / ours, by least and by median (wanted)");
    for (plain, ours, wanted) in [
        ("plain hedge", "hedge", 1.4),
        ("plain hedge", "hedge, predict and step", 1.0),
        ("plain stackings and shares", "default by votes alone", 0.8),
        ("plain reading members", "default with features", 0.45),
        ("plain reading members", "default by votes alone", 0.0),
    ] {
        let (p, o) = (of(plain), of(ours));
        println!("{ours:28} {:6.2} {:6.2}   ({wanted})", p.0 / o.0, p.1 / o.1);
    }
}
