//! The spans of a learner: a label is read, the ledger has it, and a predictor that has learned from it is published. Each
//! span is linked to the previous one, and the label to the decision or request that it answers.

use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceState};
use opentelemetry_sdk::trace::{SpanData, SpanLinks};

use super::context::{RecordPosition, traceparent};
use super::spans::{Clock, Commit, RoleAttributes, context, span, whole};
use crate::core::trace::{SpanId, TraceId, Traceparent, is_in_share, span_id, trace_id};

/// A label that is traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Its `traceparent`: the decision or the request that it answers.
    answers: Option<Traceparent>,
    trace: TraceId,
    span: SpanId,
    topic: String,
    partition: i32,
    offset: i64,
    refused: Option<&'static str>,
}

impl Labelled {
    /// Returns the span ids of the label at this position, or `None` if it is not traced. The same label always gets the same
    /// ids. They are in a trace of their own, because its decision may be weeks old.
    pub(super) fn of(
        headers: &[(String, Option<Vec<u8>>)],
        place: RecordPosition<'_>,
        group: &str,
        sample: f64,
    ) -> Option<Self> {
        let answers = traceparent(headers);
        let RecordPosition { topic, partition, offset, time } = place;
        let (at, from, time) = (partition.to_le_bytes(), offset.to_le_bytes(), time.to_le_bytes());
        let parts: [&[u8]; 6] = [b"label", group.as_bytes(), topic.as_bytes(), &at, &from, &time];
        let (trace, span) = (trace_id(&parts), span_id(&parts));
        if !answers.is_some_and(Traceparent::is_sampled) && !is_in_share(span, sample) {
            return None;
        }
        Some(Self { answers, trace, span, topic: topic.to_owned(), partition, offset, refused: None })
    }

    /// Returns `true` if this is the record at this position.
    #[must_use]
    pub fn is_at(&self, partition: i32, offset: i64) -> bool {
        self.partition == partition && self.offset == offset
    }

    /// Marks the label as a dead letter, with the name of the reason.
    pub fn refuse(&mut self, reason: &'static str) {
        self.refused = Some(reason);
    }

    /// Returns the span of the label, from `began` until the commit of its batch.
    pub(super) fn span(
        &self,
        commit: &Commit,
        began: Instant,
        clock: &Clock,
        role: &RoleAttributes,
    ) -> SpanData {
        let mut attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "learn"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", self.topic.clone()),
            KeyValue::new("messaging.destination.partition.id", self.partition.to_string()),
            KeyValue::new("messaging.kafka.offset", self.offset),
            KeyValue::new("messaging.consumer.group.name", role.group.clone()),
        ];
        attributes.extend(self.refused.map(|reason| KeyValue::new("error.type", reason)));
        let answers = self.answers.map(|answers| context(answers.trace, answers.span, TraceState::default()));
        SpanData {
            span_kind: SpanKind::Consumer,
            attributes,
            links: links(answers.iter().chain([&commit.context()])),
            status: if self.refused.is_some() { Status::error("") } else { Status::Unset },
            ..span(
                context(self.trace, self.span, TraceState::default()),
                "label",
                clock.at(began),
                commit.ended(),
                role,
            )
        }
    }
}

/// Returns the span of publishing predictors that reflect these commits, from `began` until now.
pub(super) fn publish(of: &[SpanContext], began: Instant, clock: &Clock, role: &RoleAttributes) -> SpanData {
    let commit = Commit::new(clock, role, began, of.len());
    let (trace, id) = commit.named("publish");
    SpanData {
        span_kind: SpanKind::Producer,
        attributes: vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "publish"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("aegis.units", whole(of.len())),
        ],
        links: links(of),
        ..span(context(trace, id, TraceState::default()), "publish", clock.at(began), commit.ended(), role)
    }
}

fn links<'a>(to: impl IntoIterator<Item = &'a SpanContext>) -> SpanLinks {
    let mut links = SpanLinks::default();
    links.links.extend(to.into_iter().map(|to| Link::with_context(to.clone())));
    links
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::{GIVEN, PLACE, headers};
    use super::*;
    use opentelemetry::InstrumentationScope;

    #[test]
    fn spans_are_linked_from_the_answer_to_the_publishing() {
        let scope = InstrumentationScope::builder("aegis").build();
        let role = RoleAttributes { group: "g".into(), instance: "one".into(), scope };
        let clock = Clock::now();
        let label = Labelled::of(&headers(GIVEN), PLACE, "g", 0.0).unwrap();
        assert_eq!(Labelled::of(&headers(GIVEN), PLACE, "g", 0.0).as_ref(), Some(&label));
        assert_eq!(Labelled::of(&headers("none"), PLACE, "g", 0.0), None);
        assert!(Labelled::of(&headers("none"), PLACE, "g", 1.0).unwrap().answers.is_none());
        let began = Instant::now();
        let commit = Commit::new(&clock, &role, began, 1);
        let own = label.span(&commit, began, &clock, &role);
        let linked: Vec<_> = own.links.iter().map(|link| link.span_context.span_id().to_string()).collect();
        assert_eq!(linked, ["00f067aa0ba902b7".to_owned(), commit.context().span_id().to_string()]);
        assert_ne!(own.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let published = publish(&[commit.context()], began, &clock, &role);
        assert_eq!(published.links.first().unwrap().span_context, commit.context());
        let ids = [&own, &commit.span(&role), &published].map(|span| span.span_context.span_id().to_string());
        assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
        let mut refused = label;
        refused.refuse("TooLate");
        assert_eq!(refused.span(&commit, began, &clock, &role).status, Status::error(""));
    }
}
