//! How long each batch ran, from the spans that a scorer sends: its metrics know a batch only by the bounds between
//! which it took.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// Beginning and end of each run, in nanoseconds.
type Kept = Arc<Mutex<Vec<(u64, u64)>>>;

/// A collector of spans, which runs until the benchmark ends.
pub struct Runs {
    address: SocketAddr,
    kept: Kept,
}

async fn keep(State(kept): State<Kept>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("spans");
    let scopes = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
    let experts = scopes.flat_map(|scope| scope.spans).filter(|span| span.name.starts_with("expert "));
    kept.lock()
        .expect("runs")
        .extend(experts.map(|span| (span.start_time_unix_nano, span.end_time_unix_nano)));
}

impl Runs {
    /// Collects on a port of its own.
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

    /// Settings with which a scorer sends all its spans here.
    pub fn settings(&self) -> [String; 2] {
        [format!("traces.endpoint=http://{}/v1/traces", self.address), "traces.sample=1".to_owned()]
    }

    /// The longest run that began after `from`, in milliseconds, of a scorer that has ended. The others are forgotten.
    #[expect(clippy::cast_precision_loss, reason = "runs are short")]
    pub fn longest(&self, from: SystemTime) -> f64 {
        let from = from.duration_since(UNIX_EPOCH).expect("a clock that is set").as_nanos();
        let runs = std::mem::take(&mut *self.kept.lock().expect("runs"));
        let times = runs.iter().filter(|(began, _)| u128::from(*began) >= from);
        let longest = times.map(|(began, ended)| ended.saturating_sub(*began)).max();
        longest.expect("the scorer has told of its runs") as f64 / 1e6
    }
}
