//! Squint (Koolen & van Erven 2015) with the improper prior, in closed form: weights in proportion to
//! π ∫ e^(ηR - η²V) dη over η in \[0, ½\], R the regret against an expert and V its sum of squares.
//!
//! It is a second-order method: if experts differ little or one is clearly best, its regret is far below √T.
//! The regret against a sleeper does not change. No bound with constants is claimed here.

use super::mix::{mean, normalise, played};
use super::{BadState, GREATEST_SUM, Learner, Mass, RoundInput, check, owned, shares};
use crate::math::{erfcx, exp, greatest, ln};

/// The logarithm of ∫ e^(ηR - η²V) dη over η in \[0, ½\].
///
/// With a = R/2√V and b = a - √V/2 the integral is √π/(2√V) e^(a²) (erf a - erf b). It is written so that
/// nothing overflows and no two close numbers are subtracted.
fn ln_evidence(r: f64, v: f64) -> f64 {
    if v < 1.0 && r.abs() < 8.0 {
        return ln(short_evidence(r, v));
    }
    let root = v.max(1e-12).sqrt(); // V = 0 with R ≠ 0 is possible only in a foreign state
    let a = r / (2.0 * root);
    let b = a - root / 2.0;
    let front = ln(0.886_226_925_452_758 / root); // √π/2
    let end = r / 2.0 - v / 4.0; // ηR - η²V at η = ½, which is a² - b²
    if b >= 0.0 {
        front + end + ln(erfcx(b) - exp(-end) * erfcx(a))
    } else if a <= 0.0 {
        front + ln(erfcx(-a) - exp(end) * erfcx(-b))
    } else {
        front + a * a + ln(2.0 - exp(-a * a) * erfcx(a) - exp(-b * b) * erfcx(-b))
    }
}

/// The same integral by the Gauss-Legendre rule of 12 points, for small R and V, for which the closed form
/// would cancel. It is exact to the last digits there.
fn short_evidence(r: f64, v: f64) -> f64 {
    const RULE: [(f64, f64); 6] = [
        (0.125_233_408_511_468_9, 0.249_147_045_813_402_77),
        (0.367_831_498_998_180_2, 0.233_492_536_538_354_8),
        (0.587_317_954_286_617_4, 0.203_167_426_723_065_92),
        (0.769_902_674_194_304_7, 0.160_078_328_543_346_24),
        (0.904_117_256_370_474_9, 0.106_939_325_995_318_43),
        (0.981_560_634_246_719_2, 0.047_175_336_386_511_83),
    ];
    let at = |eta: f64| exp(eta * (r - eta * v));
    RULE.iter().map(|(x, weight)| 0.25 * weight * (at(0.25 - 0.25 * x) + at(0.25 + 0.25 * x))).sum()
}

/// Squint over experts.
#[derive(Debug, Clone)]
pub struct Squint {
    names: Vec<String>,
    ln_prior: Vec<f64>,
    regret: Vec<f64>,
    square: Vec<f64>,
    /// The logarithm of each expert's unnormalised weight, updated with the state.
    exponents: Vec<f64>,
    masses: Vec<f64>,
}

impl Squint {
    /// Squint before its first round. The prior masses sum to one.
    #[must_use]
    pub fn new(experts: &[&str], prior: &[f64]) -> Self {
        let zeros = vec![0.0; experts.len()];
        let ln_prior = prior.iter().map(|mass| ln(*mass)).collect();
        let mut squint = Self {
            names: owned(experts),
            ln_prior,
            regret: zeros.clone(),
            square: zeros.clone(),
            exponents: zeros.clone(),
            masses: zeros,
        };
        squint.refresh();
        squint
    }

    fn refresh(&mut self) {
        let state = self.ln_prior.iter().zip(&self.regret).zip(&self.square);
        for (exponent, ((ln_prior, regret), square)) in self.exponents.iter_mut().zip(state) {
            *exponent = ln_prior + ln_evidence(*regret, *square);
        }
    }

    /// Writes the unnormalised weights of the awake experts (zero for sleepers) and returns their sum.
    fn weigh(&self, awake: impl Fn(usize) -> bool, out: &mut [f64]) -> f64 {
        for (at, (out, exponent)) in out.iter_mut().zip(&self.exponents).enumerate() {
            *out = if awake(at) { *exponent } else { f64::NEG_INFINITY };
        }
        let top = greatest(out);
        let mut total = 0.0;
        for out in out {
            *out = exp(*out - top);
            total += *out;
        }
        total
    }

    fn weigh_awake(&mut self, votes: &[f64]) -> f64 {
        let mut masses = std::mem::take(&mut self.masses);
        let total = self.weigh(|at| votes.get(at).is_some_and(|vote| !vote.is_nan()), &mut masses);
        self.masses = masses;
        total
    }
}

impl Learner for Squint {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        let total = self.weigh_awake(round.votes);
        mean(round.votes, &self.masses, total)
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let total = self.weigh_awake(round.votes);
        let p = mean(round.votes, &self.masses, total);
        let played = played(round.votes, &self.masses, total, target);
        for ((regret, square), vote) in self.regret.iter_mut().zip(&mut self.square).zip(round.votes) {
            let r = if vote.is_nan() { 0.0 } else { played - (vote - target).abs() };
            *regret += r;
            *square += r * r;
        }
        self.refresh();
        p
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let total = self.weigh(|at| round.votes.get(at).is_some_and(|vote| !vote.is_nan()), out);
        normalise(out, total);
        true
    }

    fn masses(&self) -> Vec<Mass> {
        let mut parts = vec![0.0; self.names.len()];
        self.weigh(|_| true, &mut parts);
        shares(&self.names, &parts)
    }

    fn save(&self, out: &mut Vec<f64>) {
        out.extend_from_slice(&self.regret);
        out.extend_from_slice(&self.square);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        let n = self.names.len();
        check(state, 2 * n, -GREATEST_SUM..=GREATEST_SUM)?;
        let (regret, square) = state.split_at(n);
        if square.iter().any(|v| *v < 0.0) {
            return Err(BadState::OutOfRange);
        }
        self.regret.copy_from_slice(regret);
        self.square.copy_from_slice(square);
        self.refresh();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integral by Simpson's rule, scaled by its greatest exponent.
    fn by_simpson(r: f64, v: f64) -> f64 {
        let exponent = |eta: f64| eta * (r - eta * v);
        let peak = if v > 0.0 { (r / (2.0 * v)).clamp(0.0, 0.5) } else { 0.5 };
        let top = exponent(peak).max(exponent(0.0)).max(exponent(0.5));
        let n = 200_000;
        let h = 0.5 / f64::from(n);
        let f = |i: i32| (exponent(h * f64::from(i)) - top).exp();
        let inner: f64 = (1..n).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        top + (h / 3.0 * (f(0) + inner + f(n))).ln()
    }

    #[test]
    fn evidence_is_the_integral() {
        let cases = [
            (0.0, 0.0),
            (0.0, 0.99),
            (7.9, 0.9),
            (8.1, 0.9),
            (-8.1, 0.9),
            (0.0, 1.01),
            (0.3, 1.01),
            (0.7, 3.0),
        ];
        let large =
            [(30.0, 20.0), (-30.0, 20.0), (3.0, 400.0), (500.0, 400.0), (200.0, 1000.0), (-2000.0, 9000.0)];
        for (r, v) in cases.into_iter().chain(large) {
            let (closed, simpson) = (ln_evidence(r, v), by_simpson(r, v));
            let tolerance = 1e-11 * (1.0 + simpson.abs());
            assert!((closed - simpson).abs() < tolerance, "R {r} V {v}: {closed} for {simpson}");
        }
    }

    #[test]
    fn evidence_of_extreme_regrets_is_a_number() {
        for r in [-1e15, -1e6, -1.0, 0.0, 1.0, 1e6, 1e15] {
            for v in [0.0, 1e-9, 1.0, 1e6, 1e15] {
                assert!(!ln_evidence(r, v).is_nan(), "R {r} V {v}");
            }
        }
    }
}
