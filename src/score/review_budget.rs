//! The review budget of each policy: above it, requests for events near the threshold are drawn with a lower probability.
//!
//! A budget is a level that every such request raises by its probability, and that time lowers by what the budget has
//! left after audits and certain requests. Up to an allowance the level has no effect. Above it the factor of the
//! probabilities falls exponentially, so that under a constant demand the level rests where what is drawn equals what
//! the budget has left. Therefore
//!
//! * an idle hour does not save an hour's requests for the next minute: the level does not fall below 0, and a burst of n
//!   times an allowance gets 1 + ln(n) allowances at most;
//! * no hour of few requests follows one of many: the factor is never 0, and what certain requests use up is returned to
//!   a tenth of the budget;
//! * the factor of an event depends on earlier events and the time alone, never on what is drawn for it, so that its
//!   probability is the one that its decision states.
//!
//! The state is that of one process, and is lost with it. The clock is that of processing: a backlog that is read within
//! an hour gets the requests of one hour.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::core::decision::Decision;
use crate::core::policy::Policy;
use crate::core::sampling::ReviewDraws;
use crate::ops::metrics;

/// The part of an hour whose requests are the allowance, and the part of the budget that certain requests leave.
const PART: f64 = 0.1;

/// The least factor, so that no probability becomes 0.
const LEAST_FACTOR: f64 = 1e-6;

/// The review budgets of all policies, as far as this process may use them.
pub struct ReviewBudgets {
    /// The part of the budget that this process may use, in \[0,1\].
    share: f64,
    opened: Instant,
    by_policy: BTreeMap<String, ReviewBudget>,
}

impl ReviewBudgets {
    /// Begins without requests. Until [`set_share`](Self::set_share) this process uses the whole budgets.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { share: 1.0, opened: now, by_policy: BTreeMap::new() }
    }

    /// Sets the part of each budget that this process uses to its part of the events topic's partitions.
    #[expect(clippy::cast_precision_loss, reason = "a topic has few partitions")]
    pub fn set_share(&mut self, assigned: usize, partitions: usize, now: Instant) {
        if assigned == 0 {
            return;
        }
        let share = assigned as f64 / partitions.max(assigned) as f64;
        let (hours, factor) = (self.hours(now), share / self.share);
        for budget in self.by_policy.values_mut() {
            // The time until now is paid for at the old rate, and the level is scaled.
            budget.thinning(budget.hourly, hours);
            budget.thinning(budget.hourly * factor, hours);
            budget.on_share(factor);
        }
        self.share = share;
    }

    fn hours(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.opened).as_secs_f64() / 3_600.0
    }

    /// Returns the factor by which the budget of a policy lowers the probability of the uncertainty draw; 1 without a
    /// budget.
    pub fn thinning(&mut self, policy: &Policy, now: Instant) -> f64 {
        let Some(budget) = policy.review_budget else {
            if self.by_policy.remove(&policy.name).is_some() {
                metrics::REVIEW_THINNING.with([&policy.name]).set(1.0);
            }
            return 1.0;
        };
        let hourly = f64::from(budget.get()) * self.share;
        // Cloning the name of each event's policy is avoided.
        if !self.by_policy.contains_key(&policy.name) {
            self.by_policy.insert(policy.name.clone(), ReviewBudget::new(hourly));
        }
        let hours = self.hours(now);
        self.by_policy.get_mut(&policy.name).map_or(1.0, |budget| budget.thinning(hourly, hours))
    }

    /// Takes a decision of a policy into its budget. An event that is decided again after an aborted batch is taken
    /// again.
    pub fn on_decision(&mut self, decision: &Decision) {
        if let Some(budget) = self.by_policy.get_mut(&decision.id.policy) {
            budget.on_decision(decision);
        }
    }

    /// Reports the factors of all policies with a budget.
    pub fn report(&mut self, now: Instant) {
        let hours = self.hours(now);
        for (policy, budget) in &mut self.by_policy {
            metrics::REVIEW_THINNING.with([policy]).set(budget.thinning(budget.hourly, hours));
        }
    }
}

impl Drop for ReviewBudgets {
    /// Resets the metrics: a scorer that has ended thins nothing.
    fn drop(&mut self) {
        for policy in self.by_policy.keys() {
            metrics::REVIEW_THINNING.with([policy]).set(1.0);
        }
    }
}

/// The review budget of one policy.
#[derive(Debug, Clone)]
struct ReviewBudget {
    /// The requests an hour that this process may cause.
    hourly: f64,
    /// The requests near the threshold that were drawn and that time has not paid for.
    level: f64,
    /// The audits and certain requests of the last hour, of which older ones count exponentially less.
    others: f64,
    /// The time of the last update, in hours.
    at: f64,
}

impl ReviewBudget {
    /// A budget without an allowance, so that a process that starts again and again does not get it each time.
    fn new(hourly: f64) -> Self {
        Self { hourly, level: allowance(hourly), others: 0.0, at: 0.0 }
    }

    fn thinning(&mut self, hourly: f64, hours: f64) -> f64 {
        let elapsed = (hours - self.at).max(0.0);
        self.at = self.at.max(hours);
        self.others *= (-elapsed).exp();
        let left = (self.hourly - self.others).max(PART * self.hourly);
        self.level = (self.level - left * elapsed).max(0.0);
        if hourly != self.hourly {
            // The level counts allowances: a change of the budget alone does not change the factor.
            self.level *= allowance(hourly) / allowance(self.hourly);
            self.hourly = hourly;
        }
        let allowance = allowance(hourly);
        let above = (self.level - allowance).max(0.0);
        (-above / allowance).exp().max(LEAST_FACTOR)
    }

    /// Takes a change of the part of the events that this process decides: with them, it has other certain requests.
    fn on_share(&mut self, factor: f64) {
        self.others *= factor;
    }

    fn on_decision(&mut self, decision: &Decision) {
        let sampling = decision.sampling;
        if decision.reasons.first().is_some_and(|reason| reason.is_certain()) {
            self.others += 1.0;
        } else {
            self.others += sampling.audit;
            self.level += (1.0 - sampling.audit) * sampling.uncertainty;
        }
    }
}

/// The requests that are drawn without thinning after an idle time: at least 1, below which every request would thin all
/// others.
fn allowance(hourly: f64) -> f64 {
    (PART * hourly).max(1.0)
}

/// Returns `true` if the budget has withheld a request: without it, the uncertainty draw would have come up.
#[must_use]
pub fn is_withheld(decision: &Decision, policy: &Policy) -> bool {
    if !decision.sampling.thinned || !decision.reasons.is_empty() {
        return false;
    }
    let id = &decision.id;
    let draws = ReviewDraws::of(policy, &id.tenant, &id.event);
    decision.probability.is_some_and(|p| draws.uncertainty < policy.uncertainty(p))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Policies;
    use crate::core::decision::{ReviewReason, Sampling};
    use crate::core::ledger::RoundId;

    /// The requests an hour of the tests.
    const HOURLY: f64 = 60.0;

    fn decision(reasons: Vec<ReviewReason>, audit: f64, uncertainty: f64) -> Decision {
        let id = RoundId { tenant: "t".into(), policy: "default".into(), event: "e".into() };
        let sampling = Sampling { audit, uncertainty, thinned: uncertainty < 1.0 };
        Decision { reasons, sampling, ..Decision::example(id, 0) }
    }

    impl ReviewBudget {
        /// Decides an event within the margin. Returns its probability.
        fn near(&mut self, hours: f64) -> f64 {
            let factor = self.thinning(HOURLY, hours);
            self.on_decision(&decision(Vec::new(), 0.0, factor));
            factor
        }

        /// Decides events within the margin, evenly over an hour. Returns the expected number of requests.
        fn hour(&mut self, hour: i32, events: i32) -> f64 {
            (0..events).map(|at| self.near(f64::from(hour) + f64::from(at) / f64::from(events))).sum()
        }
    }

    #[test]
    fn a_constant_demand_above_the_budget_gets_the_budget() {
        for demand in [90, 600, 60_000] {
            let mut budget = ReviewBudget::new(HOURLY);
            let first = budget.hour(0, demand);
            assert!(first < HOURLY * 1.1 + 6.0 * (f64::from(demand) / HOURLY).ln(), "{demand}: {first}");
            for hour in 1..24 {
                let requests = budget.hour(hour, demand);
                assert!(
                    (requests / HOURLY - 1.0).abs() < 0.02 || hour == 1,
                    "{demand}, hour {hour}: {requests}"
                );
                assert!(requests > 0.9 * HOURLY, "{demand}, hour {hour}: {requests}");
            }
        }
    }

    #[test]
    fn a_demand_below_the_budget_is_hardly_thinned() {
        let mut budget = ReviewBudget::new(HOURLY);
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut hours, mut requests) = (0.0, 0.0);
        for _ in 0..3_000 {
            // Two thirds of the budget, at random times.
            hours += -rng.f64().max(1e-12).ln() / (HOURLY * 2.0 / 3.0);
            requests += budget.near(hours);
        }
        assert!(requests > 0.98 * 3_000.0, "{requests}");
    }

    #[test]
    fn an_idle_week_does_not_save_requests_for_a_burst() {
        let mut budget = ReviewBudget::new(HOURLY);
        budget.near(0.0);
        let burst: f64 = (0..10_000).map(|_| budget.near(168.0)).sum();
        let allowances = burst / allowance(HOURLY);
        assert!((7.0..1.0 + (10_000.0_f64 / 6.0).ln() + 0.3).contains(&allowances), "{allowances}");
        // The next hour has its requests, less those of the burst that time has not paid for.
        assert!(budget.hour(168, 6_000) > 0.3 * HOURLY);
        assert!((budget.hour(169, 6_000) / HOURLY - 1.0).abs() < 0.02);
    }

    #[test]
    fn audits_and_certain_requests_use_up_the_budget_but_for_a_tenth() {
        for (certain, left) in [(0, HOURLY), (30, 30.0), (54, 6.0), (600, 6.0)] {
            let mut budget = ReviewBudget::new(HOURLY);
            let mut requests = 0.0;
            for minute in 0..1_200 {
                for second in 0..60 {
                    let hours = (f64::from(minute) + f64::from(second) / 60.0) / 60.0;
                    // Half of the others are certain, half are ten audits with a probability of .1.
                    if certain > 0 && (minute * 60 + second) % (7_200 / certain) == 0 {
                        budget.on_decision(&decision(vec![ReviewReason::Category], 0.01, 1.0));
                        for _ in 0..10 {
                            budget.on_decision(&decision(Vec::new(), 0.1, 0.0));
                        }
                    }
                    let requested = budget.near(hours);
                    requests += if minute >= 600 { requested } else { 0.0 };
                }
            }
            let hourly = requests / 10.0;
            assert!((hourly / left - 1.0).abs() < 0.05, "{certain}: {hourly} instead of {left}");
        }
    }

    #[test]
    fn a_member_uses_its_share_and_a_policy_without_a_budget_is_not_thinned() {
        let start = Instant::now();
        let (mut budgets, policies) = (ReviewBudgets::new(start), Policies::default());
        let mut policy = policies.get("default").unwrap().clone();
        let requests = |budgets: &mut ReviewBudgets, policy: &Policy, from: u32| -> f64 {
            let at = |second: u32| start + Duration::from_secs(u64::from(from) * 3_600 + u64::from(second));
            let near = |second| {
                let factor = budgets.thinning(policy, at(second));
                budgets.on_decision(&decision(Vec::new(), 0.0, factor));
                factor
            };
            (0..3_600).map(near).sum()
        };
        assert_eq!(requests(&mut budgets, &policy, 0), 3_600.0);
        policy.review_budget = NonZeroU32::new(120);
        requests(&mut budgets, &policy, 1);
        assert!((requests(&mut budgets, &policy, 2) / 120.0 - 1.0).abs() < 0.02);
        budgets.set_share(2, 6, start + Duration::from_secs(3 * 3_600));
        let first = requests(&mut budgets, &policy, 3);
        assert!((first / 40.0 - 1.0).abs() < 0.15, "{first} in the hour after the share has fallen");
        assert!((requests(&mut budgets, &policy, 4) / 40.0 - 1.0).abs() < 0.02);
        // A number of partitions that is not known, or that has grown since, gives at most the whole budget.
        budgets.set_share(3, 0, start + Duration::from_secs(5 * 3_600));
        assert_eq!(budgets.share, 1.0);
        budgets.set_share(0, 6, start + Duration::from_secs(5 * 3_600));
        assert_eq!(budgets.share, 1.0, "a member without partitions decides nothing");
        policy.review_budget = None;
        assert_eq!(requests(&mut budgets, &policy, 5), 3_600.0);
    }

    #[test]
    fn restarts_do_not_add_allowances() {
        let mut requests = 0.0;
        for _ in 0..60 {
            // A new process each minute, which reads ten events near the threshold.
            let mut budget = ReviewBudget::new(HOURLY);
            requests += (0..10).map(|at| budget.near(f64::from(at) / 600.0)).sum::<f64>();
        }
        // Without a memory each start draws until its own level is above the allowance.
        assert!(requests < 60.0 * 6.5, "{requests}");
    }

    proptest! {
        #[test]
        fn the_factor_is_a_probability_and_time_alone_raises_it(
            steps in prop::collection::vec((0.0..2.0_f64, 0_u32..40, 0.0..=1.0_f64), 1..60),
        ) {
            let mut budget = ReviewBudget::new(HOURLY);
            let (mut hours, mut requests, mut events) = (0.0, 0.0, 0.0);
            for (wait, near, probability) in steps {
                hours += wait;
                let mut last = budget.thinning(HOURLY, hours);
                prop_assert!(last > 0.0 && last <= 1.0);
                for _ in 0..near {
                    let factor = budget.thinning(HOURLY, hours);
                    prop_assert!(factor <= last && factor > 0.0, "{factor} after {last}");
                    last = factor;
                    budget.on_decision(&decision(Vec::new(), 0.0, factor * probability));
                    requests += factor * probability;
                    events += 1.0;
                }
                // A clock that goes back changes nothing.
                prop_assert!(budget.thinning(HOURLY, hours - 1.0) <= last);
            }
            let allowance = allowance(HOURLY);
            let bound = HOURLY * hours + allowance * (1.0 + (1.0 + events / allowance).ln()) + 1.0;
            prop_assert!(requests <= bound, "{requests} above {bound}");
        }
    }
}
