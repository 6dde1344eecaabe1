//! Measures of people who label the same events: agreement of two and of many, and an exact interval of a share.
//!
//! A judgement is `true` for unsafe and `false` for safe.

use super::math::beta_quantile;

/// The judgements of two people about the same events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pairs {
    /// The numbers of events by the judgement of the first person, then of the second.
    counts: [[u64; 2]; 2],
}

impl Pairs {
    /// Adds events that both judged in this way.
    pub fn add(&mut self, first: bool, second: bool, events: u64) {
        self.counts[usize::from(first)][usize::from(second)] += events;
    }

    /// The number of events.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The number of events that both judged in the same way.
    #[must_use]
    pub fn agreements(&self) -> u64 {
        self.counts[0][0] + self.counts[1][1]
    }

    /// The share of events that both judged in the same way; `None` without events.
    #[must_use]
    pub fn agreement(&self) -> Option<f64> {
        let events = self.events();
        (events > 0).then(|| self.agreements() as f64 / events as f64)
    }

    /// Cohen's kappa: the agreement beyond that of two people who judge at random, each with their own share of unsafe,
    /// divided by the greatest one possible. `None` without events, and if chance alone agrees always.
    ///
    /// J. Cohen: A coefficient of agreement for nominal scales. Educational and Psychological Measurement 20, 1960.
    #[must_use]
    pub fn kappa(&self) -> Option<f64> {
        let (events, observed) = (self.events() as f64, self.agreement()?);
        let share = |one: u64, other: u64| (one + other) as f64 / events;
        let first = share(self.counts[1][0], self.counts[1][1]);
        let second = share(self.counts[0][1], self.counts[1][1]);
        let chance = first * second + (1.0 - first) * (1.0 - second);
        (chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
    }
}

/// The judgements of any number of people about events, each judged by some of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Panel {
    /// The number of events with at least two judgements.
    events: u64,
    /// The judgements of these events: safe, unsafe.
    judgements: [u64; 2],
    /// The coincidences of unlike judgements, in one direction.
    unlike: f64,
}

impl Panel {
    /// Adds an event that this number of people called safe and unsafe. One judgement alone says nothing.
    pub fn add(&mut self, safe: u64, harmful: u64) {
        let all = safe + harmful;
        if all < 2 {
            return;
        }
        self.events += 1;
        self.judgements[0] += safe;
        self.judgements[1] += harmful;
        self.unlike += safe as f64 * harmful as f64 / (all - 1) as f64;
    }

    /// The number of events with at least two judgements.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Krippendorff's alpha for nominal data with missing values: one minus the observed disagreement divided by the one
    /// that is expected by chance. `None` without events, and if all judgements are the same, since chance alone would
    /// agree then.
    ///
    /// K. Krippendorff: Content Analysis, 2nd edition, chapter 11. Sage, 2004.
    #[must_use]
    pub fn alpha(&self) -> Option<f64> {
        let [safe, harmful] = self.judgements.map(|count| count as f64);
        let expected = safe * harmful;
        (expected > 0.0).then(|| 1.0 - (safe + harmful - 1.0) * self.unlike / expected)
    }
}

/// Returns the exact interval of a share that was observed `hits` times in `trials`: each bound is missed with a
/// probability of at most half of `1 - confidence`, whatever the number of trials. Without trials it is \[0,1\].
///
/// C. J. Clopper and E. S. Pearson: The use of confidence or fiducial limits illustrated in the case of the binomial.
/// Biometrika 26, 1934.
///
/// # Panics
/// Panics if there are more hits than trials.
#[must_use]
pub fn exact_interval(hits: u64, trials: u64, confidence: f64) -> (f64, f64) {
    assert!(hits <= trials, "more hits than trials");
    let tail = (1.0 - confidence) / 2.0;
    let (k, n) = (hits as f64, trials as f64);
    let low = if hits == 0 { 0.0 } else { beta_quantile(tail, k, n - k + 1.0) };
    let high = if hits == trials { 1.0 } else { 1.0 - beta_quantile(tail, n - k, k + 1.0) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64, error: f64) {
        assert!((found - expected).abs() < error, "{found}, not {expected}");
    }

    #[test]
    fn kappa_is_that_of_the_published_table() {
        // Of 50 applications two readers accept 20, refuse 15, and differ on 15: kappa 0.4.
        let mut pairs = Pairs::default();
        for (first, second, events) in
            [(true, true, 20), (true, false, 5), (false, true, 10), (false, false, 15)]
        {
            pairs.add(first, second, events);
        }
        assert_eq!((pairs.events(), pairs.agreements()), (50, 35));
        near(pairs.agreement().unwrap(), 0.7, 1e-12);
        near(pairs.kappa().unwrap(), 0.4, 1e-12);
    }

    #[test]
    fn agreement_by_chance_alone_has_no_kappa() {
        let mut same = Pairs::default();
        assert_eq!((same.agreement(), same.kappa()), (None, None));
        same.add(false, false, 9);
        assert_eq!((same.agreement(), same.kappa()), (Some(1.0), None));
        let mut chance = Pairs::default();
        for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
            chance.add(first, second, 7);
        }
        near(chance.kappa().unwrap(), 0.0, 1e-12);
    }

    #[test]
    fn alpha_is_that_of_the_published_example() {
        // Krippendorff's binary data of two observers and ten units: 0.095.
        let first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0];
        let second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0];
        let mut panel = Panel::default();
        for (a, b) in first.into_iter().zip(second) {
            panel.add(2 - (a + b), a + b);
        }
        near(panel.alpha().unwrap(), 0.0952, 1e-4);
        // A judgement without another one changes nothing.
        let before = panel;
        panel.add(1, 0);
        panel.add(0, 0);
        assert_eq!(panel, before);
        assert_eq!(panel.events(), 10);
    }

    #[test]
    fn judgements_that_are_all_the_same_have_no_alpha() {
        let mut panel = Panel::default();
        assert_eq!(panel.alpha(), None);
        panel.add(3, 0);
        panel.add(2, 0);
        assert_eq!(panel.alpha(), None);
        panel.add(0, 2);
        near(panel.alpha().unwrap(), 1.0, 1e-12);
    }

    #[test]
    fn intervals_are_those_of_exact_sums() {
        for (hits, trials, low, high) in [
            (0, 10, 0.0, 0.308_497),
            (8, 10, 0.443_905, 0.974_789),
            (10, 10, 0.691_503, 1.0),
            (1, 1, 0.025, 1.0),
            (0, 1, 0.0, 0.975),
            (50, 100, 0.398_321, 0.601_679),
        ] {
            let (found_low, found_high) = exact_interval(hits, trials, 0.95);
            near(found_low, low, 1e-6);
            near(found_high, high, 1e-6);
        }
        assert_eq!(exact_interval(0, 0, 0.95), (0.0, 1.0));
        let (low, high) = exact_interval(900_000, 1_000_000, 0.95);
        assert!(low > 0.899 && low < 0.9 && high > 0.9 && high < 0.901, "{low} {high}");
    }

    /// The chance that the interval misses the share is at most 5 %, at every share.
    #[test]
    fn the_interval_covers_the_share() {
        for trials in [1_u64, 5, 20, 60] {
            let intervals: Vec<_> = (0..=trials).map(|hits| exact_interval(hits, trials, 0.95)).collect();
            for step in 1..40 {
                let share = f64::from(step) / 40.0;
                let (mut term, mut covered) = ((1.0 - share).powi(i32::try_from(trials).unwrap()), 0.0);
                for (hits, (low, high)) in (0..=trials).zip(&intervals) {
                    if (*low..=*high).contains(&share) {
                        covered += term;
                    }
                    term *= (trials - hits) as f64 / (hits + 1) as f64 * share / (1.0 - share);
                }
                assert!(covered >= 0.95 - 1e-9, "{trials} trials, share {share}: {covered}");
            }
        }
    }
}
