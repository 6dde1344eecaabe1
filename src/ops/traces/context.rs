//! The trace context of an event or a request: if it is traced, and the ids of its trace and span.

use crate::core::trace::{
    MAX_LENGTH, SpanId, TRACEPARENT, TraceId, Traceparent, is_in_share, span_id, trace_id,
};

/// The header with data of tracing vendors.
pub const TRACESTATE: &str = "tracestate";
/// The longest `tracestate` that is passed on, in bytes: the length that the specification demands.
pub const MAX_STATE: usize = 512;

type Headers = Vec<(String, Option<Vec<u8>>)>;

/// The position of a record.
#[derive(Debug, Clone, Copy)]
pub struct RecordPosition<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The broker timestamp, in milliseconds since the Unix epoch. It is part of the ids of traces that begin here, because
    /// offsets repeat if a topic is created again.
    pub time: i64,
}

/// The ids of the span of an event or a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The span that sent the event or the request. `None` if the trace begins here.
    pub(super) parent: Option<SpanId>,
    /// The trace and its own span.
    pub(super) own: Traceparent,
    /// The `tracestate`, passed on unchanged.
    pub(super) state: String,
}

fn value<'a>(headers: &'a [(String, Option<Vec<u8>>)], wanted: &str, max_length: usize) -> Option<&'a [u8]> {
    let (_, value) = headers.iter().find(|(name, _)| name == wanted)?;
    value.as_deref().filter(|value| value.len() <= max_length)
}

/// Returns a record's `traceparent`. A malformed one is ignored.
pub(super) fn traceparent(headers: &[(String, Option<Vec<u8>>)]) -> Option<Traceparent> {
    value(headers, TRACEPARENT, MAX_LENGTH).and_then(Traceparent::parse)
}

impl Trace {
    /// Returns the span ids of a record, or `None` if it is not traced. A malformed `traceparent` is ignored.
    pub(super) fn of(
        headers: &[(String, Option<Vec<u8>>)],
        place: RecordPosition<'_>,
        group: &str,
        sample: f64,
    ) -> Option<Self> {
        let RecordPosition { topic, partition, offset, time } = place;
        let (partition, offset, time) = (partition.to_le_bytes(), offset.to_le_bytes(), time.to_le_bytes());
        let (group, topic) = (group.as_bytes(), topic.as_bytes());
        let begins = || trace_id(&[b"trace", group, topic, &partition, &offset, &time]);
        let span = |trace: &TraceId| span_id(&[b"moderate", trace, group, topic, &partition, &offset]);
        Self::sampled(headers, sample, begins, span)
    }

    /// Returns the span ids of a request over HTTP with these headers, or `None` if it is not traced. No two requests have
    /// the same `nonce`.
    pub(super) fn of_request(
        headers: &[(String, Option<Vec<u8>>)],
        nonce: &[u8],
        sample: f64,
    ) -> Option<Self> {
        let begins = || trace_id(&[b"trace", nonce]);
        Self::sampled(headers, sample, begins, |trace| span_id(&[b"request", trace, nonce]))
    }

    /// Returns the ids of a span if the trace of `headers` is sampled, or if the span belongs to the share `sample` of the
    /// others. Without a valid `traceparent`, the trace `begins` here.
    fn sampled(
        headers: &[(String, Option<Vec<u8>>)],
        sample: f64,
        begins: impl FnOnce() -> TraceId,
        span: impl FnOnce(&TraceId) -> SpanId,
    ) -> Option<Self> {
        let parent = traceparent(headers);
        let is_sampled = parent.is_some_and(Traceparent::is_sampled);
        if sample <= 0.0 && !is_sampled {
            return None;
        }
        let trace = parent.map_or_else(begins, |parent| parent.trace);
        let span = span(&trace);
        if !is_sampled && !is_in_share(span, sample) {
            return None;
        }
        let own = parent.map_or_else(|| Traceparent::recorded(trace, span), |parent| parent.with_span(span));
        let state = parent.and_then(|_| std::str::from_utf8(value(headers, TRACESTATE, MAX_STATE)?).ok());
        Some(Self {
            parent: parent.map(|parent| parent.span),
            own,
            state: state.unwrap_or_default().to_owned(),
        })
    }

    /// Returns the ids of a span within this one, of which outputs can be children.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let own = self.own.with_span(self.inner(name));
        Self { parent: Some(self.own.span), own, state: self.state.clone() }
    }

    /// Makes outputs with these headers children of this span: one `traceparent` replaces all others. A `tracestate`
    /// is removed if the trace begins here.
    pub fn mark(&self, headers: &mut Headers) {
        let place = headers.iter().position(|(name, _)| name == TRACEPARENT);
        headers.retain(|(name, _)| name != TRACEPARENT && (self.parent.is_some() || name != TRACESTATE));
        let place = place.unwrap_or(headers.len()).min(headers.len());
        headers.insert(place, (TRACEPARENT.to_owned(), Some(self.own.to_string().into_bytes())));
    }

    /// Returns the id of a span within this one.
    pub(super) fn inner(&self, name: &str) -> SpanId {
        span_id(&[b"within", &self.own.span, name.as_bytes()])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    pub const PLACE: RecordPosition<'_> =
        RecordPosition { topic: "events", partition: 2, offset: 41, time: 1_700_000_000_000 };

    pub fn headers(traceparent: &str) -> Headers {
        vec![
            ("mine".into(), Some(b"1".to_vec())),
            ("traceparent".into(), Some(traceparent.as_bytes().to_vec())),
            ("tracestate".into(), Some(b"vendor=x".to_vec())),
        ]
    }

    fn of(traceparent: &str, place: RecordPosition<'_>, sample: f64) -> Option<Trace> {
        Trace::of(&headers(traceparent), place, "g", sample)
    }

    #[test]
    fn outputs_are_children_of_the_events_span() {
        let trace = of(GIVEN, PLACE, 0.0).unwrap();
        assert_eq!(trace.parent, Some([0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
        assert_eq!(trace.state, "vendor=x");
        let mut marked = headers(GIVEN);
        marked.push(("traceparent".into(), None));
        trace.mark(&mut marked);
        let names: Vec<_> = marked.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mine", "traceparent", "tracestate"]);
        let written = Traceparent::parse(marked[1].1.as_deref().unwrap()).unwrap();
        assert_eq!(written, trace.own);
        assert!(written.is_sampled() && written.span != trace.parent.unwrap());
        assert_eq!(written.trace, Traceparent::parse(GIVEN.as_bytes()).unwrap().trace);
    }

    #[test]
    fn a_request_continues_its_clients_trace_and_its_texts_are_within_it() {
        let of = |traceparent: &str, nonce: &[u8], sample: f64| {
            Trace::of_request(&headers(traceparent), nonce, sample)
        };
        let request = of(GIVEN, b"1", 0.0).unwrap();
        assert_eq!(request.parent, Some([0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
        assert_eq!(request.own.trace, Traceparent::parse(GIVEN.as_bytes()).unwrap().trace);
        assert_ne!(request.own.span, of(GIVEN, b"2", 0.0).unwrap().own.span, "each request has its own span");
        let texts = ["text 0", "text 1"].map(|name| request.child(name));
        assert_ne!(texts[0].own.span, texts[1].own.span);
        for text in &texts {
            assert_eq!((text.parent, text.own.trace), (Some(request.own.span), request.own.trace));
            assert!(text.own.is_sampled() && text.state == "vendor=x");
        }
        for given in [GIVEN.replace("-01", "-00").as_str(), "none of the kind", ""] {
            assert_eq!(of(given, b"1", 0.0), None, "{given}");
            let traced =
                (0..1_000_u32).filter(|number| of(given, &number.to_le_bytes(), 0.25).is_some()).count();
            assert!((190..310).contains(&traced), "{given}: {traced}");
            assert!(of(given, b"1", 1.0).unwrap().own.is_sampled());
        }
        assert!(of("none of the kind", b"1", 1.0).unwrap().parent.is_none());
    }

    #[test]
    fn a_record_always_has_the_same_unique_span() {
        let span = |group: &str, place| Trace::of(&headers(GIVEN), place, group, 0.0).unwrap().own.span;
        assert_eq!(span("g", PLACE), span("g", PLACE));
        let mut all = vec![
            span("g", PLACE),
            span("h", PLACE),
            span("g", RecordPosition { topic: "others", ..PLACE }),
            span("g", RecordPosition { partition: 3, ..PLACE }),
            span("g", RecordPosition { offset: 42, ..PLACE }),
        ];
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn events_without_a_sampled_trace_are_traced_by_share() {
        let unsampled = GIVEN.replace("-01", "-00");
        for given in [unsampled.as_str(), "none of the kind", ""] {
            assert_eq!(of(given, PLACE, 0.0), None, "{given}");
            let places = (0..1_000).map(|offset| RecordPosition { offset, ..PLACE });
            let traced = places.filter(|place| of(given, *place, 0.25).is_some()).count();
            assert!((190..310).contains(&traced), "{given}: {traced}");
            let begun = of(given, PLACE, 1.0).unwrap();
            assert!(begun.own.is_sampled());
            assert_eq!(begun.parent.is_some(), given == unsampled, "{given}");
            assert_eq!(Some(&begun), of(given, PLACE, 1.0).as_ref());
            let mut marked = headers(given);
            begun.mark(&mut marked);
            assert_eq!(marked.len(), if begun.parent.is_some() { 3 } else { 2 }, "{marked:?}");
        }
        let trace = |place| of("", place, 1.0).unwrap().own.trace;
        assert_ne!(trace(PLACE), trace(RecordPosition { offset: 42, ..PLACE }));
        assert_ne!(trace(PLACE), trace(RecordPosition { time: 0, ..PLACE }));
        assert!(of("", PLACE, 1.0).unwrap().state.is_empty(), "without a parent there is no state");
    }
}
