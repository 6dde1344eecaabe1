//! The spans of moderated events. Their attributes follow OpenTelemetry's conventions for messaging, and none contains text
//! of users.

use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanId as OtelSpanId, SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;

use super::context::Trace;
use super::spans::{Clock, Commit, RoleAttributes, inner_context, own_span, span};
use crate::core::decision::Origin;

/// A traced event with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moderation {
    /// The ids of its span.
    pub trace: Trace,
    /// The position from which it was consumed.
    pub origin: Origin,
    /// The time at which it was read.
    pub read: Instant,
    /// The outcome.
    pub outcome: Outcome,
}

/// The outcome of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was decided.
    Decided {
        /// The name of the policy.
        policy: String,
        /// The version of the policy.
        version: String,
        /// The name of the action.
        action: &'static str,
        /// The names of the reasons for review.
        reviews: Vec<&'static str>,
        /// An expert of the panel abstained.
        degraded: bool,
        /// There was nothing to judge.
        nothing_to_judge: bool,
        /// The code of the judged text's language.
        language: &'static str,
        /// The names of the techniques of hidden text.
        hidden_text: Vec<&'static str>,
        /// The run of the panel. `None` if the decision was made for a request, whose span has the run.
        asked: Option<PanelRun>,
    },
    /// It became a dead letter, with the name of the reason.
    Dead(&'static str),
}

/// The run of the panel on an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelRun {
    /// The time at which it began.
    pub began: Instant,
    /// The time of the last answer.
    pub ended: Instant,
    /// The experts with a known run.
    pub experts: Vec<ExpertRun>,
}

/// A run of an expert, which may have included texts of other events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertRun {
    /// The id of the expert.
    pub id: String,
    /// `voted`, or the name of the abstention.
    pub outcome: &'static str,
    /// The time at which a worker started it.
    pub began: Instant,
    /// The time of the answer.
    pub ended: Instant,
}

/// Returns the spans of an event: its own first, then those within it.
pub fn moderation_spans(
    moderation: &Moderation,
    commit: &Commit,
    clock: &Clock,
    role: &RoleAttributes,
) -> Vec<SpanData> {
    let Moderation { trace, origin, read, outcome } = moderation;
    // The decision of a request is not made here, and its event has an outcome here all the same.
    let name = match outcome {
        Outcome::Decided { asked: None, .. } => "record",
        _ => "moderate",
    };
    let mut own = SpanData {
        span_kind: SpanKind::Consumer,
        attributes: vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", name),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", origin.topic.clone()),
            KeyValue::new("messaging.destination.partition.id", origin.partition.to_string()),
            KeyValue::new("messaging.kafka.offset", origin.offset),
            KeyValue::new("messaging.consumer.group.name", role.group.clone()),
        ],
        ..own_span(trace, name, clock.at(*read), commit.ended(), role)
    };
    own.links.links.push(Link::with_context(commit.context()));
    own.attributes.extend(outcome_attributes(outcome));
    if matches!(outcome, Outcome::Dead(_)) {
        own.status = Status::error("");
    }
    with_panel(own, trace, outcome, clock, role)
}

/// Returns the span of an event, then those of its panel and experts, if they ran.
pub fn with_panel(
    own: SpanData,
    trace: &Trace,
    outcome: &Outcome,
    clock: &Clock,
    role: &RoleAttributes,
) -> Vec<SpanData> {
    let mut spans = vec![own];
    if let Outcome::Decided { asked: Some(asked), .. } = outcome {
        spans.extend(panel_spans(trace, asked, clock, role));
    }
    spans
}

/// Returns the attributes of an outcome, which are the same for events and for texts of requests.
pub fn outcome_attributes(outcome: &Outcome) -> Vec<KeyValue> {
    match outcome {
        Outcome::Dead(reason) => vec![KeyValue::new("error.type", *reason)],
        Outcome::Decided {
            policy,
            version,
            action,
            reviews,
            degraded,
            nothing_to_judge,
            language,
            hidden_text,
            ..
        } => {
            let mut attributes = vec![
                KeyValue::new("aegis.policy", policy.clone()),
                KeyValue::new("aegis.policy.version", version.clone()),
                KeyValue::new("aegis.action", *action),
                KeyValue::new("aegis.degraded", *degraded),
                KeyValue::new("aegis.language", *language),
            ];
            if !reviews.is_empty() {
                attributes.push(KeyValue::new("aegis.review", reviews.join(",")));
            }
            if *nothing_to_judge {
                attributes.push(KeyValue::new("aegis.nothing_to_judge", true));
            }
            if !hidden_text.is_empty() {
                attributes.push(KeyValue::new("aegis.hidden_text", hidden_text.join(",")));
            }
            attributes
        }
    }
}

/// Returns the span of the panel, then those of its experts.
fn panel_spans(trace: &Trace, run: &PanelRun, clock: &Clock, role: &RoleAttributes) -> Vec<SpanData> {
    let panel = trace.inner("panel");
    let mut spans = vec![SpanData {
        parent_span_id: OtelSpanId::from_bytes(trace.own.span),
        ..span(inner_context(trace, panel), "panel", clock.at(run.began), clock.at(run.ended), role)
    }];
    spans.extend(run.experts.iter().map(|expert| {
        let name = format!("expert {}", expert.id);
        let id = inner_context(trace, trace.inner(&name));
        SpanData {
            parent_span_id: OtelSpanId::from_bytes(panel),
            attributes: vec![
                KeyValue::new("aegis.expert", expert.id.clone()),
                KeyValue::new("aegis.outcome", expert.outcome),
            ],
            ..span(id, name, clock.at(expert.began), clock.at(expert.ended), role)
        }
    }));
    spans
}

#[cfg(test)]
pub(super) mod tests;
