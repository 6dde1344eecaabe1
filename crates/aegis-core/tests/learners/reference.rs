//! The reference numbers: other people's implementations, closed forms and identities.
#![allow(clippy::needless_range_loop)] // matrices by hand

use super::streams::{IDS, Round, build, play, round, state};
use aegis_core::draw::Draws;
use aegis_core::learners::{Learner, Noise, RoundInput, fpl::Fpl};

/// Stream S, integers only.
fn stream_s() -> Vec<Round> {
    (1..=200i64)
        .map(|t| {
            let y = i64::from((37 * t * t + 11 * t + 5) % 97 >= 48);
            let a = if t <= 100 { [60, 40, 20, 0] } else { [0, 20, 40, 60] };
            let votes = (0..4i64).map(|k| {
                let n = (t * (2 * k + 3) + 7 * k * k + (t * t % (11 + k))) % 101;
                let a = a[k as usize];
                (100 * a * y + (100 - a) * n) as f64 / 10_000.0
            });
            round(t as usize, votes.collect(), y as f64)
        })
        .collect()
}

fn close(what: &str, found: f64, wanted: f64, tolerance: f64) {
    assert!((found - wanted).abs() <= tolerance, "{what}: {found} for {wanted}");
}

fn final_weights(learner: &dyn Learner) -> Vec<f64> {
    learner.masses().iter().map(|mass| mass.mass).collect()
}

#[test]
fn stream_s_is_the_one_meant() {
    let stream = stream_s();
    close("sum of y", stream.iter().map(|round| round.target).sum(), 94.0, 0.0);
    for (k, (votes, losses)) in
        [(100.674, 74.342), (99.818, 68.274), (101.916, 70.400), (99.438, 67.278)].iter().enumerate()
    {
        close("votes", stream.iter().map(|round| round.votes[k]).sum(), *votes, 1e-9);
        close(
            "losses",
            stream.iter().map(|round| (round.votes[k] - round.target).abs()).sum(),
            *losses,
            1e-9,
        );
    }
    assert_eq!(stream[0].target, 1.0);
    assert_eq!(stream[0].votes, [0.616, 0.478, 0.488, 0.73]);
}

#[test]
fn hedge_is_operas_and_rivers() {
    let mut learner = build("hedge eta=1", 4);
    let (_, tally) = play(learner.as_mut(), &stream_s());
    close("loss", tally.loss, 69.207_128_106_8, 1e-9);
    let wanted = [0.000_604_796_032, 0.261_160_715_339, 0.031_160_023_819, 0.707_074_464_810];
    for (found, wanted) in final_weights(learner.as_ref()).iter().zip(wanted) {
        close("weight", *found, wanted, 1e-11);
    }
}

#[test]
fn fixed_share_is_operas() {
    let mut learner = build("fixed-share eta=1 alpha=0.01", 4);
    let (_, tally) = play(learner.as_mut(), &stream_s());
    close("loss", tally.loss, 51.192_394_707_7, 1e-9);
    let wanted = [0.009_949_146_383, 0.034_363_165_431, 0.103_747_591_729, 0.851_940_096_457];
    for (found, wanted) in final_weights(learner.as_ref()).iter().zip(wanted) {
        close("weight", *found, wanted, 1e-11);
    }
}

#[test]
fn adahedge_is_poolds() {
    let mut learner = build("adahedge", 4);
    let (_, tally) = play(learner.as_mut(), &stream_s());
    close("loss", tally.loss, 68.400_957_765_0, 1e-9);
    let certificate = tally.certificate(learner.as_ref()).unwrap();
    close("regret", certificate.regret, 1.122_957_765_0, 1e-9);
    close("bound", certificate.bound.unwrap(), 1.727_763_906_0, 1e-9);
    close("gap", certificate.bound.unwrap() / 2.0, 0.863_881_952_991, 1e-11);
    assert_eq!(certificate.expert, 3);
}

#[test]
fn log_loss_is_the_bayes_mixture() {
    let mut learner = build("log-loss", 4);
    let stream = stream_s();
    let (predictions, tally) = play(learner.as_mut(), &stream);
    let log = |p: f64, y: f64| -(y * p.ln() + (1.0 - y) * (1.0 - p).ln());
    let mixture: f64 = predictions.iter().zip(&stream).map(|(p, round)| log(*p, round.target)).sum();
    close("mixture", mixture, 96.147_209_850_844, 1e-11);
    let alone = |k: usize| {
        stream.iter().map(|round| log(round.votes[k].clamp(0.01, 0.99), round.target)).sum::<f64>()
    };
    close("identity", mixture, -((0..4).map(|k| (-alone(k)).exp()).sum::<f64>() / 4.0).ln(), 1e-11);
    let certificate = tally.certificate(learner.as_ref()).unwrap();
    close("regret", certificate.regret, 1.380_605_739_4, 1e-9);
    close("bound", certificate.bound.unwrap(), 4f64.ln(), 1e-12);
}

#[test]
fn brier_aggregates() {
    let mut learner = build("brier", 4);
    let (predictions, tally) = play(learner.as_mut(), &stream_s());
    close("loss", tally.square, 32.182_116_571_1, 1e-9);
    for (p, wanted) in predictions.iter().zip([0.574_167_455_948, 0.654_140_077_378, 0.745_144_923_649]) {
        close("p", *p, wanted, 1e-11);
    }
    let certificate = tally.certificate(learner.as_ref()).unwrap();
    close("regret", certificate.regret, 0.516_704_57, 1e-8);
    close("bound", certificate.bound.unwrap(), 0.5 * 4f64.ln(), 1e-12);
}

#[test]
fn majorities_count() {
    for (spec, mistakes) in
        [("weighted-majority beta=0.5", 46), ("weighted-majority beta=0.9", 36), ("majority", 32)]
    {
        let mut learner = build(spec, 4);
        let (_, tally) = play(learner.as_mut(), &stream_s());
        assert_eq!(tally.mistakes, mistakes, "{spec}");
        assert_eq!(tally.experts.iter().map(|expert| expert.mistakes).collect::<Vec<_>>(), [53, 52, 58, 46]);
        assert_eq!(tally.majority_mistakes, 32);
        if spec.ends_with("0.5") {
            // The bound on regret is the bound on mistakes less the expert's own.
            let bound = learner.bound(&tally.against(3).unwrap()).unwrap();
            close("bound on mistakes", bound + 46.0, 115.652_200, 1e-6);
        }
    }
}

#[test]
fn squint_and_adanormalhedge_are_as_they_were() {
    for (spec, loss) in [("squint", 71.753_981_859_0), ("adanormalhedge", 71.851_179_295_4)] {
        let (_, tally) = play(build(spec, 4).as_mut(), &stream_s());
        close(spec, tally.loss, loss, 1e-9);
    }
}

#[test]
fn the_followers_killer() {
    let losses = |t: usize| match t {
        0 => vec![0.5, 0.0],
        t if t % 2 == 1 => vec![0.0, 1.0],
        _ => vec![1.0, 0.0],
    };
    let stream: Vec<_> = (0..1000).map(|t| round(t, losses(t), 0.0)).collect();
    let mut learner = build("adahedge", 2);
    let (_, tally) = play(learner.as_mut(), &stream);
    let certificate = tally.certificate(learner.as_ref()).unwrap();
    close("regret", certificate.regret, 13.170_342_04, 1e-8);
    // Follow the leader, by hand: it loses in every round but the first half.
    let (mut sums, mut ftl) = ([0.0, 0.0], 0.0);
    for round in &stream {
        let least = f64::min(sums[0], sums[1]);
        let leaders: Vec<usize> = (0..2).filter(|i| sums[*i] == least).collect();
        ftl += leaders.iter().map(|i| round.votes[*i]).sum::<f64>() / leaders.len() as f64;
        (0..2).for_each(|i| sums[i] += round.votes[i]);
    }
    close("follow the leader", ftl, 999.25, 1e-9);
    close("its regret", ftl - f64::min(sums[0], sums[1]), 499.75, 1e-9);
}

/// Over a million keyed draws the worse of two experts, one behind, is followed as often as the closed
/// form says (chi-square with one degree of freedom below 10.8: one run in a thousand would fail, and
/// keyed draws make it always the same run).
#[test]
fn fpl_follows_the_worse_as_often_as_it_should() {
    for (noise, wanted) in [(Noise::Exponential, 0.183_939_720_6), (Noise::Gumbel, 0.268_941_421_4)] {
        let mut learner = Fpl::new(&IDS[..2], &[0.5, 0.5], 1.0, noise, Draws::new(b"secret", "policy"));
        learner.load(&[0.0, 1.0]).unwrap();
        let draws = 1_000_000;
        let mut event = String::new();
        let mut worse = 0u32;
        for at in 0..draws {
            use std::fmt::Write;
            event.clear();
            write!(event, "{at}").unwrap();
            worse += u32::from(
                learner.predict(&RoundInput { votes: &[0.0, 1.0], features: None, event: &event }) == 1.0,
            );
        }
        let (n, observed) = (f64::from(draws), f64::from(worse));
        let chi = (observed - n * wanted).powi(2) / (n * wanted)
            + (observed - n * wanted).powi(2) / (n * (1.0 - wanted));
        assert!(chi < 10.8, "{noise}: {} for {wanted}, chi-square {chi}", observed / n);
    }
}

#[test]
fn gumbel_fpl_keeps_hedges_losses() {
    let stream = super::streams::sleeping(5, 6, 400);
    let (mut fpl, mut hedge) = (build("fpl eta=0.5", 6), build("hedge eta=0.5", 6));
    play(fpl.as_mut(), &stream);
    play(hedge.as_mut(), &stream);
    assert_eq!(state(fpl.as_ref()), state(hedge.as_ref())[1..]);
}

/// The anytime step, recomputed by hand: η_t = 2√(ln N / t) for the t-th round, t = 1, 2, ...
#[test]
fn hedges_anytime_step_is_the_one_proven() {
    let mut learner = build("hedge", 4);
    let mut sums = [0.0; 4];
    for (at, round) in stream_s().iter().enumerate() {
        let eta = 2.0 * (4f64.ln() / (at + 1) as f64).sqrt();
        let weights = sums.map(|sum: f64| (-eta * sum).exp());
        let mean: f64 = weights.iter().zip(&round.votes).map(|(w, v)| w * v).sum();
        let p = learner.step(&round.sight(), round.target);
        close("p", p, mean / weights.iter().sum::<f64>(), 1e-12);
        for (sum, vote) in sums.iter_mut().zip(&round.votes) {
            *sum += (vote - round.target).abs();
        }
    }
}

/// A reading member, recomputed by hand from the page that defines it.
#[test]
fn a_reading_member_is_the_one_defined() {
    let stream = super::streams::with_features(super::streams::sleeping(2, 3, 150), 5);
    for (p0, gamma) in [(0.3, 0.9), (1.0, 1.0)] {
        let mut learner = build(&format!("reading variance={p0} gamma={gamma}"), 3);
        let prior: Vec<f64> = [vec![p0; 384], vec![0.1; 7]].concat();
        let (mut w, mut variances) = (vec![0.0; 391], prior.clone());
        for round in &stream {
            let p = learner.step(&round.sight(), round.target);
            let Some(features) = &round.features else {
                assert_eq!(p, 0.5);
                continue;
            };
            let mut f: Vec<f64> =
                features.iter().map(|q| f64::from(*q) * 4.0 / (127.0 * 384f64.sqrt())).collect();
            f.extend(round.votes.iter().map(|v| if v.is_nan() { 0.0 } else { 2.0 * v - 1.0 }));
            f.extend(round.votes.iter().map(|v| if v.is_nan() { 0.0 } else { 1.0 }));
            f.push(1.0);
            let u: f64 = f.iter().zip(&variances).map(|(f, p)| f * f * p).sum();
            let s: f64 = f.iter().zip(&w).map(|(f, w)| f * w).sum();
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let wanted = sigmoid(s / (1.0 + std::f64::consts::PI * u / 8.0).sqrt());
            close("p", p, wanted, 1e-12);
            let q = sigmoid(s);
            let h = (q * (1.0 - q)).max(1e-6);
            for j in 0..f.len() {
                if gamma < 1.0 {
                    variances[j] = (variances[j] / gamma).min(prior[j]);
                }
                variances[j] /= 1.0 + h * f[j] * f[j] * variances[j];
                w[j] += variances[j] * f[j] * (round.target - q);
            }
        }
    }
}

/// Stacking, recomputed by hand from the page that defines it, with both products of matrices.
#[test]
fn stacking_is_the_one_defined() {
    let (n, d) = (3, 7);
    let stream = super::streams::sleeping(4, n, 200);
    for gamma in [0.95, 1.0] {
        let mut learner = build(&format!("stacking gamma={gamma}"), n);
        let mut w = vec![0.0; d];
        let mut p_matrix = vec![vec![0.0; d]; d];
        (0..d).for_each(|i| p_matrix[i][i] = 0.1);
        let image = |m: &[Vec<f64>], f: &[f64]| -> Vec<f64> {
            m.iter().map(|row| row.iter().zip(f).map(|(x, f)| x * f).sum()).collect()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for (k, round) in stream.iter().enumerate() {
            let mut f: Vec<f64> =
                round.votes.iter().map(|v| if v.is_nan() { 0.0 } else { 2.0 * v - 1.0 }).collect();
            f.extend(round.votes.iter().map(|v| if v.is_nan() { 0.0 } else { 1.0 }));
            f.push(1.0);
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let s = dot(&f, &w);
            let mut g = image(&p_matrix, &f);
            let wanted = sigmoid(s / (1.0 + std::f64::consts::PI * dot(&f, &g) / 8.0).sqrt());
            close("p", learner.step(&round.sight(), round.target), wanted, 1e-11);
            if gamma < 1.0 {
                p_matrix.iter_mut().flatten().for_each(|x| *x /= gamma);
                let (i, c) = (k % d, (1.0 - gamma) * d as f64 / 0.1);
                let row = p_matrix[i].clone();
                for a in 0..d {
                    for b in 0..d {
                        p_matrix[a][b] -= c * row[a] * row[b] / (1.0 + c * row[i]);
                    }
                }
                g = image(&p_matrix, &f);
            }
            let q = sigmoid(s);
            let h = (q * (1.0 - q)).max(1e-6);
            let u = dot(&f, &g);
            for a in 0..d {
                for b in 0..d {
                    p_matrix[a][b] -= h * g[a] * g[b] / (1.0 + h * u);
                }
            }
            let g = image(&p_matrix, &f);
            (0..d).for_each(|i| w[i] += g[i] * (round.target - q));
        }
    }
}

/// The grid's members are twelve Fixed Shares: the same weights, kept side by side.
#[test]
fn the_grids_members_are_fixed_shares() {
    let n = 5;
    let stream = super::streams::sleeping(6, n, 300);
    let mut grid = build("fixed-share-grid", n);
    play(grid.as_mut(), &stream);
    // Rounds, regrets and spreads of AdaNormalHedge, then a row of twelve weights per expert.
    let weights = state(grid.as_ref()).split_off(1 + 2 * 12);
    let mut member = 0;
    for eta in [0.1, 0.3, 1.0] {
        for alpha in [0.0, 1e-4, 1e-3, 1e-2] {
            let mut alone = build(&format!("fixed-share eta={eta} alpha={alpha}"), n);
            play(alone.as_mut(), &stream);
            for (expert, weight) in state(alone.as_ref()).iter().enumerate() {
                close("weight", weights[expert * 12 + member], *weight, 1e-12);
            }
            member += 1;
        }
    }
}
