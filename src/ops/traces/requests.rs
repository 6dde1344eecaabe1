//! The spans of requests over HTTP. Their attributes follow OpenTelemetry's conventions for HTTP servers, and none contains
//! text of users.

use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;

use super::Traces;
use super::context::Trace;
use super::events::{Moderation, outcome_attributes, with_panel};
use super::spans::{Clock, RoleAttributes, own_span, whole};

/// A traced request with its answer.
#[derive(Debug)]
pub struct ServedRequest {
    /// The ids of its span.
    pub trace: Trace,
    /// The method.
    pub method: String,
    /// The path of the endpoint.
    pub route: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The time at which the head of the request had arrived.
    pub began: Instant,
    /// The number of texts to judge.
    pub texts: usize,
    /// The texts that were decided.
    pub decided: Vec<DecidedText>,
}

/// A text of a request that was decided.
#[derive(Debug)]
pub struct DecidedText {
    /// The decision. The ids of its span are a [child](Trace::child) of the request's.
    pub moderation: Box<Moderation>,
    /// The time at which the server received the decision.
    pub ended: Instant,
}

impl Traces {
    /// Returns the span ids of a request that is traced, as [`Traces::of`] does for events. `headers` are those of its trace
    /// context. No two requests have the same `nonce`.
    #[must_use]
    pub fn request(&self, headers: &[(String, Option<Vec<u8>>)], nonce: &[u8]) -> Option<Trace> {
        Trace::of_request(headers, nonce, self.0.as_ref()?.sample)
    }

    /// Sends the spans of an answered request: its own, and those of each text.
    pub fn served(&self, request: &ServedRequest) {
        let Some(pipeline) = &self.0 else { return };
        let clock = Clock::now();
        pipeline.send(vec![request_span(request, &clock, &pipeline.role)]);
        for text in &request.decided {
            pipeline.send(text_spans(text, &clock, &pipeline.role));
        }
    }
}

fn request_span(request: &ServedRequest, clock: &Clock, role: &RoleAttributes) -> SpanData {
    let ServedRequest { trace, method, route, status, began, texts, .. } = request;
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.clone()),
        KeyValue::new("http.route", *route),
        KeyValue::new("http.response.status_code", i64::from(*status)),
        KeyValue::new("url.path", *route),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("aegis.texts", whole(*texts)),
    ];
    // A refusal that the client can avoid is no error of the server.
    let failed = *status >= 500;
    if failed {
        attributes.push(KeyValue::new("error.type", status.to_string()));
    }
    let name = format!("{method} {route}");
    SpanData {
        span_kind: SpanKind::Server,
        attributes,
        status: if failed { Status::error("") } else { Status::Unset },
        ..own_span(trace, name, clock.at(*began), clock.at(Instant::now()), role)
    }
}

/// Returns the span of a text, then those of its panel and experts.
fn text_spans(text: &DecidedText, clock: &Clock, role: &RoleAttributes) -> Vec<SpanData> {
    let Moderation { trace, read, outcome, .. } = text.moderation.as_ref();
    let own = SpanData {
        parent_span_is_remote: false,
        attributes: outcome_attributes(outcome),
        ..own_span(trace, "moderate", clock.at(*read), clock.at(text.ended), role)
    };
    with_panel(own, trace, outcome, clock, role)
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::{GIVEN, headers};
    use super::super::events::tests::decided;
    use super::super::spans::tests::{attribute, role};
    use super::*;
    use crate::core::decision::Origin;

    fn request(status: u16) -> ServedRequest {
        let trace = Trace::of_request(&headers(GIVEN), b"1", 0.0).unwrap();
        let (route, began) = ("/v1/moderations", Instant::now());
        ServedRequest { trace, method: "POST".into(), route, status, began, texts: 2, decided: Vec::new() }
    }

    #[test]
    fn a_request_is_a_servers_span_with_its_texts_within() {
        let (clock, request) = (Clock::now(), request(200));
        let own = request_span(&request, &clock, &role());
        assert_eq!((own.name.as_ref(), &own.span_kind), ("POST /v1/moderations", &SpanKind::Server));
        assert_eq!(own.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(own.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert!(own.parent_span_is_remote && own.status == Status::Unset);
        for (name, value) in [
            ("http.request.method", "POST"),
            ("http.route", "/v1/moderations"),
            ("http.response.status_code", "200"),
            ("url.path", "/v1/moderations"),
            ("url.scheme", "http"),
            ("aegis.texts", "2"),
        ] {
            assert_eq!(attribute(&own, name).as_deref(), Some(value), "{name}");
        }
        let origin = Origin { topic: "events".into(), partition: -1, offset: -1 };
        let now = Instant::now();
        let (trace, outcome) = (request.trace.child("text 0"), decided(&|_| now));
        let moderation = Box::new(Moderation { trace, origin, read: now, outcome });
        let spans = text_spans(&DecidedText { moderation, ended: now }, &clock, &role());
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["moderate", "panel", "expert rules", "expert large"]);
        assert_eq!(
            (spans[0].parent_span_id, spans[0].parent_span_is_remote),
            (own.span_context.span_id(), false)
        );
        assert_eq!(spans[0].span_kind, SpanKind::Internal);
        assert_eq!(attribute(&spans[0], "aegis.language").as_deref(), Some("de"));
        assert_eq!(attribute(&spans[0], "messaging.system"), None, "it is on no topic yet");
        assert_eq!(spans[1].parent_span_id, spans[0].span_context.span_id());
    }

    #[test]
    fn only_an_error_of_the_server_is_a_span_that_failed() {
        let of = |status| request_span(&request(status), &Clock::now(), &role());
        assert_eq!((of(400).status, attribute(&of(400), "error.type")), (Status::Unset, None));
        assert_eq!(of(503).status, Status::error(""));
        assert_eq!(attribute(&of(503), "error.type").as_deref(), Some("503"));
    }
}
