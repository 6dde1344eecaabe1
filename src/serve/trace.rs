//! The trace of a request: the context that its client has sent, and the spans that the server adds to it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, Method, StatusCode};

use crate::access::secrets;
use crate::core::trace::{TRACEPARENT, Traceparent};
use crate::ops::Traces;
use crate::ops::traces::{DecidedText, MAX_STATE, Moderation, ServedRequest, TRACESTATE, Trace};

/// The headers of a record.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// The trace of a request. Without a client's context, and if the request is not traced, it has neither.
#[derive(Debug, Default)]
pub struct RequestTrace {
    /// The context that the client has sent. It is empty if the `traceparent` is missing or malformed.
    context: Headers,
    /// The ids of the request's span, if it is traced.
    trace: Option<Trace>,
    progress: Mutex<Progress>,
}

/// The part of a request that is done.
#[derive(Debug, Default)]
struct Progress {
    /// The client is known, and its limit is not exceeded.
    admitted: bool,
    /// The number of texts to judge.
    texts: usize,
    decided: Vec<DecidedText>,
}

/// Reads the trace context of a client. Without exactly one valid `traceparent` there is none.
fn context(headers: &HeaderMap) -> Headers {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return Headers::new() };
    if Traceparent::parse(parent.as_bytes()).is_none() {
        return Headers::new();
    }
    let mut context = vec![(TRACEPARENT.to_owned(), Some(parent.as_bytes().to_vec()))];
    // The specification lets a client send it in several headers.
    let states: Vec<_> = headers.get_all(TRACESTATE).iter().map(|value| value.as_bytes()).collect();
    let state = states.join(&b',');
    if !state.is_empty() && state.len() <= MAX_STATE {
        context.push((TRACESTATE.to_owned(), Some(state)));
    }
    context
}

impl RequestTrace {
    /// Returns the trace of a request with these headers.
    pub fn of(traces: &Traces, headers: &HeaderMap) -> Self {
        let context = context(headers);
        let trace = traces.request(&context, &secrets::random());
        Self { context, trace, progress: Mutex::default() }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the client is admitted. Requests of others have no span, so that they cannot fill the queue of spans.
    pub fn admit(&self) {
        self.progress().admitted = true;
    }

    /// Notes the number of texts to judge.
    pub fn accept(&self, texts: usize) {
        self.progress().texts = texts;
    }

    /// Returns the ids of the span of the text with this number, if the request is traced, and the headers of its event's
    /// record, which continue the trace.
    pub fn text(&self, number: usize) -> (Option<Trace>, Headers) {
        let mut headers = self.context.clone();
        let trace = self.trace.as_ref().map(|trace| trace.child(&format!("text {number}")));
        if let Some(trace) = &trace {
            trace.mark(&mut headers);
        }
        (trace, headers)
    }

    /// Notes that a text was decided.
    pub fn decided(&self, span: Option<Box<Moderation>>) {
        if let Some(moderation) = span {
            self.progress().decided.push(DecidedText { moderation, ended: Instant::now() });
        }
    }

    /// Sends the spans of the request, which came at `began` and is answered now.
    pub fn finish(
        &self,
        traces: &Traces,
        method: &Method,
        route: &'static str,
        status: StatusCode,
        began: Instant,
    ) {
        let Progress { admitted, texts, decided } = std::mem::take(&mut *self.progress());
        if let Some(trace) = self.trace.clone().filter(|_| admitted) {
            let (method, status) = (method.to_string(), status.as_u16());
            traces.served(&ServedRequest { trace, method, route, status, began, texts, decided });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(pairs: &[(&'static str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let text = |(name, value): (String, Option<Vec<u8>>)| {
            format!("{name}: {}", String::from_utf8(value.unwrap()).unwrap())
        };
        context(&headers).into_iter().map(text).collect()
    }

    #[test]
    fn a_malformed_context_is_ignored() {
        let parent = format!("traceparent: {GIVEN}");
        assert_eq!(of(&[("traceparent", GIVEN)]), [parent.as_str()]);
        let states = [("traceparent", GIVEN), ("tracestate", "a=1"), ("tracestate", "b=2")];
        assert_eq!(of(&states), [parent.clone(), "tracestate: a=1,b=2".to_owned()]);
        assert_eq!(of(&[("traceparent", GIVEN), ("tracestate", &"x".repeat(MAX_STATE + 1))]), [parent]);
        for wrong in ["", "00-none-of-the-kind-01", &format!("{GIVEN}-more"), &GIVEN.to_uppercase()] {
            assert!(of(&[("traceparent", wrong), ("tracestate", "a=1")]).is_empty(), "{wrong}");
        }
        assert!(of(&[("traceparent", GIVEN), ("traceparent", GIVEN)]).is_empty(), "one of two is no answer");
        assert!(of(&[("tracestate", "a=1")]).is_empty());
    }

    #[test]
    fn a_request_that_is_not_traced_passes_its_context_on() {
        let request = RequestTrace {
            context: vec![(TRACEPARENT.into(), Some(GIVEN.into()))],
            ..RequestTrace::default()
        };
        let (trace, headers) = request.text(0);
        assert_eq!((trace, &headers), (None, &request.context));
    }
}
