//! The evidence for a change of the mean at one time.

use crate::math::{exp, ln, ln_beta};

/// The logarithm of the e-value at which "the mean is constant" is refuted, ln 20.
pub(super) const LN_REFUTED: f64 = 2.995_732_273_553_991;

/// The strengths of the beta priors for the mean after a change, in numbers of values. The priors expect changes of about
/// a quarter, an eleventh and a thirtieth of the standard deviation of a binary value.
const STRENGTHS: [f64; 3] = [16.0, 128.0, 1_024.0];

/// The weight and the weighted sum of values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Count {
    weight: f64,
    sum: f64,
}

impl Count {
    pub(super) fn add(&mut self, value: f64, weight: f64) {
        self.weight += weight;
        self.sum += weight * value;
    }

    pub(super) fn minus(self, earlier: Self) -> Self {
        // Rounding must not make a part negative.
        let weight = (self.weight - earlier.weight).max(0.0);
        Self { weight, sum: (self.sum - earlier.sum).clamp(0.0, weight) }
    }

    pub(super) fn mean(self) -> f64 {
        self.sum / self.weight
    }

    /// ln sup_μ L_μ.
    pub(super) fn greatest_likelihood(self) -> f64 {
        let part = |part: f64| if part > 0.0 { part * ln(part / self.weight) } else { 0.0 };
        part(self.sum) + part(self.weight - self.sum)
    }
}

/// A beta distribution of the mean.
#[derive(Debug, Clone, Copy)]
struct Prior {
    a: f64,
    b: f64,
    ln_beta: f64,
}

impl Prior {
    fn new(a: f64, b: f64) -> Self {
        Self { a, b, ln_beta: ln_beta(a, b) }
    }

    /// ln of the mean of L_q over the prior.
    fn likelihood(&self, count: Count) -> f64 {
        ln_beta(self.a + count.sum, self.b + count.weight - count.sum) - self.ln_beta
    }
}

/// A time at which the mean may have changed.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The number of values before it.
    pub values: u64,
    /// All values before it.
    pub before: Count,
    /// ln(w_c M_0(c)).
    ln_before: f64,
    /// The priors for the mean after it.
    priors: [Prior; STRENGTHS.len()],
}

impl Change {
    /// A change after the values `before`, the first of which are `burn_in`.
    pub(super) fn new(values: u64, weight: f64, burn_in: Count, before: Count) -> Self {
        let jeffreys = Prior::new(burn_in.sum + 0.5, burn_in.weight - burn_in.sum + 0.5);
        let centre = (before.sum + 0.5) / (before.weight + 1.0);
        let prior = |strength| Prior::new(strength * centre, strength * (1.0 - centre));
        Self {
            values,
            before,
            ln_before: ln(weight) + jeffreys.likelihood(before.minus(burn_in)),
            priors: STRENGTHS.map(prior),
        }
    }

    /// ln(w_c M_0(c) M_1(c) / sup_μ L_μ), where `constant` is the logarithm of the supremum; minus infinity if it is less
    /// than `least`, which spares its computation and makes the evidence smaller only.
    pub(super) fn evidence(&self, all: Count, constant: f64, least: f64) -> f64 {
        let after = all.minus(self.before);
        let base = self.ln_before - constant;
        if base + after.greatest_likelihood() < least {
            return f64::NEG_INFINITY;
        }
        let mean: f64 = self.priors.iter().map(|prior| exp(base + prior.likelihood(after))).sum::<f64>()
            / STRENGTHS.len() as f64;
        ln(mean)
    }
}
