//! Exponential weights, which Hedge, FPL, the aggregating algorithms and the default learner share.

use super::{BadState, GREATEST_SUM, check};
use crate::math::{exp, ln};

/// If the mass of the awake entries is below this, it is computed again relative to the best of them.
const FAINT: f64 = 1e-200;
const LANES: usize = 8;

/// Eight entries side by side. They are one value, so that loops over them need no checks for overlap.
#[derive(Debug, Clone, Copy)]
struct Cell {
    ln_prior: [f64; LANES],
    loss: [f64; LANES],
    /// exp(ln π - ηL - the greatest such exponent), updated with `loss`.
    mass: [f64; LANES],
    /// The prediction of each entry for the current round, NaN if it sleeps. Lanes without an entry hold 0
    /// and have no mass.
    prediction: [f64; LANES],
    /// `mass` of the awake entries, zero for the others.
    awake: [f64; LANES],
}

// These are not inlined: in a loop over cells they would be vectorised across cells, with more shuffling
// than arithmetic.
impl Cell {
    /// Updates the masses of the awake entries. Returns mass times prediction per lane, and NaN if any entry
    /// sleeps.
    #[inline(never)]
    fn aggregate(&mut self) -> ([f64; LANES], f64) {
        let mut weighted = [0.0; LANES];
        for (lane, weighted) in weighted.iter_mut().enumerate() {
            let sleeps = self.prediction[lane].is_nan();
            let product = self.mass[lane] * self.prediction[lane];
            self.awake[lane] = if sleeps { 0.0 } else { self.mass[lane] };
            *weighted = if sleeps { 0.0 } else { product };
        }
        let [a, b, c, d, e, f, g, h] = self.prediction;
        (weighted, ((a + e) + (c + g)) + ((b + f) + (d + h)))
    }

    /// Adds the losses of one round, computes the exponents ln π - ηL, and returns the greatest.
    #[inline(never)]
    fn learn(&mut self, rate: f64, sleepers: f64, loss: impl Fn(f64) -> f64) -> f64 {
        for lane in 0..LANES {
            let own = loss(self.prediction[lane]);
            self.loss[lane] += if self.prediction[lane].is_nan() { sleepers } else { own };
        }
        self.exponents(rate)
    }

    #[inline(always)]
    fn exponents(&mut self, rate: f64) -> f64 {
        for lane in 0..LANES {
            self.mass[lane] = self.ln_prior[lane] - rate * self.loss[lane];
        }
        let greater = |x: f64, y: f64| if x > y { x } else { y };
        let [a, b, c, d, e, f, g, h] = self.mass;
        let four = [greater(a, e), greater(b, f), greater(c, g), greater(d, h)];
        greater(greater(four[0], four[2]), greater(four[1], four[3]))
    }

    #[inline(never)]
    fn exponentiate(&mut self, top: f64) {
        for mass in &mut self.mass {
            *mass = exp(*mass - top);
        }
    }
}

/// Masses π e^(-ηL) over entries. They are stored as losses L, because a weight that is multiplied in every
/// round underflows and never recovers.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    rate: f64,
    entries: usize,
    cells: Vec<Cell>,
}

/// The weighted sums of one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aggregate {
    /// The mass of the awake entries.
    pub(super) total: f64,
    /// `true` if any entry sleeps.
    pub(super) asleep: bool,
    /// The sum of mass times prediction.
    sum: f64,
}

impl Aggregate {
    /// The weighted mean of the awake entries' predictions.
    #[inline(always)]
    pub(super) fn mean(self) -> f64 {
        self.sum / self.total
    }
}

impl Mix {
    /// Entries with these prior masses, which sum to one, and no loss.
    pub(super) fn new(rate: f64, prior: &[f64]) -> Self {
        let blank = Cell {
            ln_prior: [f64::NEG_INFINITY; LANES],
            loss: [0.0; LANES],
            mass: [0.0; LANES],
            prediction: [0.0; LANES],
            awake: [0.0; LANES],
        };
        let cell = |masses: &[f64]| {
            let mut cell = blank;
            cell.ln_prior.iter_mut().zip(masses).for_each(|(ln_prior, mass)| *ln_prior = ln(*mass));
            cell
        };
        let mut mix = Self { rate, entries: prior.len(), cells: prior.chunks(LANES).map(cell).collect() };
        mix.refresh();
        mix
    }

    #[inline(always)]
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    fn each(&self, of: impl Fn(&Cell) -> &[f64; LANES]) -> impl Iterator<Item = f64> {
        self.cells.iter().flat_map(move |cell| *of(cell)).take(self.entries)
    }

    /// The unnormalised masses of all entries, awake or not.
    pub(super) fn masses(&self) -> Vec<f64> {
        self.each(|cell| &cell.mass).collect()
    }

    /// The losses of all entries so far.
    pub(super) fn losses(&self) -> impl Iterator<Item = f64> {
        self.each(|cell| &cell.loss)
    }

    /// The logarithm of an entry's prior mass.
    pub(super) fn ln_prior(&self, entry: usize) -> f64 {
        self.each(|cell| &cell.ln_prior).nth(entry).expect("an entry of this mix")
    }

    fn refresh(&mut self) {
        let rate = self.rate;
        let top = self.cells.iter_mut().map(|cell| cell.exponents(rate)).fold(f64::NEG_INFINITY, f64::max);
        self.cells.iter_mut().for_each(|cell| cell.exponentiate(top));
    }

    /// Takes the predictions of all entries for one round, NaN for sleepers, and sums them in entry order.
    #[inline(always)]
    pub(super) fn aggregate(&mut self, predictions: &[f64]) -> Aggregate {
        let (mut total, mut sum) = (0.0, 0.0);
        let (chunks, rest) = predictions.as_chunks::<LANES>();
        for (cell, predictions) in self.cells.iter_mut().zip(chunks) {
            cell.prediction = *predictions;
        }
        if !rest.is_empty()
            && let Some(cell) = self.cells.last_mut()
        {
            cell.prediction.iter_mut().zip(rest).for_each(|(to, x)| *to = *x);
        }
        let mut asleep = false;
        for cell in &mut self.cells {
            let (weighted, probe) = cell.aggregate();
            asleep |= probe.is_nan();
            for (mass, weighted) in cell.awake.iter().zip(weighted) {
                total += mass;
                sum += weighted;
            }
        }
        if total < FAINT {
            (total, sum) = self.rescale();
        }
        Aggregate { total, asleep, sum }
    }

    /// Computes the sums relative to the best awake entry. The best of all entries may be asleep, and the
    /// masses relative to it may underflow.
    #[cold]
    fn rescale(&mut self) -> (f64, f64) {
        let (rate, mut top) = (self.rate, f64::NEG_INFINITY);
        let exponent = |cell: &Cell, lane: usize| cell.ln_prior[lane] - rate * cell.loss[lane];
        for cell in &self.cells {
            for lane in 0..LANES {
                top = if cell.prediction[lane].is_nan() { top } else { top.max(exponent(cell, lane)) };
            }
        }
        let (mut total, mut sum) = (0.0, 0.0);
        for cell in &mut self.cells {
            for lane in 0..LANES {
                let awake = !cell.prediction[lane].is_nan();
                cell.awake[lane] = if awake { exp(exponent(cell, lane) - top) } else { 0.0 };
                total += cell.awake[lane];
                sum += if awake { cell.awake[lane] * cell.prediction[lane] } else { 0.0 };
            }
        }
        (total, sum)
    }

    /// Sums f(x) times mass over the awake entries, for two functions of the prediction x.
    #[inline(always)]
    pub(super) fn sums(&self, f: impl Fn(f64) -> [f64; 2]) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for cell in &self.cells {
            let mut values = [[0.0; LANES]; 2];
            let [of_a, of_b] = &mut values;
            for (lane, (to_a, to_b)) in of_a.iter_mut().zip(of_b).enumerate() {
                let x = cell.prediction[lane];
                let [a, b] = f(if x.is_nan() { 0.0 } else { x });
                *to_a = a * cell.awake[lane];
                *to_b = b * cell.awake[lane];
            }
            for (sum, values) in sums.iter_mut().zip(values) {
                for value in values {
                    *sum += value;
                }
            }
        }
        sums
    }

    /// Learns the round that was aggregated last. An awake entry is charged its own loss and a sleeper the mix
    /// loss m = -ln(sum w e^(-ηl)) / η, so that the sleeper's share of the whole does not change.
    #[inline(always)]
    pub(super) fn learn(&mut self, aggregate: Aggregate, loss: impl Fn(f64) -> f64) {
        self.learn_at(self.rate, aggregate, loss);
    }

    /// Does the same as [`learn`](Self::learn), with another η for the rounds that follow.
    #[inline(always)]
    pub(super) fn learn_at(&mut self, next_rate: f64, aggregate: Aggregate, loss: impl Fn(f64) -> f64) {
        let mix_loss = if aggregate.asleep { self.mix_loss(aggregate, &loss) } else { 0.0 };
        self.rate = next_rate;
        self.learn_with(mix_loss, loss);
    }

    /// Does the same as [`learn`](Self::learn) for a known loss of the sleepers.
    #[inline(always)]
    pub(super) fn learn_with(&mut self, sleepers: f64, loss: impl Fn(f64) -> f64) {
        let mut top = f64::NEG_INFINITY;
        for cell in &mut self.cells {
            let greatest = cell.learn(self.rate, sleepers, &loss);
            top = if greatest > top { greatest } else { top };
        }
        for cell in &mut self.cells {
            cell.exponentiate(top);
        }
    }

    /// The mix loss -ln(sum w e^(-ηl)) / η over the awake entries, computed relative to the least loss so that
    /// not all terms underflow.
    fn mix_loss(&self, aggregate: Aggregate, loss: impl Fn(f64) -> f64) -> f64 {
        let entries = || self.cells.iter().flat_map(|cell| cell.prediction.iter().zip(&cell.awake));
        let weighing = || entries().filter(|(_, mass)| **mass > 0.0);
        let least = weighing().map(|(x, _)| loss(*x)).fold(f64::INFINITY, f64::min);
        assert!(least.is_finite(), "a round has an awake expert");
        let sum: f64 = weighing().map(|(x, mass)| mass * exp(-self.rate * (loss(*x) - least))).sum();
        if self.rate > 0.0 { least - ln(sum / aggregate.total) / self.rate } else { least }
    }

    /// Writes the normalised masses of the awake entries, zero for sleepers.
    pub(super) fn weights(&self, predictions: &[f64], out: &mut [f64]) {
        let exponent = |((loss, prior), x): ((f64, f64), &f64)| {
            if x.is_nan() { f64::NEG_INFINITY } else { prior - self.rate * loss }
        };
        let exponents = || self.losses().zip(self.each(|cell| &cell.ln_prior)).zip(predictions).map(exponent);
        let top = exponents().fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for (out, exponent) in out.iter_mut().zip(exponents()) {
            *out = if exponent == f64::NEG_INFINITY { 0.0 } else { exp(exponent - top) };
            total += *out;
        }
        normalise(out, total);
    }

    pub(super) fn save(&self, out: &mut Vec<f64>) {
        out.extend(self.losses());
    }

    pub(super) fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        self.load_at(self.rate, state)
    }

    /// Takes the losses and the η of the rounds that follow.
    pub(super) fn load_at(&mut self, rate: f64, state: &[f64]) -> Result<(), BadState> {
        check(state, self.entries, -GREATEST_SUM..=GREATEST_SUM)?;
        for (cell, losses) in self.cells.iter_mut().zip(state.chunks(LANES)) {
            cell.loss.iter_mut().zip(losses).for_each(|(to, x)| *to = *x);
        }
        self.rate = rate;
        self.refresh();
        Ok(())
    }
}

/// The weighted mean vote of the awake experts, summed in expert order. `total` is the sum of their masses.
#[inline(always)]
pub(super) fn mean(votes: &[f64], masses: &[f64], total: f64) -> f64 {
    let mut sum = 0.0;
    for (vote, mass) in votes.iter().zip(masses) {
        sum += if vote.is_nan() { 0.0 } else { mass * vote };
    }
    sum / total
}

/// The weighted mean of |vote - target| over the awake experts: the loss of the learner that plays these
/// masses. `total` is the sum of the masses.
#[inline(always)]
pub(super) fn played(votes: &[f64], masses: &[f64], total: f64, target: f64) -> f64 {
    let mut sum = 0.0;
    for (vote, mass) in votes.iter().zip(masses) {
        sum += if vote.is_nan() { 0.0 } else { mass * (vote - target).abs() };
    }
    sum / total
}

/// Divides the masses by their total, so that they sum to one.
#[inline(always)]
pub(super) fn normalise(out: &mut [f64], total: f64) {
    for mass in out {
        *mass /= total;
    }
}
