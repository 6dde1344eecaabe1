//! Experts that are asked only if their votes could change the decision, or if a draw selects them.
//!
//! The panel is first asked without them. Once the others have answered, [`Deferral::next`] returns the expert to ask next,
//! or `None` if no outcome of the experts that are still unasked changes the decision. The check uses the predictor and
//! the policy with which the event is decided right after it, so a skipped expert is proven not to have mattered to the
//! decision that is written, whatever was published or reloaded between the two phases.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::in_flight::AnsweredEvent;
use crate::core::decisive::{Decisive, Unasked, decisive};
use crate::core::draw::Draws;
use crate::core::event::Event;
use crate::core::policy::Policy;
use crate::core::predictor::Predictor;
use crate::core::vote::{Abstention, Outcome, Vote};
use crate::experts::{Ask, Asked, ExpertInfo, RunCost};

/// The cost of an expert before its first run, in seconds. It is above that of most experts, so that a known cost
/// precedes an unknown one.
const UNKNOWN_COST: f64 = 1.0;
/// The weight of a run in the mean cost of an expert.
const COST_STEP: f64 = 0.05;

/// The experts of one panel that are asked only when they matter.
pub struct Deferral {
    /// Their indices in the panel.
    experts: Vec<usize>,
    /// By expert of the panel, the mean time of a text in seconds; `None` before its first run.
    costs: Vec<Option<f64>>,
    /// The probability with which each of them is asked in any case.
    explore: f64,
}

impl Deferral {
    /// The deferral of a panel's experts.
    #[must_use]
    pub fn new(experts: &[ExpertInfo], explore: f64) -> Self {
        let deferred = experts.iter().enumerate().filter(|(_, expert)| expert.ask == Ask::WhenDecisive);
        let deferred = deferred.map(|(at, _)| at).collect();
        Self { experts: deferred, costs: vec![None; experts.len()], explore }
    }

    /// Draws the deferred experts that are asked about an event in any case. The draw of an expert does not depend on
    /// anything but the event, the policy and its secret, so that votes that are drawn are a fair sample. The heads of an
    /// encoder are drawn together, because one run answers for all of them.
    #[must_use]
    pub fn explored(&self, event: &Event, policy: &Policy, experts: &[ExpertInfo]) -> Arc<[usize]> {
        if self.experts.is_empty() {
            return Arc::new([]);
        }
        let draws = Draws::new(policy.learner.seed.as_deref().unwrap_or_default(), &policy.name);
        let purpose = format!("explore {}", event.tenant);
        let is_drawn = |at: &usize| draws.uniform(&event.id, unit(&experts[*at]), &purpose) < self.explore;
        self.experts.iter().copied().filter(is_drawn).collect()
    }

    /// The choice of experts for the first phase.
    #[must_use]
    pub fn first_phase(&self, explored: &[usize]) -> Asked {
        if self.experts.len() == explored.len() {
            return Asked::All;
        }
        Asked::Without(self.experts.iter().copied().filter(|at| !explored.contains(at)).collect())
    }

    /// The index in the panel of the expert to ask next, or `None` if the event can be decided: no expert is unasked, or
    /// none of them could change the decision. Votes of experts in shadow mode are marked.
    pub fn next(
        &self,
        answered: &AnsweredEvent,
        shadow: &BTreeSet<String>,
        experts: &[ExpertInfo],
        policy: &Policy,
        predictor: &mut Predictor,
    ) -> Option<usize> {
        let unasked = |at: &usize| is_unasked(&answered.votes[*at]);
        let indices: Vec<usize> = self.experts.iter().copied().filter(unasked).collect();
        if indices.is_empty() {
            return None;
        }
        let unasked: Vec<Unasked<'_>> = indices
            .iter()
            .map(|at| Unasked {
                expert: &experts[*at].id,
                categories: &experts[*at].categories,
                shadow: shadow.contains(&experts[*at].id),
                cost: self.costs[*at].unwrap_or(UNKNOWN_COST),
            })
            .collect();
        let (event, features) = (&answered.event.event.id, answered.features.as_ref());
        match decisive(predictor, policy, event, &answered.votes, features, &unasked) {
            Decisive::Yes(first) => Some(indices[first]),
            Decisive::No => None,
        }
    }

    /// The indices of an unasked expert and of the others that its run answers for as well: those that are unasked, and
    /// vote on the same encoder.
    pub fn asked_together(&self, expert: usize, votes: &[Vote], experts: &[ExpertInfo]) -> Arc<[usize]> {
        let same_run = |at: &usize| unit(&experts[*at]) == unit(&experts[expert]) && is_unasked(&votes[*at]);
        self.experts.iter().copied().filter(same_run).collect()
    }

    /// Takes the cost of a run into the mean costs. A head costs the time of its encoder as well.
    #[expect(clippy::cast_precision_loss, reason = "a run has few texts")]
    pub fn on_run(&mut self, run: &RunCost) {
        for (at, took) in &run.experts {
            if let Some(cost) = self.costs.get_mut(*at) {
                // Only the run of an encoder has time in one.
                let text = (run.encoder + *took).as_secs_f64() / run.texts.max(1) as f64;
                *cost = Some(cost.map_or(text, |mean| mean + COST_STEP * (text - mean)));
            }
        }
    }
}

/// The id of what runs for an expert: its encoder, or itself.
fn unit(expert: &ExpertInfo) -> &str {
    expert.encoder.as_deref().unwrap_or(&expert.id)
}

fn is_unasked(vote: &Vote) -> bool {
    vote.outcome == Outcome::Abstained(Abstention::NotNeeded)
}

/// Marks the votes of experts that were drawn.
pub fn mark_explored(votes: &mut [Vote], explored: &[usize]) {
    for at in explored {
        votes[*at].explored = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Policies;

    /// Without a secret, a sender that chooses the ids of events could choose which are drawn.
    #[test]
    fn the_draws_of_exploration_follow_from_the_secret_of_any_learner() {
        let experts = [ExpertInfo::example("a")];
        let deferral = Deferral::new(&experts, 0.5);
        let policy = Policies::default().get("default").cloned().unwrap();
        let mut keyed = policy.clone();
        keyed.learner.seed = Some(b"hunter2".to_vec());
        keyed.learner.check().unwrap();
        let drawn = |policy: &Policy| -> Vec<bool> {
            let is_drawn = |at: usize| {
                let event = Event { id: at.to_string(), ..event() };
                !deferral.explored(&event, policy, &experts).is_empty()
            };
            (0..64).map(is_drawn).collect()
        };
        assert_eq!(drawn(&policy), drawn(&policy));
        assert_ne!(drawn(&policy), drawn(&keyed));
    }

    fn event() -> Event {
        Event { turns: Vec::new(), ..Event::example("e", "") }
    }

    #[test]
    fn a_head_costs_the_time_of_its_encoder_as_well() {
        let mut deferral = Deferral { experts: vec![0, 1], costs: vec![None; 2], explore: 0.0 };
        let millis = Duration::from_millis;
        let run =
            RunCost { texts: 2, encoder: millis(80), experts: vec![(0, millis(2))], ..RunCost::default() };
        deferral.on_run(&run);
        deferral.on_run(&RunCost { texts: 0, experts: vec![(1, millis(7))], ..RunCost::default() });
        let costs: Vec<f64> = deferral.costs.iter().map(|cost| cost.unwrap()).collect();
        assert!((costs[0] - 0.041).abs() < 1e-9 && (costs[1] - 0.007).abs() < 1e-9, "{costs:?}");
    }
}
