//! Confidence intervals that hold at small counts.
//!
//! * The share in one class of inclusion probabilities has the exact binomial interval of Clopper and Pearson (1934),
//!   with an effective sample size for the number of draws and a fractional number of successes, as Korn and Graubard
//!   (1998, "Confidence intervals for proportions with small expected number of positive counts estimated from survey
//!   data", section 2) propose for surveys. It holds without any unsafe event seen.
//! * Sums of independent parts have the interval of Zou and Donner (2008, "Construction of confidence limits about effect
//!   measures: a general approach", equation 5; Newcombe 1998 for two proportions): the distances from the estimate to
//!   the limits add like standard deviations, on either side separately, so that skew is kept. A limit that the truth
//!   cannot pass, such as the number of unsafe events among the labels, is no quantile. Cut there, a distance would be
//!   too short in a sum, so that sums are cut instead, at the sums of such limits.
//! * The ratio A / (A + B) lies above r if (1 - r) A - r B > 0. Its limits are the r at which the interval of that sum
//!   ends at 0, as in Fieller (1954).

use crate::math::beta_quantile;

/// The 97.5 % quantile of the standard normal distribution.
pub(super) const Z: f64 = 1.959_963_984_540_054;
/// The probability that is left out on each side.
const TAIL: f64 = 0.025;

/// The interval of a share in \[0,1\], whose estimate is `share`, from `size` draws. Neither must be an integer.
pub(super) fn share(share: f64, size: f64) -> (f64, f64) {
    let (successes, failures) = (size * share, size * (1.0 - share));
    // Below a millionth of a draw the limits are 0 and 1, and the quantiles would be of a degenerate distribution.
    let low = if successes < 1e-6 { 0.0 } else { beta_quantile(TAIL, successes, failures + 1.0) };
    let high = if failures < 1e-6 { 1.0 } else { beta_quantile(1.0 - TAIL, successes + 1.0, failures) };
    (low, high)
}

/// The factor by which an effective sample size is credible whose variance was estimated with `degrees` degrees of
/// freedom: (z / t)², as Korn and Graubard (1998) reduce it. The quantile t of Student's distribution is by its
/// expansion (Abramowitz and Stegun 1964, 26.7.5).
pub(super) fn credibility(degrees: f64) -> f64 {
    let (z, d) = (Z, degrees.max(1.0));
    let z3 = z * z * z;
    let (z5, z7) = (z3 * z * z, z3 * z3 * z);
    let t = z
        + (z3 + z) / (4.0 * d)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * d * d)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * d * d * d);
    (z / t) * (z / t)
}

/// An estimate with the distances to the ends of its interval, and its variance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Part {
    pub value: f64,
    /// The distance from the value to the lower quantile. It may reach below `least`.
    pub below: f64,
    /// The distance from the value to the upper quantile. It may reach above `most`.
    pub above: f64,
    /// The distances by which the truth may be off that no sample bounds. They are no error by chance, so that they add in full
    /// in sums.
    pub open_below: f64,
    pub open_above: f64,
    pub variance: f64,
    /// The limits that the truth cannot pass.
    pub least: f64,
    pub most: f64,
}

impl Part {
    /// The lower end of the interval.
    pub(super) fn low(self) -> f64 {
        (self.value - self.below - self.open_below).max(self.least)
    }

    /// The upper end of the interval.
    pub(super) fn high(self) -> f64 {
        (self.value + self.above + self.open_above).min(self.most)
    }

    /// `factor` times the part.
    fn scaled(self, factor: f64) -> Self {
        let size = factor.abs();
        let ends = |low: f64, high: f64| if factor < 0.0 { (high, low) } else { (low, high) };
        let (below, above) = ends(self.below, self.above);
        let (open_below, open_above) = ends(self.open_below, self.open_above);
        let (least, most) = ends(self.least, self.most);
        Self {
            value: factor * self.value,
            below: size * below,
            above: size * above,
            open_below: size * open_below,
            open_above: size * open_above,
            variance: factor * factor * self.variance,
            least: factor * least,
            most: factor * most,
        }
    }

    /// The sum of two independent parts.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            below: hypotenuse(self.below, other.below),
            above: hypotenuse(self.above, other.above),
            open_below: self.open_below + other.open_below,
            open_above: self.open_above + other.open_above,
            variance: self.variance + other.variance,
            least: self.least + other.least,
            most: self.most + other.most,
        }
    }

    /// The difference of two independent parts.
    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(other.scaled(-1.0))
    }

    /// A number without error.
    pub(super) fn exact(value: f64) -> Self {
        Self { value, least: value, most: value, ..Self::default() }
    }

    /// The part divided by a number without error.
    pub(super) fn per(self, denominator: f64) -> Self {
        self.scaled(1.0 / denominator)
    }
}

fn hypotenuse(a: f64, b: f64) -> f64 {
    (a * a + b * b).sqrt()
}

/// The estimate and interval of a / (a + b) for two independent, non-negative parts; `None` if their sum is not positive.
///
/// The first-order bias of the ratio is removed (Tin 1965, "Comparison of some ratio estimators").
pub(super) fn ratio(a: Part, b: Part) -> Option<Part> {
    let sum = a.value + b.value;
    if sum <= 0.0 {
        return None;
    }
    let plain = a.value / sum;
    let bias = (a.value * b.variance - b.value * a.variance) / (sum * sum * sum);
    let variance =
        (b.value * b.value * a.variance + a.value * a.value * b.variance) / (sum * sum * sum * sum);
    // The bias is of the second order. Where its estimate exceeds the standard deviation, it is noise.
    let bound = variance.sqrt();
    let value = (plain - bias.clamp(-bound, bound)).clamp(0.0, 1.0);
    let difference = |r: f64| a.scaled(1.0 - r).minus(b.scaled(r));
    let low = root(|r| difference(r).low());
    let high = root(|r| difference(r).high());
    Some(Part {
        value,
        below: (value - low).max(0.0),
        above: (high - value).max(0.0),
        variance,
        least: 0.0,
        most: 1.0,
        ..Part::default()
    })
}

/// The root in \[0,1\] of a function that is positive below it and negative above it.
///
/// The lower quantile of (1 - r) a - r b is concave in r, at least 0 at r = 0 and at most 0 at r = 1; the upper one is
/// convex; the limits that the truth cannot pass are straight lines. Either end changes its sign once.
fn root(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if f(middle) > 0.0 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 5e-5, "{found} is not {expected}");
    }

    #[test]
    fn shares_have_the_exact_binomial_interval() {
        // The limits are those of R's binom.test.
        for (successes, size, low, high) in [
            (0.0, 20.0, 0.0, 0.168_43),
            (1.0, 10.0, 0.002_53, 0.445_02),
            (10.0, 100.0, 0.049_00, 0.176_22),
            (950.0, 1_000.0, 0.934_59, 0.962_67),
        ] {
            let found = share(successes / size, size);
            near(found.0, low);
            near(found.1, high);
        }
        assert_eq!(share(0.3, 0.0), (0.0, 1.0));
    }

    #[test]
    fn an_effective_size_is_credible_as_far_as_its_variance() {
        // (1.96 / t)² with t = 2.2281 and 2.0423.
        assert!((credibility(10.0) - 0.773_79).abs() < 5e-4);
        assert!((credibility(30.0) - 0.921_02).abs() < 5e-4);
        assert!(credibility(0.0) < 0.1);
    }

    fn part(value: f64, deviation: f64) -> Part {
        Part {
            value,
            below: Z * deviation,
            above: Z * deviation,
            variance: deviation * deviation,
            least: 0.0,
            most: f64::INFINITY,
            ..Part::default()
        }
    }

    #[test]
    fn a_ratio_of_large_parts_has_the_interval_of_the_delta_method() {
        let found = ratio(part(9_000.0, 30.0), part(1_000.0, 30.0)).unwrap();
        let deviation = found.variance.sqrt();
        near(found.value, 0.9);
        assert!((found.below / (Z * deviation) - 1.0).abs() < 0.02, "{found:?}");
        assert!((found.above / (Z * deviation) - 1.0).abs() < 0.02, "{found:?}");
        assert_eq!(ratio(Part::exact(0.0), Part::exact(0.0)), None);
        assert_eq!(ratio(Part::exact(3.0), Part::exact(1.0)).unwrap().value, 0.75);
    }

    #[test]
    fn a_limit_that_the_truth_cannot_pass_stays_inside_if_another_part_is_off() {
        // Of the missed events, 112 have labels, and no audit found another: the truth may be 112 exactly.
        let missed = Part { least: 112.0, ..part(150.0, 25.0) };
        assert_eq!(missed.low(), 112.0);
        for deviation in [0.0, 1.0, 100.0] {
            let found = part(12_000.0 - deviation, deviation);
            let recall = ratio(found, missed).unwrap();
            let truth = 12_000.0 / 12_112.0;
            assert!(recall.low() <= truth && truth <= recall.high(), "{recall:?} and {truth}");
        }
    }
}
