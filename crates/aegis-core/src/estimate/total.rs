//! The estimated number of unsafe events in a set of decisions: the flagged ones, or the others.
//!
//! Let U be the set, s the decisions of it that have a label, π the inclusion probabilities, y the targets, and m a
//! function of the ensemble's p. The estimator is
//!
//! ```text
//! T = Σ_U m(x_i) + Σ_s [m_-i(x_i) - m(x_i)] + Σ_s [y_i - m_-i(x_i)] / π_i
//! ```
//!
//! where x is the mean p of the decisions of the same bin. With m = 0 it is that of Horvitz and Thompson (1952,
//! equation 9). With m it is the difference estimator (Särndal, Swensson and Wretman 1992, section 6.3), which is
//! prediction-powered inference for a finite population (Angelopoulos et al. 2023; Zrnic and Candès 2024 for unequal π).
//! The intercept of m makes it a Hájek estimator (1971) too: the random number of labels costs no variance.
//!
//! m(x) = α + λx is tuned to the least variance, as PPI++ tunes λ (Angelopoulos, Duchi and Zrnic 2023, section 6): by
//! least squares over s with the weights (1 - π)/π². m_-i is tuned without decision i (Wu and Gagnon-Bartsch 2018, "The
//! LOOP estimator", section 3). As m_-i does not depend on the draw of i, each i contributes its y in expectation: T is
//! exactly unbiased, at any number of labels, if all requests are answered (a test takes the expectation over all samples of
//! a population).
//!
//! Requests without a label: π is multiplied by the response rate of the class, which assumes that within a class
//! they are missing at random. [`Set::unanswered`] makes no assumption (Horowitz and Manski 2000).

use super::Method;
use super::accumulator::{CLASSES, Cell, UNCOVERED};
use super::figures::Bounds;
use super::interval::{Part, Z, credibility, share};
use crate::math::ln;

/// A set of decisions under construction.
#[derive(Debug, Default)]
pub(super) struct SetBuilder<'a> {
    cells: Vec<(usize, &'a Cell)>,
}

/// The estimated number of unsafe events of a set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Set {
    pub decisions: u64,
    pub requests: u64,
    pub labels: u64,
    /// The decisions with inclusion probability 0.
    pub uncovered: u64,
    /// The estimate, with its interval.
    pub unsafe_events: Part,
    /// The estimate if all unanswered requests were answered with safe, and with unsafe.
    pub unanswered: Bounds,
}

/// The decisions of a set whose inclusion probabilities are in one class.
#[derive(Debug, Clone, Copy, Default)]
struct Stratum {
    decisions: f64,
    requests: f64,
    labels: f64,
    /// The expected number of labels.
    expected: f64,
    /// The estimated number of unsafe events.
    total: f64,
    variance: f64,
    /// The sum of the squares of the terms of the variance.
    squares: f64,
    /// The sums of the targets of the labels and of their squares.
    targets: (f64, f64),
    /// The sums of 1/π and 1/π² of the labels.
    weights: (f64, f64),
}

impl<'a> SetBuilder<'a> {
    pub(super) fn add(&mut self, class: usize, cell: &'a Cell) {
        self.cells.push((class, cell));
    }

    pub(super) fn build(&self, method: Method) -> Set {
        let mut strata = self.strata();
        let fit = match method {
            Method::HorvitzThompson => Fit::default(),
            Method::Assisted => self.fit(&strata),
        };
        for (class, cell) in &self.cells {
            let Some(stratum) = strata.get_mut(*class) else { continue };
            stratum.total += cell.decisions as f64 * fit.at(cell.mean());
            let response = stratum.response();
            for (inclusion, target, count) in cell.rows() {
                stratum.add(&fit, cell.mean(), inclusion * response, target, count as f64);
            }
        }
        set(&strata)
    }

    /// The counts of the strata.
    fn strata(&self) -> [Stratum; CLASSES] {
        let mut strata = [Stratum::default(); CLASSES];
        for (class, cell) in &self.cells {
            let Some(stratum) = strata.get_mut(*class) else { continue };
            stratum.decisions += cell.decisions as f64;
            stratum.requests += cell.requests as f64;
            stratum.labels += cell.labels as f64;
            stratum.expected += cell.expected;
        }
        for stratum in &mut strata {
            stratum.expected *= stratum.response();
        }
        strata
    }

    /// Tunes m. Two pseudo-labels, each with the weight of an average label, say that p is right at 0 and at 1: with few
    /// labels m is p.
    fn fit(&self, strata: &[Stratum]) -> Fit {
        let sampled = self.cells.iter().filter(|(class, _)| *class != UNCOVERED);
        let (spread, expected) = sampled.fold((0.0, 0.0), |(spread, expected), (_, cell)| {
            (spread + cell.inverses - cell.decisions as f64, expected + cell.expected)
        });
        let mut fit = Fit { tuned: true, ..Fit::default() };
        // If all inclusion probabilities are 1, m has no effect; any positive weight makes it p.
        let weight = if spread > 0.0 { spread / expected } else { 1.0 };
        fit.add(0.0, 0.0, weight);
        fit.add(1.0, 1.0, weight);
        for (class, cell) in &self.cells {
            let response = strata.get(*class).map_or(1.0, Stratum::response);
            for (inclusion, target, count) in cell.rows() {
                fit.add(cell.mean(), target, spread_of(inclusion * response) * count as f64);
            }
        }
        fit
    }
}

/// The factor (1 - π)/π² of a squared residual in the variance.
fn spread_of(inclusion: f64) -> f64 {
    (1.0 - inclusion) / (inclusion * inclusion)
}

impl Stratum {
    /// The share of requests that have a label; 1 without requests.
    fn response(&self) -> f64 {
        if self.labels > 0.0 { self.labels / self.requests } else { 1.0 }
    }

    /// Adds `count` labels with the same properties.
    fn add(&mut self, fit: &Fit, x: f64, inclusion: f64, target: f64, count: f64) {
        let without = fit.without(x, target, spread_of(inclusion));
        let residual = target - without;
        self.total += count * (without - fit.at(x) + residual / inclusion);
        let term = spread_of(inclusion) * residual * residual;
        self.variance += count * term;
        self.squares += count * term * term;
        self.targets.0 += count * target;
        self.targets.1 += count * target * target;
        self.weights.0 += count / inclusion;
        self.weights.1 += count / (inclusion * inclusion);
    }

    /// The number of draws that the labels are worth if m explains nothing.
    ///
    /// Draws without replacement are worth more: if k of n decisions are unsafe and none of them is drawn, the
    /// probability of that is (1 - π)^k = exp(-k·n·π/n · w) with w = -ln(1 - π)/π.
    fn size(&self) -> f64 {
        if self.labels == 0.0 {
            return 0.0;
        }
        let kish = self.weights.0 * self.weights.0 / self.weights.1; // Kish 1965, section 11.2
        let rate = (self.expected / self.decisions).clamp(1e-12, 1.0 - 1e-12);
        kish * -ln(1.0 - rate) / rate
    }

    /// The effective number of labels of the rarer kind, unsafe or safe.
    fn rarer(&self) -> f64 {
        let effective = |(sum, squares): (f64, f64)| if squares > 0.0 { sum * sum / squares } else { 0.0 };
        let safe = (self.labels - self.targets.0, self.labels - 2.0 * self.targets.0 + self.targets.1);
        effective(self.targets).min(effective(safe))
    }

    /// The estimated number of unsafe events, with its interval.
    fn part(&self) -> Part {
        // Not for decisions that all came up by chance: that they then count as they are would be a bias.
        if self.labels == self.decisions && self.expected == self.decisions {
            return Part::exact(self.targets.0);
        }
        let rate = (self.total / self.decisions).clamp(0.0, 1.0);
        let size = self.size();
        let assisted = rate * (1.0 - rate) * self.decisions * self.decisions / self.variance;
        let size = if self.variance > 0.0 && assisted > 0.0 {
            let degrees = self.variance * self.variance / self.squares;
            let gain = assisted * credibility(degrees) - size;
            // A variance from few labels of the rarer kind may miss what makes them rare.
            if assisted < size { assisted } else { size + gain.max(0.0) * credibility(self.rarer()) }
        } else {
            size
        };
        let (low, high) = share(rate, size);
        // Without a label of one kind, its binomial limit is 0, which is no quantile.
        let safe = self.labels - self.targets.0;
        let quantile = Z * self.variance.sqrt();
        let distance =
            |labels: f64, distance: f64| if labels > 0.0 { distance } else { distance.max(quantile) };
        Part {
            value: self.total,
            below: distance(self.targets.0, self.total - low * self.decisions).max(0.0),
            above: distance(safe, high * self.decisions - self.total).max(0.0),
            variance: self.variance,
            // The labels themselves bound the number.
            least: self.targets.0,
            most: self.decisions - safe,
            ..Part::default()
        }
    }
}

/// The estimate of a set from those of its strata.
fn set(strata: &[Stratum; CLASSES]) -> Set {
    let mut set = Set::default();
    let (mut missing, mut without) = (0.0, 0.0);
    for (class, stratum) in strata.iter().enumerate().filter(|(_, stratum)| stratum.decisions > 0.0) {
        set.decisions += stratum.decisions as u64;
        set.requests += stratum.requests as u64;
        set.labels += stratum.labels as u64;
        if class == UNCOVERED {
            set.uncovered = stratum.decisions as u64;
            without = stratum.total;
            continue;
        }
        let part = stratum.part();
        set.unsafe_events = set.unsafe_events.plus(part);
        // The share of the stratum whose requests, if they were made, have no answer.
        let unanswered = if stratum.requests > 0.0 { 1.0 - stratum.labels / stratum.requests } else { 0.0 };
        set.unanswered.low -= unanswered * part.value;
        missing += unanswered * (stratum.decisions - part.value);
    }
    // The uncovered decisions are not drawn: any number of them may be unsafe.
    let uncovered = set.uncovered as f64;
    set.unsafe_events.value += without;
    set.unsafe_events.open_below += without;
    set.unsafe_events.open_above += uncovered - without;
    set.unsafe_events.most += uncovered;
    set.unanswered.low += set.unsafe_events.value;
    set.unanswered.high = set.unsafe_events.value + missing;
    set
}

/// The function m, by weighted least squares.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    /// `false` if m is 0.
    tuned: bool,
    weight: f64,
    x: f64,
    xx: f64,
    y: f64,
    xy: f64,
}

impl Fit {
    fn add(&mut self, x: f64, y: f64, weight: f64) {
        self.weight += weight;
        self.x += weight * x;
        self.xx += weight * x * x;
        self.y += weight * y;
        self.xy += weight * x * y;
    }

    /// The value of m at x, in \[0,1\].
    fn at(&self, x: f64) -> f64 {
        if !self.tuned {
            return 0.0;
        }
        // Never 0: the pseudo-labels at 0 and 1 are part of it.
        let determinant = self.weight * self.xx - self.x * self.x;
        let slope = (self.weight * self.xy - self.x * self.y) / determinant;
        let mean = self.y / self.weight;
        (mean + slope * (x - self.x / self.weight)).clamp(0.0, 1.0)
    }

    /// The value at x of the m that is tuned without one of the labels at x with the target y.
    fn without(&self, x: f64, y: f64, weight: f64) -> f64 {
        let mut fit = *self;
        fit.add(x, y, -weight);
        fit.at(x)
    }
}
