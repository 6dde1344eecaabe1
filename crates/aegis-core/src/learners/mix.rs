//! Exponential weights: what Hedge, the aggregating algorithms and the default have in common.

use super::super::math::{exp, ln};
use super::{BadState, GREATEST_SUM, check};

/// Below this the mass of those awake is computed anew, relative to the best of them.
const FAINT: f64 = 1e-200;
const LANES: usize = 8;

/// Eight entries side by side; of one allocation, so that loops over them need no checks for overlap.
#[derive(Debug, Clone, Copy)]
struct Cell {
    ln_prior: [f64; LANES],
    loss: [f64; LANES],
    /// exp(ln π - ηL - the greatest such exponent), kept in step with `loss`.
    mass: [f64; LANES],
    /// What each entry says of the round at hand, NaN where it sleeps. Lanes that are no entry say 0
    /// with no mass.
    said: [f64; LANES],
    /// `mass` of those awake, zero for the others.
    awake: [f64; LANES],
}

// Kept out of line: inlined into a loop over cells, these would be vectorised across cells, with more
// shuffling than arithmetic.
impl Cell {
    /// Finds the masses of those awake; gives them times what is said, and NaN if any sleeps.
    #[inline(never)]
    fn hear(&mut self) -> ([f64; LANES], f64) {
        let mut weighted = [0.0; LANES];
        for (lane, weighted) in weighted.iter_mut().enumerate() {
            let sleeps = self.said[lane].is_nan();
            let product = self.mass[lane] * self.said[lane];
            self.awake[lane] = if sleeps { 0.0 } else { self.mass[lane] };
            *weighted = if sleeps { 0.0 } else { product };
        }
        let [a, b, c, d, e, f, g, h] = self.said;
        (weighted, ((a + e) + (c + g)) + ((b + f) + (d + h)))
    }

    /// Adds the losses of one round and computes the exponents ln π - ηL; gives the greatest.
    #[inline(never)]
    fn learn(&mut self, rate: f64, sleepers: f64, loss: impl Fn(f64) -> f64) -> f64 {
        for lane in 0..LANES {
            let own = loss(self.said[lane]);
            self.loss[lane] += if self.said[lane].is_nan() { sleepers } else { own };
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

/// Masses π e^(-ηL) over entries, kept as losses L: a weight that is multiplied round by round
/// underflows and never comes back.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    rate: f64,
    entries: usize,
    cells: Vec<Cell>,
}

/// What the masses say of the round at hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// Mass of those awake.
    pub(super) total: f64,
    /// Whether any sleeps.
    pub(super) asleep: bool,
    /// Sum of mass times what is said.
    sum: f64,
}

impl Heard {
    /// The mean of what those awake say.
    #[inline(always)]
    pub(super) fn mean(self) -> f64 {
        self.sum / self.total
    }
}

impl Mix {
    /// Entries with these prior masses (which sum to one) and no loss yet.
    pub(super) fn new(rate: f64, prior: &[f64]) -> Self {
        let blank = Cell {
            ln_prior: [f64::NEG_INFINITY; LANES],
            loss: [0.0; LANES],
            mass: [0.0; LANES],
            said: [0.0; LANES],
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

    /// The masses of all entries, awake or not, unnormalised.
    pub(super) fn masses(&self) -> Vec<f64> {
        self.each(|cell| &cell.mass).collect()
    }

    /// The losses so far.
    pub(super) fn losses(&self) -> impl Iterator<Item = f64> {
        self.each(|cell| &cell.loss)
    }

    /// ln of an entry's prior mass.
    pub(super) fn ln_prior(&self, entry: usize) -> f64 {
        self.each(|cell| &cell.ln_prior).nth(entry).unwrap_or(f64::NEG_INFINITY)
    }

    fn refresh(&mut self) {
        let rate = self.rate;
        let top = self.cells.iter_mut().map(|cell| cell.exponents(rate)).fold(f64::NEG_INFINITY, f64::max);
        self.cells.iter_mut().for_each(|cell| cell.exponentiate(top));
    }

    /// Hears what all entries say of one round; NaN sleeps. Sums run in entry order.
    #[inline(always)]
    pub(super) fn hear(&mut self, said: &[f64]) -> Heard {
        let (mut total, mut sum) = (0.0, 0.0);
        let (chunks, rest) = said.as_chunks::<LANES>();
        for (cell, said) in self.cells.iter_mut().zip(chunks) {
            cell.said = *said;
        }
        if !rest.is_empty()
            && let Some(cell) = self.cells.last_mut()
        {
            cell.said.iter_mut().zip(rest).for_each(|(to, x)| *to = *x);
        }
        let mut asleep = false;
        for cell in &mut self.cells {
            let (weighted, probe) = cell.hear();
            asleep |= probe.is_nan();
            for (mass, weighted) in cell.awake.iter().zip(weighted) {
                total += mass;
                sum += weighted;
            }
        }
        if total < FAINT {
            (total, sum) = self.hear_anew();
        }
        Heard { total, asleep, sum }
    }

    /// The same relative to the best entry awake: the best of all may sleep.
    #[cold]
    fn hear_anew(&mut self) -> (f64, f64) {
        let (rate, mut top) = (self.rate, f64::NEG_INFINITY);
        let exponent = |cell: &Cell, lane: usize| cell.ln_prior[lane] - rate * cell.loss[lane];
        for cell in &self.cells {
            for lane in 0..LANES {
                top = if cell.said[lane].is_nan() { top } else { top.max(exponent(cell, lane)) };
            }
        }
        let (mut total, mut sum) = (0.0, 0.0);
        for cell in &mut self.cells {
            for lane in 0..LANES {
                let awake = !cell.said[lane].is_nan();
                cell.awake[lane] = if awake { exp(exponent(cell, lane) - top) } else { 0.0 };
                total += cell.awake[lane];
                sum += if awake { cell.awake[lane] * cell.said[lane] } else { 0.0 };
            }
        }
        (total, sum)
    }

    /// Sums f(x) times mass over those awake, for two functions of what is said.
    #[inline(always)]
    pub(super) fn sums(&self, f: impl Fn(f64) -> [f64; 2]) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for cell in &self.cells {
            let mut values = [[0.0; LANES]; 2];
            let [of_a, of_b] = &mut values;
            for (lane, (to_a, to_b)) in of_a.iter_mut().zip(of_b).enumerate() {
                let said = cell.said[lane];
                let [a, b] = f(if said.is_nan() { 0.0 } else { said });
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

    /// Learns the round heard last: an entry awake gets its own loss, a sleeper the mix loss
    /// m = -ln(sum w e^(-ηl)) / η, so that its share of the whole stays what it was.
    #[inline(always)]
    pub(super) fn learn(&mut self, heard: Heard, loss: impl Fn(f64) -> f64) {
        self.learn_at(self.rate, heard, loss);
    }

    /// The same, and takes another η for the rounds that follow.
    #[inline(always)]
    pub(super) fn learn_at(&mut self, next_rate: f64, heard: Heard, loss: impl Fn(f64) -> f64) {
        let mix_loss = if heard.asleep { self.mix_loss(heard, &loss) } else { 0.0 };
        self.rate = next_rate;
        self.learn_with(mix_loss, loss);
    }

    /// The same where the sleepers' loss is known.
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

    /// -ln(sum w e^(-ηl)) / η over those awake, taken relative to the least loss lest all underflow.
    fn mix_loss(&self, heard: Heard, loss: impl Fn(f64) -> f64) -> f64 {
        let entries = || self.cells.iter().flat_map(|cell| cell.said.iter().zip(&cell.awake));
        let weighing = || entries().filter(|(_, mass)| **mass > 0.0);
        let least = weighing().map(|(said, _)| loss(*said)).fold(f64::INFINITY, f64::min);
        if !least.is_finite() {
            return 0.0; // nobody awake: not a round
        }
        let sum: f64 = weighing().map(|(said, mass)| mass * exp(-self.rate * (loss(*said) - least))).sum();
        if self.rate > 0.0 { least - ln(sum / heard.total) / self.rate } else { least }
    }

    /// Normalised masses of those awake, zero for sleepers.
    pub(super) fn weights(&self, said: &[f64], out: &mut [f64]) {
        let exponent = |((loss, prior), said): ((f64, f64), &f64)| {
            if said.is_nan() { f64::NEG_INFINITY } else { prior - self.rate * loss }
        };
        let exponents = || self.losses().zip(self.each(|cell| &cell.ln_prior)).zip(said).map(exponent);
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

    /// Takes losses and the η of the rounds that follow.
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

/// Sum of mass times vote over those awake, divided by their mass: the mean vote, in expert order.
#[inline(always)]
pub(super) fn mean(votes: &[f64], masses: &[f64], total: f64) -> f64 {
    let mut sum = 0.0;
    for (vote, mass) in votes.iter().zip(masses) {
        sum += if vote.is_nan() { 0.0 } else { mass * vote };
    }
    sum / total
}

/// Sum of mass times |vote - target| over those awake, divided by their mass: the loss played.
#[inline(always)]
pub(super) fn played(votes: &[f64], masses: &[f64], total: f64, target: f64) -> f64 {
    let mut sum = 0.0;
    for (vote, mass) in votes.iter().zip(masses) {
        sum += if vote.is_nan() { 0.0 } else { mass * (vote - target).abs() };
    }
    sum / total
}

/// Divides by the total, so that `out` sums to one.
#[inline(always)]
pub(super) fn normalise(out: &mut [f64], total: f64) {
    for mass in out {
        *mass /= total;
    }
}
