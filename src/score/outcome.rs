//! The third stage: decides answered events. Every record gets exactly one [`Outcome`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::in_flight::AnsweredEvent;
use super::reader::{InputEvent, Record};
use super::review_budget::{ReviewBudgets, is_withheld};
use super::spans::EventTimes;
use super::{PanelHandle, ScoreError, now, spans};
use crate::codec::{self, Encoding};
use crate::config::{Config, Policies};
use crate::core::decision::{Decision, DecisionInput, decide};
use crate::core::event::Millis;
use crate::core::label::DecisionRef;
use crate::core::predictor::Predictor;
use crate::core::review::ReviewRequest;
use crate::core::vote::Vote;
use crate::core::watermark::Ticket;
use crate::dead_letter::{Reason, dead_letter};
use crate::kafka::Produced;
use crate::ops::Traces;
use crate::ops::metrics::{Counted, Decided};
use crate::ops::traces::Moderation;

/// The outcome of one record.
pub enum Outcome {
    /// A decision or a dead letter.
    Output(Box<Output>),
    /// The record is a tombstone, whose offset is committed without an output.
    Skipped,
}

/// A decision or a dead letter, with what is reported after it is committed.
pub struct Output {
    /// The partition and offset of the record.
    pub origin: (i32, i64),
    /// The decision or dead letter.
    pub produced: Produced,
    /// The review request, if the decision asks for one. The decision's offset is filled in after it was sent.
    pub review: Option<ReviewRequest>,
    /// The record's broker timestamp.
    pub timestamp: Millis,
    /// The labels under which the output is counted.
    pub counted: Counted,
    /// The span, if the event is sampled.
    pub span: Option<Box<Moderation>>,
}

/// A decided event: the decision, and what its record takes from that of the event.
pub struct DecidedEvent {
    /// The decision.
    pub decision: Decision,
    /// The key of the event's record.
    pub key: Option<Vec<u8>>,
    /// The headers of the event's record.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The broker timestamp of the event's record.
    pub timestamp: Millis,
    /// The ticket under which the outcome is recorded.
    pub ticket: Ticket<i32>,
}

/// Decides events under the policies in force.
pub struct Decider {
    policies: Arc<Policies>,
    /// The ids of experts in shadow mode, whose votes have no weight.
    shadow: BTreeSet<String>,
    decisions_topic: Arc<str>,
    dlq_topic: Arc<str>,
    encoding: Encoding,
    traces: Traces,
    metrics: Decided,
    /// The review budgets of the policies; `None` if decisions do not depend on the clock.
    budgets: Option<ReviewBudgets>,
}

impl Decider {
    /// Creates a decider that encodes decisions with `encoding`.
    #[must_use]
    pub fn new(
        config: &Config,
        policies: &Arc<Policies>,
        panel: &PanelHandle,
        encoding: Encoding,
        traces: Traces,
    ) -> Self {
        Self {
            policies: Arc::clone(policies),
            shadow: panel.shadow.clone(),
            decisions_topic: config.topics.decisions.as_str().into(),
            dlq_topic: config.topics.dlq.as_str().into(),
            encoding,
            traces,
            metrics: Decided::default(),
            budgets: Some(ReviewBudgets::new(Instant::now())),
        }
    }

    /// Makes decisions that do not depend on the clock: they state no latency, and no review budget thins them.
    #[must_use]
    pub fn without_clock(self) -> Self {
        Self { budgets: None, ..self }
    }

    /// Decides later events under these policies, and without weight for this panel's experts in shadow mode.
    pub fn on_reload(&mut self, policies: &Arc<Policies>, panel: &PanelHandle) {
        self.policies = Arc::clone(policies);
        self.shadow.clone_from(&panel.shadow);
    }

    /// The review budgets.
    pub fn budgets(&mut self) -> Option<&mut ReviewBudgets> {
        self.budgets.as_mut()
    }

    /// The sampled traces.
    #[must_use]
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Returns the dead letter of a record that cannot be used.
    #[must_use]
    pub fn dead_letter(&self, record: Record, reason: &Reason) -> Outcome {
        let Record { ticket, consumed } = record;
        let timestamp = consumed.timestamp.unwrap_or_else(now);
        let span = spans::dead_letter(&self.traces, &consumed, timestamp, reason);
        Outcome::Output(Box::new(Output {
            origin: (ticket.partition, ticket.offset),
            produced: dead_letter(&self.dlq_topic, "score", consumed, reason),
            review: None,
            timestamp,
            counted: Counted::DeadLetter(reason.name),
            span,
        }))
    }

    /// Marks the votes of experts in shadow mode, so that they have no weight.
    pub fn mark_shadow(&self, votes: &mut [Vote]) {
        for vote in votes {
            vote.shadow = self.shadow.contains(&vote.expert);
        }
    }

    /// Combines the votes of an event with its policy's predictor, and decides. The votes of experts in shadow
    /// mode are [marked](Self::mark_shadow).
    ///
    /// # Errors
    /// Returns an error if the decision cannot be encoded, and the errors of [`decide_event`](Self::decide_event).
    pub fn decide(
        &mut self,
        answered: AnsweredEvent,
        predictor: &mut Predictor,
    ) -> Result<Outcome, ScoreError> {
        let (mut decided, times) = self.decide_event(answered, predictor)?;
        // The decision and its review request continue the trace under this event's span.
        let (origin, timestamp) = (&decided.decision.origin, decided.timestamp);
        let trace = spans::trace(&self.traces, &decided.headers, origin, timestamp);
        let span = trace.map(|trace| {
            trace.mark(&mut decided.headers);
            spans::decided(trace, &decided.decision, times)
        });
        self.output(decided, span)
    }

    /// Decides an event without making a record of the decision.
    ///
    /// # Errors
    /// Returns [`ScoreError::Invariant`] if the event's policy is not in force: a reload cannot remove a policy, and the
    /// event was accepted under it.
    pub fn decide_event(
        &mut self,
        answered: AnsweredEvent,
        predictor: &mut Predictor,
    ) -> Result<(DecidedEvent, EventTimes), ScoreError> {
        let AnsweredEvent { event, votes, features, language, times, .. } = answered;
        let trace = event.trace();
        let InputEvent { event, origin, key, headers, round_time, timestamp, read_at, ticket } = event;
        let combined = predictor.combine(&event.id, &votes, features.as_ref());
        let Some(policy) = self.policies.get(&event.policy) else {
            let what = format!("policy {} of an accepted event is in force", event.policy);
            return Err(ScoreError::Invariant { what });
        };
        let budgets = self.budgets.as_mut();
        let thinning = budgets.map_or(1.0, |budgets| budgets.thinning(policy, Instant::now()));
        let input = DecisionInput { event, origin, round_time, votes, features, language, trace, thinning };
        let elapsed = i64::try_from(read_at.elapsed().as_micros()).unwrap_or(i64::MAX);
        let latency = if self.budgets.is_some() { elapsed } else { 0 };
        let decision = decide(input, policy, predictor.reference().clone(), &combined, latency);
        self.metrics.note(&decision);
        if let Some(budgets) = &mut self.budgets {
            budgets.on_decision(&decision);
        }
        Ok((DecidedEvent { decision, key, headers, timestamp, ticket }, times))
    }

    /// Takes the decision that was made for a request as that of its event. Only the place of the event is added, and the
    /// round time follows the broker's clock as well. Its review requests use up the review budget. Its span continues the
    /// request's trace.
    ///
    /// # Errors
    /// Returns an error if the decision cannot be encoded.
    pub fn answered(&mut self, event: InputEvent, decision: Decision) -> Result<Outcome, ScoreError> {
        let InputEvent { origin, key, mut headers, round_time, timestamp, read_at, ticket, .. } = event;
        let decision = Decision { origin, round_time, ..decision };
        if let (Some(budgets), Some(policy)) = (&mut self.budgets, self.policies.get(&decision.id.policy)) {
            budgets.thinning(policy, Instant::now());
            budgets.on_decision(&decision);
        }
        let trace = spans::trace(&self.traces, &headers, &decision.origin, timestamp);
        let span = trace.map(|trace| {
            trace.mark(&mut headers);
            spans::recorded(trace, &decision, read_at)
        });
        self.output(DecidedEvent { decision, key, headers, timestamp, ticket }, span)
    }

    fn output(&self, decided: DecidedEvent, span: Option<Box<Moderation>>) -> Result<Outcome, ScoreError> {
        let DecidedEvent { decision, key, headers, timestamp, ticket } = decided;
        let policy = self.policies.get(&decision.id.policy);
        let counted =
            Counted::decision(&decision, policy.is_some_and(|policy| is_withheld(&decision, policy)));
        let produced = Produced {
            topic: Arc::clone(&self.decisions_topic),
            partition: Some(ticket.partition),
            key,
            payload: Some(codec::encode_decision(&decision, self.encoding)?),
            headers,
            timestamp: None,
        };
        let not_sent_yet = DecisionRef { partition: ticket.partition, offset: -1 };
        Ok(Outcome::Output(Box::new(Output {
            origin: (ticket.partition, ticket.offset),
            produced,
            review: ReviewRequest::of(&decision, not_sent_yet),
            timestamp,
            counted,
            span,
        })))
    }
}
