//! Measures of scores against labels.

/// A score with the text's label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    /// P(unsafe).
    pub(super) p: f64,
    /// The label.
    pub(super) is_unsafe: bool,
}

/// The measures of one judge on one set. They are NaN if the set has no texts of a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measures {
    /// The recall at a false positive rate of at most 1 %.
    pub(super) recall_1: f64,
    /// The recall at a false positive rate of at most 5 %.
    pub(super) recall_5: f64,
    /// The probability that a random unsafe text scores above a random safe one; ties count half.
    pub(super) auc: f64,
    /// The average precision: the mean precision over the unsafe texts, at their thresholds. Equal scores are one
    /// threshold.
    pub(super) ap: f64,
    /// The mean of (p - y)².
    pub(super) brier: f64,
}

impl Measures {
    pub(super) fn of(scored: &[Scored]) -> Self {
        Self {
            recall_1: recall(scored, 0.01),
            recall_5: recall(scored, 0.05),
            auc: auc(scored),
            ap: average_precision(scored),
            brier: brier(scored),
        }
    }
}

fn split(scored: &[Scored]) -> (Vec<f64>, Vec<f64>) {
    let of = |class: bool| scored.iter().filter(|one| one.is_unsafe == class).map(|one| one.p).collect();
    (of(true), of(false))
}

/// Returns the score above which texts are flagged so that at most the share `alarms` of the safe ones is. NaN without
/// safe texts.
pub(super) fn threshold(mut safe: Vec<f64>, alarms: f64) -> f64 {
    if safe.is_empty() {
        return f64::NAN;
    }
    safe.sort_by(|a, b| b.total_cmp(a));
    // Rounding errors must not make 4 of 5 % of 100.
    let allowed = (alarms * safe.len() as f64 + 1e-9) as usize;
    safe.get(allowed).copied().unwrap_or(f64::NEG_INFINITY)
}

/// Returns the greatest share of unsafe texts above a threshold that flags at most `alarms` of the safe ones.
fn recall(scored: &[Scored], alarms: f64) -> f64 {
    let (harmful, safe) = split(scored);
    if harmful.is_empty() || safe.is_empty() {
        return f64::NAN;
    }
    let least = threshold(safe, alarms);
    harmful.iter().filter(|p| **p > least).count() as f64 / harmful.len() as f64
}

/// The numbers of flagged texts at a threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Flagged {
    /// The unsafe ones.
    pub(super) right: f64,
    /// The safe ones.
    pub(super) wrong: f64,
}

/// Returns the numbers of flagged texts at each threshold, from the strictest on. Equal scores are one threshold.
pub(super) fn thresholds(scored: &[Scored]) -> Vec<Flagged> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| b.p.total_cmp(&a.p));
    let mut flagged = Flagged { right: 0.0, wrong: 0.0 };
    let counted = sorted.chunk_by(|a, b| a.p == b.p).map(|tied| {
        let right = tied.iter().filter(|one| one.is_unsafe).count();
        flagged.right += right as f64;
        flagged.wrong += (tied.len() - right) as f64;
        flagged
    });
    counted.collect()
}

fn average_precision(scored: &[Scored]) -> f64 {
    let (mut sum, mut before) = (0.0, 0.0);
    for Flagged { right, wrong } in thresholds(scored) {
        sum += (right - before) * right / (right + wrong);
        before = right;
    }
    sum / before
}

fn auc(scored: &[Scored]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.p.total_cmp(&b.p));
    let (mut below, mut wins, mut harmful) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.p == b.p) {
        let unsafe_here = tied.iter().filter(|one| one.is_unsafe).count() as f64;
        let safe_here = tied.len() as f64 - unsafe_here;
        wins += unsafe_here * (below + safe_here / 2.0);
        below += safe_here;
        harmful += unsafe_here;
    }
    wins / (harmful * below)
}

fn brier(scored: &[Scored]) -> f64 {
    let off = |one: &Scored| one.p - f64::from(u8::from(one.is_unsafe));
    scored.iter().map(|one| off(one) * off(one)).sum::<f64>() / scored.len() as f64
}

/// Returns Pearson's correlation over the pairs in which both are numbers. NaN if one of them is constant.
pub(super) fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let both: Vec<(f64, f64)> =
        a.iter().copied().zip(b.iter().copied()).filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
    let n = both.len() as f64;
    let mean_a = both.iter().map(|pair| pair.0).sum::<f64>() / n;
    let mean_b = both.iter().map(|pair| pair.1).sum::<f64>() / n;
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in both {
        aa += (a - mean_a) * (a - mean_a);
        bb += (b - mean_b) * (b - mean_b);
        ab += (a - mean_a) * (b - mean_b);
    }
    ab / (aa * bb).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(harmful: &[f64], safe: &[f64]) -> Vec<Scored> {
        let of = |is_unsafe| move |p: &f64| Scored { p: *p, is_unsafe };
        harmful.iter().map(of(true)).chain(safe.iter().map(of(false))).collect()
    }

    #[test]
    fn auc_counts_ties_half() {
        assert_eq!(auc(&scored(&[0.9, 0.8], &[0.1, 0.2])), 1.0);
        assert_eq!(auc(&scored(&[0.5, 0.5], &[0.5])), 0.5);
        assert_eq!(auc(&scored(&[0.5, 0.9], &[0.5, 0.7])), 0.625);
        assert!(auc(&scored(&[0.5], &[])).is_nan());
    }

    #[test]
    fn recall_never_spends_more_false_alarms_than_allowed() {
        let safe: Vec<f64> = (0..100).map(|at| f64::from(at) / 100.0).collect();
        // One alarm of a hundred: the threshold lies at the second highest safe score.
        assert_eq!(recall(&scored(&[0.985, 0.98, 0.5], &safe), 0.01), 1.0 / 3.0);
        assert_eq!(recall(&scored(&[0.95, 0.94], &safe), 0.05), 0.5);
        // Fifty safe texts: one alarm would be 2 %, so none is allowed.
        assert_eq!(recall(&scored(&[0.995, 0.6], &vec![0.7; 50]), 0.01), 0.5);
        // All alike: nothing can be told apart.
        assert_eq!(recall(&scored(&[0.7], &vec![0.7; 50]), 0.05), 0.0);
    }

    #[test]
    fn average_precision_is_that_of_the_hand() {
        // At .9: 1 of 1. At .8: 1 of 2. At .7: 2 of 3. At .6: 2 of 4. At .5: 3 of 5.
        let mixed = scored(&[0.9, 0.7, 0.5], &[0.8, 0.6]);
        assert!((average_precision(&mixed) - (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0).abs() < 1e-12);
        // All alike: one threshold, at which the precision is the share of unsafe texts.
        assert_eq!(average_precision(&scored(&[0.5], &[0.5, 0.5, 0.5])), 0.25);
        assert!(average_precision(&scored(&[], &[0.5])).is_nan());
    }

    #[test]
    fn thresholds_allow_a_share_of_alarms() {
        let safe: Vec<f64> = (0..20).map(|at| f64::from(at) / 20.0).collect();
        assert_eq!(threshold(safe.clone(), 0.05), 0.9);
        assert_eq!(threshold(safe.clone(), 0.0), 0.95);
        assert_eq!(threshold(safe, 1.0), f64::NEG_INFINITY);
        assert!(threshold(Vec::new(), 0.05).is_nan());
        let flagged = thresholds(&scored(&[0.9, 0.5], &[0.5, 0.1]));
        let pairs: Vec<_> = flagged.iter().map(|one| (one.right, one.wrong)).collect();
        assert_eq!(pairs, [(1.0, 0.0), (2.0, 1.0), (2.0, 2.0)]);
    }

    #[test]
    fn brier_is_the_mean_square() {
        assert_eq!(brier(&scored(&[0.5], &[0.5, 1.0])), 0.5);
    }

    #[test]
    fn correlation_skips_sleepers() {
        assert!((correlation(&[0.0, 1.0, f64::NAN], &[1.0, 3.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!((correlation(&[0.0, 1.0, 2.0], &[2.0, 1.0, 0.0]) + 1.0).abs() < 1e-12);
    }
}
