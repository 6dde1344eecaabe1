//! The parts of spans: their times, ids and common attributes, and the commits that they are linked to.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId as OtelSpanId, SpanKind, Status, TraceFlags, TraceId as OtelTraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::context::Trace;
use crate::core::trace::{SpanId, TraceId, span_id, trace_id};

/// Converts instants to times of day.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    day: SystemTime,
    pub(super) now: Instant,
}

impl Clock {
    pub fn now() -> Self {
        Self { day: SystemTime::now(), now: Instant::now() }
    }

    pub fn at(&self, when: Instant) -> SystemTime {
        self.day.checked_sub(self.now.saturating_duration_since(when)).unwrap_or(UNIX_EPOCH)
    }
}

/// The attributes of all spans of a role.
#[derive(Debug)]
pub struct RoleAttributes {
    /// The consumer group.
    pub group: String,
    /// The name of the process within the group.
    pub instance: String,
    /// The instrumentation scope.
    pub scope: InstrumentationScope,
}

/// The commit of a batch: a trace of its own, to which the span of each event in it is linked.
#[derive(Debug)]
pub struct Commit {
    trace: TraceId,
    span: SpanId,
    began: SystemTime,
    ended: SystemTime,
    records: usize,
}

impl Commit {
    /// Creates the commit from `began` until now.
    pub fn new(clock: &Clock, role: &RoleAttributes, began: Instant, records: usize) -> Self {
        let (began, ended) = (clock.at(began), clock.day);
        // No two commits of a process end at the same time.
        let time = ended.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_le_bytes();
        let parts: [&[u8]; 4] = [b"commit", role.group.as_bytes(), role.instance.as_bytes(), &time];
        Self { trace: trace_id(&parts), span: span_id(&parts), began, ended, records }
    }

    /// Returns the span of the commit.
    pub fn span(&self, role: &RoleAttributes) -> SpanData {
        let attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "commit"),
            KeyValue::new("messaging.operation.type", "settle"),
            KeyValue::new("messaging.consumer.group.name", role.group.clone()),
            KeyValue::new("messaging.batch.message_count", whole(self.records)),
        ];
        SpanData {
            span_kind: SpanKind::Client,
            attributes,
            ..span(self.context(), "commit", self.began, self.ended, role)
        }
    }

    /// Returns the context that other spans link to.
    pub fn context(&self) -> SpanContext {
        context(self.trace, self.span, TraceState::default())
    }

    /// Returns the time at which it ended.
    pub fn ended(&self) -> SystemTime {
        self.ended
    }

    /// Returns the ids of another span at this time, in a trace of its own.
    pub fn named(&self, name: &str) -> (TraceId, SpanId) {
        let parts: [&[u8]; 2] = [name.as_bytes(), &self.span];
        (trace_id(&parts), span_id(&parts))
    }
}

/// Returns the context of a span within the trace of `trace`, with its `tracestate`.
pub fn inner_context(trace: &Trace, id: SpanId) -> SpanContext {
    let state = TraceState::from_str(&trace.state).unwrap_or_default();
    context(trace.own.trace, id, state)
}

/// Returns the context of a sampled span.
pub fn context(trace: TraceId, span: SpanId, state: TraceState) -> SpanContext {
    SpanContext::new(
        OtelTraceId::from_bytes(trace),
        OtelSpanId::from_bytes(span),
        TraceFlags::SAMPLED,
        false,
        state,
    )
}

/// Returns the span with the ids of `trace`, without attributes.
pub fn own_span(
    trace: &Trace,
    name: impl Into<Cow<'static, str>>,
    start_time: SystemTime,
    end_time: SystemTime,
    role: &RoleAttributes,
) -> SpanData {
    SpanData {
        parent_span_id: OtelSpanId::from_bytes(trace.parent.unwrap_or_default()),
        parent_span_is_remote: trace.parent.is_some(),
        ..span(inner_context(trace, trace.own.span), name, start_time, end_time, role)
    }
}

/// Returns a span without a parent and without attributes.
pub fn span(
    span_context: SpanContext,
    name: impl Into<Cow<'static, str>>,
    start_time: SystemTime,
    end_time: SystemTime,
    role: &RoleAttributes,
) -> SpanData {
    SpanData {
        span_context,
        parent_span_id: OtelSpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time,
        end_time,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: role.scope.clone(),
    }
}

/// Converts a count to the type of attributes.
pub fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn role() -> RoleAttributes {
        let scope = InstrumentationScope::builder("aegis").build();
        RoleAttributes { group: "g".into(), instance: "one".into(), scope }
    }

    pub fn attribute(span: &SpanData, name: &str) -> Option<String> {
        let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
        found.map(|attribute| attribute.value.to_string())
    }
}
