//! What an event's span tells of its way through the flow.

use std::time::Instant;

use crate::core::decision::{Decision, Origin};
use crate::core::event::Millis;
use crate::core::vote;
use crate::dead_letter::Reason;
use crate::experts::Ran;
use crate::kafka::Consumed;
use crate::ops::Traces;
use crate::ops::traces::{ExpertRun, Moderation, Outcome, PanelRun, RecordPosition, Trace};

/// When things were, of an event that has been asked about.
pub struct Times {
    /// When it was read.
    pub read: Instant,
    /// When the panel was asked.
    pub asked: Instant,
    /// When all its answers were there.
    pub answered: Instant,
    /// By vote, the run that it came of.
    pub ran: Vec<Option<Ran>>,
}

/// The span of an event, if it gets one, before its outcome is known.
#[must_use]
pub fn trace(
    traces: &Traces,
    headers: &[(String, Option<Vec<u8>>)],
    origin: &Origin,
    came: Millis,
) -> Option<Trace> {
    let Origin { topic, partition, offset } = origin;
    traces.of(headers, RecordPosition { topic, partition: *partition, offset: *offset, time: came })
}

/// What there is to say of an event that was decided.
#[must_use]
pub fn decided(trace: Trace, decision: &Decision, times: Times) -> Box<Moderation> {
    let Times { read, asked, answered, ran } = times;
    let experts = decision.votes.iter().zip(ran).filter_map(|(weighed, ran)| {
        let Ran { began, ended } = ran?;
        let outcome = match weighed.vote.outcome {
            vote::Outcome::Voted { .. } => "voted",
            vote::Outcome::Abstained(reason) => reason.word(),
        };
        Some(ExpertRun { id: weighed.vote.expert.clone(), outcome, began, ended })
    });
    let asked = PanelRun { began: asked, ended: answered, experts: experts.collect() };
    let outcome = Outcome::Decided {
        policy: decision.id.policy.clone(),
        version: decision.policy_version.clone(),
        action: decision.action.word(),
        review: decision.review.map(|reason| reason.word()),
        degraded: decision.degraded,
        nothing_to_judge: decision.nothing_to_judge,
        hidden_text: decision.hidden_text.iter().map(|way| way.word()).collect(),
        asked,
    };
    Box::new(Moderation { trace, origin: decision.origin.clone(), read, outcome })
}

/// What there is to say of a record that cannot be used, if it gets a span.
#[must_use]
pub fn dead(traces: &Traces, record: &Consumed, came: Millis, reason: &Reason) -> Option<Box<Moderation>> {
    let Consumed { topic, partition, offset, headers, .. } = record;
    let origin = Origin { topic: topic.to_string(), partition: *partition, offset: *offset };
    let trace = trace(traces, headers, &origin, came)?;
    Some(Box::new(Moderation { trace, origin, read: Instant::now(), outcome: Outcome::Dead(reason.name) }))
}
