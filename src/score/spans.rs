//! The span of an event: the times and results of its stages.

use std::time::Instant;

use crate::core::decision::{Decision, Origin};
use crate::core::event::Millis;
use crate::core::vote;
use crate::dead_letter::Reason;
use crate::experts::RunSpan;
use crate::kafka::Consumed;
use crate::ops::Traces;
use crate::ops::traces::{ExpertRun, Moderation, Outcome, PanelRun, RecordPosition, Trace};

/// The times of the stages of an answered event.
pub struct EventTimes {
    /// When the record was read.
    pub read_at: Instant,
    /// When the event was submitted to the panel.
    pub submitted_at: Instant,
    /// When the last answer arrived.
    pub answered_at: Instant,
    /// By vote, the begin and end of the run that produced it, if there was one.
    pub runs: Vec<Option<RunSpan>>,
}

/// Returns the trace under which the event's span is recorded, or `None` if it is not sampled.
#[must_use]
pub fn trace(
    traces: &Traces,
    headers: &[(String, Option<Vec<u8>>)],
    origin: &Origin,
    timestamp: Millis,
) -> Option<Trace> {
    let Origin { topic, partition, offset } = origin;
    traces.of(headers, RecordPosition { topic, partition: *partition, offset: *offset, time: timestamp })
}

/// Returns the span of an event that was decided here.
#[must_use]
pub fn decided(trace: Trace, decision: &Decision, times: EventTimes) -> Box<Moderation> {
    let EventTimes { read_at, submitted_at, answered_at, runs } = times;
    let experts = decision.votes.iter().zip(runs).filter_map(|(weighed, run)| {
        let RunSpan { began, ended } = run?;
        let outcome = match weighed.vote.outcome {
            vote::Outcome::Voted { .. } => "voted",
            vote::Outcome::Abstained(reason) => reason.word(),
        };
        Some(ExpertRun { id: weighed.vote.expert.clone(), outcome, began, ended })
    });
    let asked = PanelRun { began: submitted_at, ended: answered_at, experts: experts.collect() };
    with_decision(trace, decision, read_at, Some(asked))
}

/// Returns the span of the event of a request, whose decision came with it.
#[must_use]
pub fn recorded(trace: Trace, decision: &Decision, read_at: Instant) -> Box<Moderation> {
    with_decision(trace, decision, read_at, None)
}

fn with_decision(
    trace: Trace,
    decision: &Decision,
    read: Instant,
    asked: Option<PanelRun>,
) -> Box<Moderation> {
    let outcome = Outcome::Decided {
        policy: decision.id.policy.clone(),
        version: decision.policy_version.clone(),
        action: decision.action.word(),
        reviews: decision.reasons.iter().map(|reason| reason.word()).collect(),
        degraded: decision.degraded,
        nothing_to_judge: decision.nothing_to_judge,
        language: decision.language.code(),
        hidden_text: decision.hidden_text.iter().map(|way| way.word()).collect(),
        asked,
    };
    Box::new(Moderation { trace, origin: decision.origin.clone(), read, outcome })
}

/// Returns the span of a record that becomes a dead letter, if it is sampled.
#[must_use]
pub fn dead_letter(
    traces: &Traces,
    record: &Consumed,
    timestamp: Millis,
    reason: &Reason,
) -> Option<Box<Moderation>> {
    let Consumed { topic, partition, offset, headers, .. } = record;
    let origin = Origin { topic: topic.to_string(), partition: *partition, offset: *offset };
    let trace = trace(traces, headers, &origin, timestamp)?;
    Some(Box::new(Moderation { trace, origin, read: Instant::now(), outcome: Outcome::Dead(reason.name) }))
}
