//! The default, put together by hand out of its members.
#![allow(clippy::needless_range_loop)] // matrices by hand

use super::streams::{Round, build, play, sleeping, with_features};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Bayesian logistic regression with a full covariance, or with a diagonal one.
struct Linear {
    w: Vec<f64>,
    p: Vec<Vec<f64>>,
    diagonal: bool,
    gamma: f64,
    prior: Vec<f64>,
    k: usize,
}

impl Linear {
    fn new(w: Vec<f64>, prior: Vec<f64>, gamma: f64, diagonal: bool) -> Self {
        let d = prior.len();
        let row = |i: usize| -> Vec<f64> { (0..d).map(|j| if i == j { prior[i] } else { 0.0 }).collect() };
        let p = if diagonal { vec![prior.clone()] } else { (0..d).map(row).collect() };
        Self { w, p, diagonal, gamma, prior, k: 0 }
    }

    fn image(&self, f: &[f64]) -> Vec<f64> {
        if self.diagonal {
            return self.p[0].iter().zip(f).map(|(p, f)| p * f).collect();
        }
        self.p.iter().map(|row| row.iter().zip(f).map(|(p, f)| p * f).sum()).collect()
    }

    /// Log-odds of the prediction; then learns.
    fn step(&mut self, f: &[f64], y: f64) -> f64 {
        let d = f.len();
        let s: f64 = f.iter().zip(&self.w).map(|(f, w)| f * w).sum();
        let dot = |g: &[f64]| f.iter().zip(g).map(|(f, g)| f * g).sum::<f64>();
        let said = s / (1.0 + std::f64::consts::PI * dot(&self.image(f)) / 8.0).sqrt();
        let q = sigmoid(s);
        let h = (q * (1.0 - q)).max(1e-6);
        if self.diagonal {
            for j in 0..d {
                let widened = (self.p[0][j] / self.gamma).min(self.prior[j]);
                self.p[0][j] = widened / (1.0 + h * f[j] * f[j] * widened);
            }
        } else {
            if self.gamma < 1.0 {
                self.p.iter_mut().flatten().for_each(|x| *x /= self.gamma);
                let (i, c) = (self.k % d, (1.0 - self.gamma) * d as f64 / self.prior[0]);
                let row = self.p[i].clone();
                for a in 0..d {
                    for b in 0..d {
                        self.p[a][b] -= c * row[a] * row[b] / (1.0 + c * row[i]);
                    }
                }
            }
            let g = self.image(f);
            let u = dot(&g);
            for a in 0..d {
                for b in 0..d {
                    self.p[a][b] -= h * g[a] * g[b] / (1.0 + h * u);
                }
            }
        }
        let g = self.image(f);
        (0..d).for_each(|j| self.w[j] += g[j] * (y - q));
        self.k += 1;
        said
    }
}

fn phi(votes: &[f64], log_odds: bool) -> Vec<f64> {
    let value = |v: &f64| match (v.is_nan(), log_odds) {
        (true, _) => 0.0,
        (_, true) => ((v + 0.001) / (1.001 - v)).ln() / 2.0,
        (_, false) => 2.0 * v - 1.0,
    };
    let flag = |v: &f64| if v.is_nan() { 0.0 } else { 1.0 };
    votes.iter().map(value).chain(votes.iter().map(flag)).chain([1.0]).collect()
}

/// One expert's log-odds with a slope and a bias of its own.
fn recalibrated(stream: &[Round], expert: usize) -> Vec<f64> {
    // Inputs scaled so that both have a prior variance of 1.
    let root = 0.3f64.sqrt();
    let mut member = Linear::new(vec![2.0, 0.0], vec![1.0; 2], 1.0, false);
    let says = |round: &Round| {
        let vote = round.votes[expert];
        let x = ((vote + 0.001) / (1.001 - vote)).ln() / 2.0;
        if vote.is_nan() { f64::NAN } else { sigmoid(member.step(&[x, root], round.target)) }
    };
    stream.iter().map(says).collect()
}

/// What every member says of every round, NaN where it sleeps.
fn members(stream: &[Round], n: usize) -> Vec<Vec<f64>> {
    let mut said: Vec<Vec<f64>> =
        (0..n).map(|i| stream.iter().map(|round| round.votes[i]).collect()).collect();
    said.extend((0..n).map(|i| recalibrated(stream, i)));
    for eta in [0.1, 0.3, 1.0] {
        for alpha in [0.0, 1e-4, 1e-3, 1e-2] {
            said.push(play(build(&format!("fixed-share eta={eta} alpha={alpha}"), n).as_mut(), stream).0);
        }
    }
    let d = 2 * n + 1;
    let full = |gamma| Linear::new(vec![0.0; d], vec![0.1; d], gamma, false);
    let reader = |z: Vec<f64>, products: usize, gamma| {
        let prior = [z, vec![0.1; d], vec![3.0; products]].concat();
        Linear::new(vec![0.0; prior.len()], prior, gamma, true)
    };
    let falling = |p0: f64, half: f64| (0..384).map(|j| p0 / (1.0 + f64::from(j) / half)).collect::<Vec<_>>();
    let mut linear = vec![full(1.0), full(0.9995), full(0.998), full(1.0), full(0.9995)];
    linear.extend(
        [(0.3, 1.0), (0.3, 0.9995), (1.0, 1.0), (1.0, 0.9995)]
            .map(|(p0, gamma)| reader(vec![p0; 384], 0, gamma)),
    );
    linear.push(reader(vec![3.0; 384], 8 * n, 1.0));
    // The one that reads pairs: the text, a constant, the log-odds stacking's word, products, pairs.
    let prior = [falling(10.0, 32.0), vec![0.1; 2], vec![10.0; 8 * n + 40]].concat();
    let mut means = vec![0.0; prior.len()];
    means[385] = 1.0;
    linear.push(Linear::new(means, prior, 1.0, true));
    linear.push(reader(falling(20.0, 16.0), 0, 0.9995));
    let mut joint = Linear::new(vec![0.0, 0.0, 0.1, 0.1, 0.2, 0.4, 0.4, 0.0], vec![0.3; 8], 1.0, false);
    let start = said.len();
    said.resize(start + 13, Vec::new());
    for round in stream {
        let (signs, odds) = (phi(&round.votes, false), phi(&round.votes, true));
        let z: Option<Vec<f64>> = round
            .features
            .as_ref()
            .map(|q| q.iter().map(|q| f64::from(*q) * 4.0 / (127.0 * 384f64.sqrt())).collect());
        let mut says = [f64::NAN; 13];
        for (at, member) in linear.iter_mut().enumerate() {
            let Some(z) = z.as_ref().or(if at < 5 { Some(&signs) } else { None }) else { continue };
            let products: Vec<f64> =
                signs.iter().take(n).flat_map(|v| z.iter().take(8).map(move |z| v * z)).collect();
            let pair = |at: usize| 384f64.sqrt() * z[at % 8] * z[(at % 8 + at / 8) % 8];
            says[at] = match at {
                0..3 => member.step(&signs, round.target),
                3..5 => member.step(&odds, round.target),
                9 => member.step(&[&z[..], &signs, &products].concat(), round.target),
                10 => {
                    let own = [1.0, says[3].clamp(-7.0, 7.0)];
                    let pairs: Vec<f64> = (0..40).map(pair).collect();
                    member.step(&[&z[..], &own, &products, &pairs].concat(), round.target)
                }
                _ => member.step(&[&z[..], &signs].concat(), round.target),
            };
        }
        if z.is_some() {
            let mut f = [0, 3, 5, 7, 9, 10, 11].map(|at: usize| says[at].clamp(-7.0, 7.0)).to_vec();
            f.push(1.0);
            says[12] = joint.step(&f, round.target);
        }
        for (list, says) in said[start..].iter_mut().zip(says) {
            list.push(sigmoid(says));
        }
    }
    said
}

#[test]
fn the_default_is_the_aggregation_of_its_members() {
    let n = 4;
    let stream = with_features(sleeping(41, n, 400), 17);
    let said = members(&stream, n);
    let mut learner = build("default", n);
    assert_eq!(learner.masses().len(), said.len());
    let mut losses = vec![0.0; said.len()];
    for (t, round) in stream.iter().enumerate() {
        let awake: Vec<usize> = (0..said.len()).filter(|k| !said[*k][t].is_nan()).collect();
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let weight = |k: usize| (-2.0 * (losses[k] - least) as f64).exp();
        let sum =
            |y: f64| awake.iter().map(|k| weight(*k) * (-2.0 * (said[*k][t] - y).powi(2)).exp()).sum::<f64>();
        let wanted = (0.5 - 0.25 * (sum(0.0) / sum(1.0)).ln()).clamp(0.0, 1.0);
        let p = learner.step(&round.sight(), round.target);
        assert!((p - wanted).abs() < 1e-9, "round {t}: {p} for {wanted}");
        let mix = -0.5 * (sum(round.target) / awake.iter().map(|k| weight(*k)).sum::<f64>()).ln();
        for (loss, said) in losses.iter_mut().zip(&said) {
            *loss += if said[t].is_nan() { mix } else { (said[t] - round.target).powi(2) };
        }
    }
    // The certificate is ½ ln K, and it holds against every one of them.
    let (_, tally) = play(build("default", n).as_mut(), &stream);
    let bound = learner.bound(&tally.against(0).unwrap()).unwrap();
    assert!((bound - 0.5 * (said.len() as f64).ln()).abs() < 1e-12);
    let (played, _) = play(build("default", n).as_mut(), &stream);
    for (member, said) in learner.masses().iter().zip(&said) {
        let rounds = said.iter().zip(&played).zip(&stream).filter(|((said, _), _)| !said.is_nan());
        let regret: f64 =
            rounds.map(|((x, p), round)| (p - round.target).powi(2) - (x - round.target).powi(2)).sum();
        assert!(regret <= bound + 1e-9, "{}: {regret}", member.member);
    }
}
