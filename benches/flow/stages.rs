//! The stages of an event under a steady load, and the duration of each batch. They come from the spans of a scorer,
//! which describe single events, while its metrics have only buckets.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aegis::kafka::Produced;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

type Kept = Arc<Mutex<Vec<Span>>>;

/// A collector of spans, which runs until the benchmark ends.
pub struct Spans {
    address: SocketAddr,
    kept: Kept,
}

async fn keep(State(kept): State<Kept>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("spans");
    let scopes = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
    kept.lock().expect("spans").extend(scopes.flat_map(|scope| scope.spans));
}

/// Sets the trace id of a record to its number.
pub fn number(record: &mut Produced, number: usize) {
    let parent = format!("00-{:032x}-{:016x}-01", number + 1, number + 1);
    record.headers.push(("traceparent".to_owned(), Some(parent.into_bytes())));
}

impl Spans {
    /// Starts a collector on a free port.
    pub fn collect() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let (address, kept) = (listener.local_addr().expect("a port"), Kept::default());
        let router = Router::new().route("/v1/traces", post(keep)).with_state(Arc::clone(&kept));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, router).await.expect("it serves");
            });
        });
        Self { address, kept }
    }

    /// Returns the setting with which a scorer sends the spans of numbered records to this collector.
    pub fn setting(&self) -> String {
        format!("traces.endpoint=http://{}/v1/traces", self.address)
    }

    /// Returns the spans since the last call, of a scorer that has ended.
    pub fn take(&self) -> Vec<Span> {
        std::mem::take(&mut *self.kept.lock().expect("spans"))
    }
}

/// The stages that an event passes through, in order.
const NAMES: [&str; 6] = ["way in", "queue", "batch", "unit", "commit", "way out"];

/// The time of an event in each stage of [`NAMES`], in milliseconds.
type Stages = [f64; 6];

/// The spans of a load.
#[derive(Default)]
pub struct Told {
    /// The longest batch of each round, in milliseconds.
    pub longest: Vec<f64>,
    /// The latency and the stages of each event, over all rounds.
    events: Vec<(f64, Stages)>,
}

/// Returns the difference of two times in nanoseconds, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "spans are short")]
fn between(from: u64, until: u64) -> f64 {
    (until as f64 - from as f64) / 1e6
}

impl Told {
    /// Adds a round of events that were due from `start` on, at `rate` per second. `latencies` are in milliseconds, by
    /// number.
    #[expect(clippy::cast_precision_loss, reason = "events are few")]
    pub fn add(&mut self, spans: Vec<Span>, start: SystemTime, rate: f64, latencies: &[f64]) {
        let mut longest: f64 = 0.0;
        let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
        for span in spans {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        let commits: BTreeMap<_, _> = traces
            .values()
            .flatten()
            .filter(|span| span.name == "commit")
            .map(|span| (span.span_id.clone(), span.start_time_unix_nano))
            .collect();
        for (number, latency) in latencies.iter().enumerate() {
            let name = (number as u128 + 1).to_be_bytes();
            let spans = traces.get(name.as_slice()).map_or([].as_slice(), Vec::as_slice);
            let named = |name: &str| spans.iter().find(|span| span.name.starts_with(name));
            // An event that was answered without a run has no such span.
            let (Some(own), Some(run)) = (named("moderate"), named("expert ")) else { continue };
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            let due = u64::try_from(due.duration_since(UNIX_EPOCH).expect("a clock that is set").as_nanos());
            let due = due.expect("a time of this century");
            let visible = *latency - between(due, own.end_time_unix_nano);
            let commit = commits[&own.links[0].span_id];
            let [began, ended] = [run.start_time_unix_nano, run.end_time_unix_nano];
            longest = longest.max(between(began, ended));
            let stages = [
                between(due, own.start_time_unix_nano),
                between(own.start_time_unix_nano, began),
                between(began, ended),
                between(ended, commit),
                between(commit, own.end_time_unix_nano),
                visible,
            ];
            self.events.push((*latency, stages));
        }
        self.longest.push(longest);
    }

    /// Prints the mean times of the stages of the median events and of the slowest hundredth, in milliseconds.
    pub fn tell(&mut self) {
        self.events.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = self.events.len();
        for (name, some) in [
            ("middle tenth", &self.events[count * 45 / 100..count * 55 / 100]),
            ("slowest hundredth", &self.events[count * 99 / 100..]),
        ] {
            #[expect(clippy::cast_precision_loss, reason = "events are few")]
            let mean =
                |stage: usize| some.iter().map(|(_, stages)| stages[stage]).sum::<f64>() / some.len() as f64;
            let stages: Vec<_> =
                NAMES.iter().enumerate().map(|(stage, name)| format!("{name} {:.0}", mean(stage))).collect();
            println!("{:<22} {name}, ms: {}", "", stages.join(", "));
        }
    }
}
