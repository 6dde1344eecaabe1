use std::time::Duration;

use super::super::context::tests::{GIVEN, PLACE, headers};
use super::super::spans::tests::{attribute, role};
use super::*;

const MILLI: Duration = Duration::from_millis(1);

fn moderation(outcome: Outcome, read: Instant) -> Moderation {
    let trace = Trace::of(&headers(GIVEN), PLACE, "g", 0.0).unwrap();
    let origin = Origin { topic: "events".into(), partition: 2, offset: 41 };
    Moderation { trace, origin, read, outcome }
}

fn took(span: &SpanData) -> Duration {
    span.end_time.duration_since(span.start_time).unwrap()
}

/// A decision after runs of two experts. `ago` returns the instant of that number of milliseconds before now.
pub fn decided(ago: &impl Fn(u32) -> Instant) -> Outcome {
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
        language: "de",
        hidden_text: vec!["tag_characters", "styled_letters"],
        asked: Some(asked),
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
        ("aegis.language", "de"),
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
fn the_event_of_a_request_is_a_span_that_records_its_decision() {
    let clock = Clock::now();
    let commit = Commit::new(&clock, &role(), clock.now, 1);
    let mut outcome = decided(&|_| clock.now);
    if let Outcome::Decided { asked, .. } = &mut outcome {
        *asked = None;
    }
    let spans = moderation_spans(&moderation(outcome, clock.now), &commit, &clock, &role());
    let [own] = spans.as_slice() else { panic!("{} spans", spans.len()) };
    assert_eq!((own.name.as_ref(), &own.span_kind), ("record", &SpanKind::Consumer));
    assert_eq!(attribute(own, "messaging.operation.name").as_deref(), Some("record"));
    assert_eq!(attribute(own, "aegis.action").as_deref(), Some("block"));
    assert_eq!(own.links.links.len(), 1);
}

#[test]
fn a_dead_letter_is_a_span_that_failed() {
    let clock = Clock::now();
    let commit = Commit::new(&clock, &role(), clock.now, 1);
    let spans = moderation_spans(&moderation(Outcome::Dead("NotAvro"), clock.now), &commit, &clock, &role());
    let [own] = spans.as_slice() else { panic!("{} spans", spans.len()) };
    assert_eq!(attribute(own, "error.type").as_deref(), Some("NotAvro"));
    assert_eq!(own.status, Status::error(""));
}
