//! An OTLP/HTTP collector that stores its requests.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use openssl::ssl::{SslAcceptor, SslMethod};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
pub use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::support::identity::Identity;
use crate::support::site::hex;

/// A request as it was received.
pub type Request = (HeaderMap, Bytes);
/// A status, and the value of `Retry-After` in its response.
pub type Refusal = (u16, Option<&'static str>);

/// The treatment of requests.
#[derive(Default)]
struct Desk {
    taken: Mutex<Vec<Request>>,
    /// The statuses of the next responses. If none is left, requests are accepted.
    refusals: Mutex<VecDeque<Refusal>>,
    /// The refused requests.
    refused: Mutex<Vec<Bytes>>,
}

/// The collector. It runs until the test binary ends.
pub struct Collector {
    address: SocketAddr,
    desk: Arc<Desk>,
    scheme: &'static str,
}

async fn keep(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let refusal = desk.refusals.lock().unwrap().pop_front();
    let Some((status, after)) = refusal else {
        desk.taken.lock().unwrap().push((headers, body));
        return StatusCode::OK.into_response();
    };
    desk.refused.lock().unwrap().push(body);
    let after: HeaderMap = after
        .map(|after| (HeaderName::from_static("retry-after"), HeaderValue::from_static(after)))
        .into_iter()
        .collect();
    (StatusCode::from_u16(status).unwrap(), after).into_response()
}

impl Collector {
    /// Starts a collector on this port, or on a free one for 0.
    pub fn start(port: u16) -> Self {
        Self::refusing(port, &[])
    }

    /// Starts a collector that first responds with these refusals.
    pub fn refusing(port: u16, refusals: &[Refusal]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let desk =
            Arc::new(Desk { refusals: Mutex::new(refusals.iter().copied().collect()), ..Desk::default() });
        let router = Router::new().route("/v1/traces", post(keep)).with_state(Arc::clone(&desk));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { address, desk, scheme: "http" }
    }

    /// Starts a collector that uses TLS with this certificate.
    pub fn secure(server: &Identity) -> Self {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate(&server.certificate).unwrap();
        acceptor.set_private_key(&server.key).unwrap();
        let acceptor = acceptor.build();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let desk = Arc::<Desk>::default();
        let kept = Arc::clone(&desk);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(stream) = acceptor.accept(connection.unwrap()) else { continue };
                let mut stream = BufReader::new(stream);
                let Some(body) = request(&mut stream) else { continue };
                kept.taken.lock().unwrap().push((HeaderMap::new(), body));
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.get_mut().write_all(answer);
                let _ = stream.get_mut().shutdown();
            }
        });
        Self { address, desk, scheme: "https" }
    }

    /// Returns the refused requests.
    pub fn refused(&self) -> Vec<Bytes> {
        self.desk.refused.lock().unwrap().clone()
    }

    pub fn endpoint(&self) -> String {
        format!("{}://{}/v1/traces", self.scheme, self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.desk.taken.lock().unwrap().clone()
    }

    /// Returns all spans, each with the name of its service.
    pub fn spans(&self) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        for (_, body) in self.requests() {
            for of in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                let service = attribute(&of.resource.unwrap().attributes, "service.name");
                let all = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(all.map(|span| (service.clone(), span)));
            }
        }
        spans
    }

    /// Returns the spans with this name.
    pub fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.spans().into_iter().map(|(_, span)| span);
        spans.filter(|span| span.name == name).collect()
    }
}

/// Reads the body of a request.
fn request(stream: &mut impl BufRead) -> Option<Bytes> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(said) = line.strip_prefix("content-length:") {
            length = said.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(body.into())
}

/// Returns an attribute's value as text, or an empty text if there is none.
pub fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()) {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text.clone(),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        Some(AnyValue { value: Some(Value::BoolValue(holds)) }) => holds.to_string(),
        _ => String::new(),
    }
}

/// Returns the `traceparent` of records that were written in this span.
pub fn traceparent(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}
