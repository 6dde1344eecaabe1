//! Samples a stream whose labels are all known, 1,000 times at 1 % audit and an uncertainty draw.

use aegis_core::estimate::{Accumulator, Estimate, Method, Observed, Review, Thresholds};
use fastrand::Rng;

const RUNS: usize = 1_000;
const AUDIT: f64 = 0.01;
const NAMES: [&str; 5] = ["prevalence", "precision", "recall", "false-positive rate", "error rate"];

/// A stream of (p, target), judged at a threshold.
pub struct Stream {
    pub threshold: f64,
    pub rows: Vec<(f64, f64)>,
    /// The probability of the uncertainty draw at a distance of p from the threshold.
    pub uncertainty: fn(f64) -> f64,
    /// The probability that a request with this inclusion probability is answered.
    pub response: fn(f64) -> f64,
}

impl Stream {
    fn inclusion(&self, p: f64) -> f64 {
        1.0 - (1.0 - AUDIT) * (1.0 - (self.uncertainty)((p - self.threshold).abs()))
    }

    /// The figures that all labels give.
    fn truth(&self) -> [f64; 5] {
        let sums = |flagged: bool| {
            let side = self.rows.iter().filter(|(p, _)| (*p >= self.threshold) == flagged);
            side.fold((0.0, 0.0), |(count, sum), (_, target)| (count + 1.0, sum + target))
        };
        let ((flagged, found), (passed, missed)) = (sums(true), sums(false));
        let (all, false_alarms) = (flagged + passed, flagged - found);
        [
            (found + missed) / all,
            found / flagged,
            found / (found + missed),
            false_alarms / (all - found - missed),
            (false_alarms + missed) / all,
        ]
    }

    fn observed(&self, p: f64) -> Observed {
        Observed {
            probability: Some(p),
            flagged: p >= self.threshold,
            fixed: false,
            inclusion: self.inclusion(p),
            review: Review::NotRequested,
        }
    }

    /// The decisions without any review.
    fn unreviewed(&self) -> Accumulator {
        let mut accumulator = Accumulator::new(&Thresholds::new(&[]));
        self.rows.iter().for_each(|(p, _)| accumulator.observe(&self.observed(*p)));
        accumulator
    }

    /// The figures if the events `drawn` are requested, and have a label if the second part is `true`.
    fn figures(&self, unreviewed: &Accumulator, drawn: &[(usize, bool)]) -> [Option<Estimate>; 5] {
        let mut accumulator = unreviewed.clone();
        for (place, answered) in drawn {
            let (p, target) = self.rows[*place];
            let review = if *answered { Review::Answered(target) } else { Review::Unanswered };
            accumulator.revise(&self.observed(p), review);
        }
        let found = accumulator.in_force(Method::Assisted);
        [found.prevalence, found.precision, found.recall, found.false_positive_rate, found.error_rate]
    }

    /// The width of the 95 % interval of the error rate by Horvitz and Thompson with the normal approximation.
    fn plain_width(&self, drawn: &[(usize, bool)]) -> f64 {
        let terms = drawn.iter().map(|(place, _)| self.rows[*place]).map(|(p, target)| {
            let inclusion = self.inclusion(p);
            let error = if p >= self.threshold { 1.0 - target } else { target };
            (1.0 - inclusion) * (error / inclusion).powi(2)
        });
        2.0 * 1.96 * terms.sum::<f64>().sqrt() / self.rows.len() as f64
    }

    /// The events that are drawn in each run, and whether they are answered.
    ///
    /// Within a run the draws are independent. Over all runs each event is drawn as often as its inclusion probability
    /// says, rounded up or down by chance, so that a bias is not hidden by noise.
    fn draws(&self, seed: u64) -> Vec<Vec<(usize, bool)>> {
        let mut random = Rng::with_seed(seed);
        let mut draws = vec![Vec::new(); RUNS];
        let mut runs: Vec<usize> = (0..RUNS).collect();
        for (place, (p, _)) in self.rows.iter().enumerate() {
            let inclusion = self.inclusion(*p);
            let times = (inclusion * RUNS as f64 + random.f64()) as usize;
            for time in 0..times.min(RUNS) {
                runs.swap(time, random.usize(time..RUNS));
                let answered = random.f64() < (self.response)(inclusion);
                draws[runs[time]].push((place, answered));
            }
        }
        draws
    }
}

/// Samples the stream, and asserts that the estimates are unbiased and their intervals hold. Returns the mean width of the
/// intervals of the error rate, divided by that of Horvitz and Thompson.
pub fn simulate(stream: &Stream, seed: u64) -> f64 {
    let unreviewed = stream.unreviewed();
    let truth = stream.truth();
    let mut found = [const { Vec::new() }; 5];
    let mut plain = 0.0;
    for drawn in stream.draws(seed) {
        for (found, figure) in found.iter_mut().zip(stream.figures(&unreviewed, &drawn)) {
            found.push(figure);
        }
        plain += stream.plain_width(&drawn) / RUNS as f64;
    }
    let mut width = 0.0;
    for ((name, found), truth) in NAMES.iter().zip(&found).zip(truth) {
        let given: Vec<Estimate> = found.iter().copied().flatten().collect();
        let count = given.len() as f64;
        let mean = given.iter().map(|found| found.value).sum::<f64>() / count;
        let square = given.iter().map(|found| (found.value - mean).powi(2)).sum::<f64>();
        let error = (square / (count - 1.0) / count).sqrt();
        let holds = |found: &&Estimate| (found.low - 1e-9..=found.high + 1e-9).contains(&truth);
        let coverage = given.iter().filter(holds).count() as f64 / count;
        width = given.iter().map(|found| found.high - found.low).sum::<f64>() / count;
        println!(
            "{name:20} truth {truth:.4} mean {mean:.4} ({:+.2} standard errors) coverage {coverage:.3} width {width:.4}",
            (mean - truth) / error
        );
        assert!(count >= 0.99 * RUNS as f64, "{name}: {count} estimates");
        assert!((mean - truth).abs() <= 2.0 * error, "{name}: {mean} is not {truth}, error {error}");
        assert!(coverage >= 0.94, "{name}: {coverage} of the intervals cover {truth}");
    }
    println!(
        "error rate: {:.2} times the width of Horvitz-Thompson by the normal approximation",
        width / plain
    );
    width / plain
}
