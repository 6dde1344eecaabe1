//! What spans say. Their attributes follow OpenTelemetry's conventions for messaging; none holds what a user wrote.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, SpanContext, SpanId as Span, SpanKind, Status, TraceFlags, TraceId as Whole, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::context::Trace;
use crate::core::decision::Origin;
use crate::core::trace::{SpanId, TraceId, span_id, trace_id};

/// What there is to say of an event that is traced, once it has its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moderation {
    /// Its span's name for others.
    pub trace: Trace,
    /// Where it was consumed.
    pub origin: Origin,
    /// When it was read.
    pub read: Instant,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was decided.
    Decided {
        /// The policy's name.
        policy: String,
        /// The policy's version.
        version: String,
        /// What is done: the action's word.
        action: &'static str,
        /// Why a person should look: the reason's word.
        review: Option<&'static str>,
        /// An expert of the panel abstained.
        degraded: bool,
        /// There was nothing to judge.
        nothing_to_judge: bool,
        /// The ways in which text was hidden: their words.
        hidden_text: Vec<&'static str>,
        /// How the panel was asked.
        asked: PanelRun,
    },
    /// It is a dead letter, for the reason of that name.
    Dead(&'static str),
}

/// How the panel was asked about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelRun {
    /// When it was.
    pub began: Instant,
    /// When all answers were there.
    pub ended: Instant,
    /// Those of whom a run is known.
    pub experts: Vec<ExpertRun>,
}

/// A run of which an expert's answer came. It may have held other events' texts as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertRun {
    /// The expert's id.
    pub id: String,
    /// `voted`, or why it abstained.
    pub outcome: &'static str,
    /// When a worker took it up.
    pub began: Instant,
    /// When the answer was there.
    pub ended: Instant,
}

/// Tells at what time of day something was.
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

/// The commit of a unit: a trace of its own, to which the span of each event in it is linked.
#[derive(Debug)]
pub struct Commit {
    trace: TraceId,
    span: SpanId,
    began: SystemTime,
    ended: SystemTime,
    records: usize,
}

/// What all spans of a role have in common.
#[derive(Debug)]
pub struct Common {
    /// Consumer group.
    pub group: String,
    /// The process's name within it.
    pub instance: String,
    /// Who makes the spans.
    pub scope: InstrumentationScope,
}

impl Commit {
    /// From `began` until now.
    pub fn new(clock: &Clock, common: &Common, began: Instant, records: usize) -> Self {
        let (began, ended) = (clock.at(began), clock.day);
        // No two commits of a process end at one time.
        let time = ended.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_le_bytes();
        let parts: [&[u8]; 4] = [b"commit", common.group.as_bytes(), common.instance.as_bytes(), &time];
        Self { trace: trace_id(&parts), span: span_id(&parts), began, ended, records }
    }

    pub fn span(&self, common: &Common) -> SpanData {
        let attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "commit"),
            KeyValue::new("messaging.operation.type", "settle"),
            KeyValue::new("messaging.consumer.group.name", common.group.clone()),
            KeyValue::new("messaging.batch.message_count", whole(self.records)),
        ];
        SpanData {
            span_kind: SpanKind::Client,
            attributes,
            ..span(self.context(), "commit", self.began, self.ended, common)
        }
    }

    /// What others link to.
    pub fn context(&self) -> SpanContext {
        context(self.trace, self.span, TraceState::default())
    }

    /// When it ended.
    pub fn ended(&self) -> SystemTime {
        self.ended
    }

    /// The ids of another span of this moment, in a trace of its own.
    pub fn named(&self, name: &str) -> (TraceId, SpanId) {
        let parts: [&[u8]; 2] = [name.as_bytes(), &self.span];
        (trace_id(&parts), span_id(&parts))
    }
}

/// The spans of an event: its own first, then those within.
pub fn of(moderation: &Moderation, commit: &Commit, clock: &Clock, common: &Common) -> Vec<SpanData> {
    let Moderation { trace, origin, read, outcome } = moderation;
    let state = TraceState::from_str(&trace.state).unwrap_or_default();
    let named = |id| context(trace.own.trace, id, state.clone());
    let mut own = SpanData {
        parent_span_id: Span::from_bytes(trace.parent.unwrap_or_default()),
        parent_span_is_remote: trace.parent.is_some(),
        span_kind: SpanKind::Consumer,
        attributes: vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "moderate"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", origin.topic.clone()),
            KeyValue::new("messaging.destination.partition.id", origin.partition.to_string()),
            KeyValue::new("messaging.kafka.offset", origin.offset),
            KeyValue::new("messaging.consumer.group.name", common.group.clone()),
        ],
        ..span(named(trace.own.span), "moderate", clock.at(*read), commit.ended, common)
    };
    own.links.links.push(Link::with_context(commit.context()));
    let mut spans = Vec::new();
    match outcome {
        Outcome::Dead(reason) => {
            own.attributes.push(KeyValue::new("error.type", *reason));
            own.status = Status::error("");
        }
        Outcome::Decided {
            policy,
            version,
            action,
            review,
            degraded,
            nothing_to_judge,
            hidden_text,
            asked,
        } => {
            own.attributes.extend([
                KeyValue::new("aegis.policy", policy.clone()),
                KeyValue::new("aegis.policy.version", version.clone()),
                KeyValue::new("aegis.action", *action),
                KeyValue::new("aegis.degraded", *degraded),
            ]);
            own.attributes.extend(review.map(|reason| KeyValue::new("aegis.review", reason)));
            if *nothing_to_judge {
                own.attributes.push(KeyValue::new("aegis.nothing_to_judge", true));
            }
            if !hidden_text.is_empty() {
                own.attributes.push(KeyValue::new("aegis.hidden_text", hidden_text.join(",")));
            }
            let panel = trace.inner("panel");
            spans.push(SpanData {
                parent_span_id: Span::from_bytes(trace.own.span),
                ..span(named(panel), "panel", clock.at(asked.began), clock.at(asked.ended), common)
            });
            spans.extend(asked.experts.iter().map(|expert| {
                let name = format!("expert {}", expert.id);
                let id = named(trace.inner(&name));
                SpanData {
                    parent_span_id: Span::from_bytes(panel),
                    attributes: vec![
                        KeyValue::new("aegis.expert", expert.id.clone()),
                        KeyValue::new("aegis.outcome", expert.outcome),
                    ],
                    ..span(id, name, clock.at(expert.began), clock.at(expert.ended), common)
                }
            }));
        }
    }
    spans.insert(0, own);
    spans
}

pub fn context(trace: TraceId, span: SpanId, state: TraceState) -> SpanContext {
    SpanContext::new(Whole::from_bytes(trace), Span::from_bytes(span), TraceFlags::SAMPLED, false, state)
}

/// A span without a parent and without attributes.
pub fn span(
    span_context: SpanContext,
    name: impl Into<Cow<'static, str>>,
    start_time: SystemTime,
    end_time: SystemTime,
    common: &Common,
) -> SpanData {
    SpanData {
        span_context,
        parent_span_id: Span::INVALID,
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
        instrumentation_scope: common.scope.clone(),
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

    fn common() -> Common {
        let scope = InstrumentationScope::builder("aegis").build();
        Common { group: "g".into(), instance: "one".into(), scope }
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

    #[test]
    fn an_event_is_a_span_with_its_panel_and_experts_within() {
        let clock = Clock::now();
        let ago = |millis: u32| clock.now.checked_sub(MILLI * millis).unwrap();
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
        let outcome = Outcome::Decided {
            policy: "default".into(),
            version: "3".into(),
            action: "block",
            review: Some("near_threshold"),
            degraded: true,
            nothing_to_judge: true,
            hidden_text: vec!["tag_characters", "styled_letters"],
            asked,
        };
        let commit = Commit::new(&clock, &common(), ago(10), 7);
        let spans = of(&moderation(outcome, ago(100)), &commit, &clock, &common());
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
            ("aegis.review", "near_threshold"),
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

        let committed = commit.span(&common());
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
        let commit = Commit::new(&clock, &common(), clock.now, 1);
        let spans = of(&moderation(Outcome::Dead("NotAvro"), clock.now), &commit, &clock, &common());
        let [own] = spans.as_slice() else { panic!("{} spans", spans.len()) };
        assert_eq!(attribute(own, "error.type").as_deref(), Some("NotAvro"));
        assert_eq!(own.status, Status::error(""));
    }
}
