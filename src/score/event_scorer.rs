//! The second and third stage: submits events to the panel, and decides those that it has answered. The pipeline and the
//! requests have one each.

use std::sync::Arc;

use super::in_flight::{AnsweredEvent, InFlightEvents};
use super::outcome::Decider;
use super::predictors::Predictors;
use super::reader::InputEvent;
use super::{PanelHandle, Score, ScoreError, now};
use crate::config::Policies;
use crate::core::predictor::Predictor;
use crate::ops::Health;

/// The events in flight, with the panel, predictors and policies by which they are decided.
pub struct EventScorer {
    /// Decides answered events.
    pub decider: Decider,
    /// The events that the panel works on.
    pub in_flight: InFlightEvents,
    /// The predictors in use.
    pub predictors: Predictors,
    /// The policies in force.
    pub policies: Arc<Policies>,
    /// The experts in use.
    pub panel: Arc<PanelHandle>,
}

impl EventScorer {
    /// Takes changed policies and a changed panel. Policies may name experts of a newer panel, so policies are read before
    /// the panel and applied after it.
    ///
    /// # Errors
    /// Returns an error if the panel's threads cannot be started, or if the policies do not fit the panel.
    pub fn reload(&mut self, score: &Score) -> Result<(), ScoreError> {
        let policies_changed = score.policies.renew(&mut self.policies).is_some();
        let panel_changed = score.panel.renew(&mut self.panel).is_some();
        if panel_changed {
            self.in_flight.on_panel(&self.panel.panel)?;
        }
        if policies_changed || panel_changed {
            self.decider.on_reload(&self.policies, &self.panel);
            self.predictors.on_reload(&self.policies, self.panel.identity())?;
            self.in_flight.on_policies(&self.policies)?;
        }
        Ok(())
    }

    /// Submits an accepted event to the panel. Call only if there is [`room`](InFlightEvents::room).
    ///
    /// # Errors
    /// Returns [`ScoreError::Invariant`] if the event's policy is not in force, and an error if the panel refuses the event.
    pub fn submit(&mut self, event: InputEvent) -> Result<(), ScoreError> {
        let Some(policy) = self.policies.get(&event.event.policy) else {
            let what = format!("policy {} of an accepted event is in force", event.event.policy);
            return Err(ScoreError::Invariant { what });
        };
        self.in_flight.submit(event, policy)
    }

    /// Decides an answered event with `decide`. If an expert that was not asked could change the decision, that expert is
    /// asked instead, the event is answered again, and `None` is returned.
    ///
    /// # Errors
    /// Returns the errors of `decide`, and an error if the policy has no predictor or the panel refuses the event.
    pub fn on_answer<T>(
        &mut self,
        mut answered: AnsweredEvent,
        decide: impl FnOnce(&mut Decider, AnsweredEvent, &mut Predictor) -> Result<T, ScoreError>,
    ) -> Result<Option<T>, ScoreError> {
        self.decider.mark_shadow(&mut answered.votes);
        let predictor = self.predictors.get_mut(&answered.event.event.policy)?;
        if let Some(policy) = self.policies.get(&answered.event.event.policy)
            && let Some(expert) = self.in_flight.next_expert(&answered, &self.panel.shadow, policy, predictor)
        {
            self.in_flight.ask_again(answered, expert)?;
            return Ok(None);
        }
        decide(&mut self.decider, answered, predictor).map(Some)
    }

    /// Reports the experts and the predictors to health and metrics.
    pub fn report(&mut self, health: &Health) {
        self.in_flight.report(health, &self.panel.shadow);
        self.predictors.report(health, now());
    }
}
