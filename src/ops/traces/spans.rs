//! The contents of spans. Their attributes follow OpenTelemetry's conventions for messaging, and none contains text of users.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, SpanContext, SpanId as OtelSpanId, SpanKind, Status, TraceFlags, TraceId as OtelTraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::context::Trace;
use crate::core::decision::Origin;
use crate::core::trace::{SpanId, TraceId, span_id, trace_id};

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
        /// The names of the techniques of hidden text.
        hidden_text: Vec<&'static str>,
        /// The run of the panel.
        asked: PanelRun,
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

/// Converts instants to times of day.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    day: SystemTime,
    now: Instant,
}

impl Clock {
    pub fn now() -> Self {
        Self { day: SystemTime::now(), now: Instant::now() }
    }

    pub fn at(&self, when: Instant) -> SystemTime {
        self.day.checked_sub(self.now.saturating_duration_since(when)).unwrap_or(UNIX_EPOCH)
    }
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

impl Commit {
    /// Creates the commit from `began` until now.
    pub fn new(clock: &Clock, role: &RoleAttributes, began: Instant, records: usize) -> Self {
        let (began, ended) = (clock.at(began), clock.day);
        // No two commits of a process end at the same time.
        let time = ended.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_le_bytes();
        let parts: [&[u8]; 4] = [b"commit", role.group.as_bytes(), role.instance.as_bytes(), &time];
        Self { trace: trace_id(&parts), span: span_id(&parts), began, ended, records }
    }

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

/// Returns the spans of an event: its own first, then those within it.
pub fn moderation_spans(
    moderation: &Moderation,
    commit: &Commit,
    clock: &Clock,
    role: &RoleAttributes,
) -> Vec<SpanData> {
    let Moderation { trace, origin, read, outcome } = moderation;
    let mut own = SpanData {
        parent_span_id: OtelSpanId::from_bytes(trace.parent.unwrap_or_default()),
        parent_span_is_remote: trace.parent.is_some(),
        span_kind: SpanKind::Consumer,
        attributes: vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "moderate"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", origin.topic.clone()),
            KeyValue::new("messaging.destination.partition.id", origin.partition.to_string()),
            KeyValue::new("messaging.kafka.offset", origin.offset),
            KeyValue::new("messaging.consumer.group.name", role.group.clone()),
        ],
        ..span(inner_context(trace, trace.own.span), "moderate", clock.at(*read), commit.ended, role)
    };
    own.links.links.push(Link::with_context(commit.context()));
    own.attributes.extend(outcome_attributes(outcome));
    let mut spans = Vec::new();
    match outcome {
        Outcome::Dead(_) => {
            own.status = Status::error("");
            spans.push(own);
        }
        Outcome::Decided { asked, .. } => {
            spans.push(own);
            spans.extend(panel_spans(trace, asked, clock, role));
        }
    }
    spans
}

fn inner_context(trace: &Trace, id: SpanId) -> SpanContext {
    let state = TraceState::from_str(&trace.state).unwrap_or_default();
    context(trace.own.trace, id, state)
}

fn outcome_attributes(outcome: &Outcome) -> Vec<KeyValue> {
    match outcome {
        Outcome::Dead(reason) => vec![KeyValue::new("error.type", *reason)],
        Outcome::Decided {
            policy,
            version,
            action,
            reviews,
            degraded,
            nothing_to_judge,
            hidden_text,
            ..
        } => {
            let mut attributes = vec![
                KeyValue::new("aegis.policy", policy.clone()),
                KeyValue::new("aegis.policy.version", version.clone()),
                KeyValue::new("aegis.action", *action),
                KeyValue::new("aegis.degraded", *degraded),
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

pub fn context(trace: TraceId, span: SpanId, state: TraceState) -> SpanContext {
    SpanContext::new(
        OtelTraceId::from_bytes(trace),
        OtelSpanId::from_bytes(span),
        TraceFlags::SAMPLED,
        false,
        state,
    )
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

pub fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::context::tests::{GIVEN, PLACE, headers};
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn role() -> RoleAttributes {
        let scope = InstrumentationScope::builder("aegis").build();
        RoleAttributes { group: "g".into(), instance: "one".into(), scope }
    }

    fn moderation(outcome: Outcome, read: Instant) -> Moderation {
        let trace = Trace::of(&headers(GIVEN), PLACE, "g", 0.0).unwrap();
        let origin = Origin { topic: "events".into(), partition: 2, offset: 41 };
        Moderation { trace, origin, read, outcome }
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
        found.map(|attribute| attribute.value.to_string())
    }

    fn took(span: &SpanData) -> Duration {
        span.end_time.duration_since(span.start_time).unwrap()
    }

    /// A decision after runs of two experts. `ago` returns the instant of that number of milliseconds before now.
    fn decided(ago: &impl Fn(u32) -> Instant) -> Outcome {
        let expert = |id: &str, outcome, began, ended| ExpertRun {
            id: id.into(),
            outcome,
            began: ago(began),
            ended: ago(ended),
        };
        let asked = PanelRun {
            began: ago(90),
            ended: ago(30),
            experts: vec![expert("rules", "voted", 80, 79), expert("large", "timed_out", 70, 40)],
        };
        Outcome::Decided {
            policy: "default".into(),
            version: "3".into(),
            action: "block",
            reviews: vec!["near_threshold", "audit"],
            degraded: true,
            nothing_to_judge: true,
            hidden_text: vec!["tag_characters", "styled_letters"],
            asked,
        }
    }

    #[test]
    fn an_event_is_a_span_with_its_panel_and_experts_within() {
        let clock = Clock::now();
        let ago = |millis: u32| clock.now.checked_sub(MILLI * millis).unwrap();
        let commit = Commit::new(&clock, &role(), ago(10), 7);
        let spans = moderation_spans(&moderation(decided(&ago), ago(100)), &commit, &clock, &role());
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["moderate", "panel", "expert rules", "expert large"]);
        let [own, panel, rules, large] = spans.as_slice() else { panic!("{names:?}") };

        assert_eq!(own.span_kind, SpanKind::Consumer);
        assert_eq!(own.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(own.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert!(own.parent_span_is_remote && own.span_context.is_sampled());
        assert_eq!(own.span_context.trace_state().get("vendor"), Some("x"));
        for (name, value) in [
            ("messaging.system", "kafka"),
            ("messaging.destination.name", "events"),
            ("messaging.destination.partition.id", "2"),
            ("messaging.kafka.offset", "41"),
            ("messaging.consumer.group.name", "g"),
            ("aegis.policy", "default"),
            ("aegis.policy.version", "3"),
            ("aegis.action", "block"),
            ("aegis.review", "near_threshold,audit"),
            ("aegis.degraded", "true"),
            ("aegis.nothing_to_judge", "true"),
            ("aegis.hidden_text", "tag_characters,styled_letters"),
        ] {
            assert_eq!(attribute(own, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(panel.parent_span_id, own.span_context.span_id());
        for expert in [rules, large] {
            assert_eq!(expert.parent_span_id, panel.span_context.span_id());
        }
        assert_eq!(attribute(large, "aegis.outcome").as_deref(), Some("timed_out"));
        assert_eq!([own, panel, rules, large].map(took), [MILLI * 100, MILLI * 60, MILLI, MILLI * 30]);

        let committed = commit.span(&role());
        assert_eq!(took(&committed), MILLI * 10);
        assert_eq!(attribute(&committed, "messaging.batch.message_count").as_deref(), Some("7"));
        let [link] = own.links.links.as_slice() else { panic!("no link") };
        assert_eq!(link.span_context, committed.span_context);
        assert_ne!(committed.span_context.trace_id(), own.span_context.trace_id());
        let mut ids: Vec<_> = spans.iter().map(|span| span.span_context.span_id().to_string()).collect();
        ids.push(committed.span_context.span_id().to_string());
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn a_dead_letter_is_a_span_that_failed() {
        let clock = Clock::now();
        let commit = Commit::new(&clock, &role(), clock.now, 1);
        let spans =
            moderation_spans(&moderation(Outcome::Dead("NotAvro"), clock.now), &commit, &clock, &role());
        let [own] = spans.as_slice() else { panic!("{} spans", spans.len()) };
        assert_eq!(attribute(own, "error.type").as_deref(), Some("NotAvro"));
        assert_eq!(own.status, Status::error(""));
    }
}
