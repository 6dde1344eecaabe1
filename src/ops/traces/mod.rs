//! Traces: each moderated event, each request over HTTP and each label is a span, sent to an OpenTelemetry collector by
//! OTLP over HTTP.
//!
//! Spans are created when a batch is committed or a request is answered, and put into a bounded queue, from which a thread of
//! its own delivers them. Moderation never waits for delivery: spans that do not fit or are not accepted are dropped and
//! counted. No span contains text of users.

mod context;
mod delivery;
mod events;
mod labels;
mod post;
mod requests;
mod retry;
mod spans;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use opentelemetry::trace::SpanContext;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor};

pub use self::context::{MAX_STATE, RecordPosition, TRACESTATE, Trace};
use self::delivery::{Delivery, SpanQuota};
pub use self::events::{ExpertRun, Moderation, Outcome, PanelRun};
pub use self::labels::Labelled;
use self::post::{CollectorClient, LastError};
pub use self::requests::{DecidedText, ServedRequest};
use self::spans::{Clock, Commit, RoleAttributes};
use super::metrics;
use crate::config::Config;

/// The greatest number of spans that wait for delivery or are being delivered.
const QUEUE_SIZE: usize = 16_384;
/// The greatest number of spans of a request.
const MAX_BATCH_SIZE: usize = 512;
/// The time that spans wait for others before a smaller request is sent.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// The timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for delivering the remaining spans at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
// At most one further request begins at shutdown, although the collector answers none.
const _: () = assert!(SHUTDOWN_TIMEOUT.as_secs() < REQUEST_TIMEOUT.as_secs());

/// The settings of traces.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The OTLP/HTTP address of the collector, with its path. If empty, no spans are sent.
    pub endpoint: String,
    /// The name of the service, e.g. `aegis`.
    pub service: String,
    /// The name of this instance of the service, e.g. the scorer's member.
    pub instance: String,
    /// The consumer group.
    pub group: String,
    /// The share, from 0 to 1, of the events and requests without a sampled trace that are traced.
    pub sample: f64,
    /// The PEM file of trusted certificate authorities. `None` means those of the system.
    pub authorities: Option<PathBuf>,
    /// The headers of every request, which may be secrets.
    pub headers: Vec<(String, String)>,
}

impl Settings {
    /// Returns the settings of the scorers' spans. Those of a learner differ in the group only.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        let traces = &config.traces;
        let headers = traces.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        Self {
            endpoint: traces.endpoint.clone(),
            service: traces.service.clone(),
            instance: config.score.member.clone(),
            group: config.score.group.clone(),
            sample: traces.sample,
            authorities: Some(traces.authorities.clone()).filter(|path| !path.as_os_str().is_empty()),
            headers: headers.collect(),
        }
    }
}

/// Errors of the settings of traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The address is not valid.
    #[error("traces.endpoint = {endpoint} {reason}")]
    Endpoint {
        /// The configured address.
        endpoint: String,
        /// The accepted form.
        reason: &'static str,
    },
    /// The file of authorities cannot be used.
    #[error("traces.authorities: {reason}")]
    Authorities {
        /// The error, with the name of the file.
        reason: String,
    },
    /// A header cannot be sent.
    #[error(
        "traces.secrets: {name} is not a header name, or its file is not a valid header value: write one line"
    )]
    Header {
        /// The name of the header.
        name: String,
    },
    /// The exporter refuses the settings.
    #[error("traces cannot be sent to {endpoint}: {reason}")]
    Exporter {
        /// The configured address.
        endpoint: String,
        /// The error of the exporter.
        reason: String,
    },
}

/// Creates and delivers spans, or does nothing if traces are off.
#[derive(Debug)]
pub struct Traces(Option<Pipeline>);

#[derive(Debug)]
struct Pipeline {
    sample: f64,
    role: RoleAttributes,
    quota: Arc<SpanQuota>,
    processor: BatchSpanProcessor,
    /// Dropped at shutdown, which ends the waiting for a busy collector.
    end: Option<Sender<()>>,
}

/// Checks settings without sending anything.
///
/// # Errors
/// Returns an error if a setting is not valid.
pub fn check(settings: &Settings) -> Result<(), TracesError> {
    if !settings.endpoint.is_empty() {
        exporter(settings, crossbeam_channel::never(), Arc::default())?;
    }
    Ok(())
}

fn exporter(
    settings: &Settings,
    end: Receiver<()>,
    last_error: Arc<LastError>,
) -> Result<SpanExporter, TracesError> {
    let post = CollectorClient::new(settings, REQUEST_TIMEOUT, end, last_error)?;
    let endpoint = settings.endpoint.clone();
    let built = SpanExporter::builder()
        .with_http()
        .with_http_client(post)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&endpoint)
        .with_timeout(REQUEST_TIMEOUT)
        .build();
    built.map_err(|error| TracesError::Exporter { endpoint, reason: error.to_string() })
}

impl Traces {
    /// Prepares the delivery to the collector, which need not be running yet. Without an endpoint traces are off.
    ///
    /// # Errors
    /// As [`check`].
    pub fn open(settings: &Settings) -> Result<Self, TracesError> {
        if settings.endpoint.is_empty() {
            return Ok(Self(None));
        }
        let quota = Arc::new(SpanQuota::new(QUEUE_SIZE));
        let (end, ended) = crossbeam_channel::bounded(0);
        let last_error = Arc::<LastError>::default();
        let exporter = exporter(settings, ended, Arc::clone(&last_error))?;
        let delivery = Delivery::new(exporter, Arc::clone(&quota), &settings.endpoint, last_error);
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SIZE)
            .with_max_export_batch_size(MAX_BATCH_SIZE)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let mut processor = BatchSpanProcessor::new(delivery, config);
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource::builder()
            .with_service_name(settings.service.clone())
            .with_attribute(KeyValue::new("service.version", version))
            .with_attribute(KeyValue::new("service.instance.id", settings.instance.clone()))
            .build();
        processor.set_resource(&resource);
        // Counters must exist before their first increment, or Prometheus does not see it as an increase.
        ["sent", "full", "failed", "stopped"].into_iter().for_each(|outcome| metrics::spans(outcome, 0));
        let role = RoleAttributes {
            group: settings.group.clone(),
            instance: settings.instance.clone(),
            scope: InstrumentationScope::builder("aegis").with_version(version).build(),
        };
        Ok(Self(Some(Pipeline { sample: settings.sample, role, quota, processor, end: Some(end) })))
    }

    /// Returns the span ids of a record that is traced: if its `traceparent` is sampled, and of the others a share. The same
    /// record always gets the same ids.
    #[must_use]
    pub fn of(&self, headers: &[(String, Option<Vec<u8>>)], place: RecordPosition<'_>) -> Option<Trace> {
        let pipeline = self.0.as_ref()?;
        Trace::of(headers, place, &pipeline.role.group, pipeline.sample)
    }

    /// Sends the spans of a batch of `records` records that was committed from `began` until now. `moderations` are its
    /// traced events.
    pub fn committed(&self, moderations: &[Moderation], began: Instant, records: usize) {
        let Some(pipeline) = self.0.as_ref().filter(|_| !moderations.is_empty()) else { return };
        let clock = Clock::now();
        let commit = Commit::new(&clock, &pipeline.role, began, records);
        pipeline.send(vec![commit.span(&pipeline.role)]);
        for moderation in moderations {
            pipeline.send(events::moderation_spans(moderation, &commit, &clock, &pipeline.role));
        }
    }
}

/// The greatest number of commits with traced labels that are linked to the next published predictor.
const MAX_UNPUBLISHED: usize = 64;

/// The commits of a learner that are to be linked to the next published predictor.
#[derive(Debug, Default)]
pub struct Unpublished(VecDeque<SpanContext>);

impl Traces {
    /// Returns the span ids of a label that is traced, as [`Traces::of`] for events.
    #[must_use]
    pub fn label(
        &self,
        headers: &[(String, Option<Vec<u8>>)],
        place: RecordPosition<'_>,
    ) -> Option<Labelled> {
        let pipeline = self.0.as_ref()?;
        Labelled::of(headers, place, &pipeline.role.group, pipeline.sample)
    }

    /// Sends the spans of a batch of `records` labels that was read from `read` on and committed from `began` until now.
    /// `labels` are its traced labels.
    pub fn learned(
        &self,
        labels: &[Labelled],
        read: Instant,
        began: Instant,
        records: usize,
        unpublished: &mut Unpublished,
    ) {
        let Some(pipeline) = self.0.as_ref().filter(|_| !labels.is_empty()) else { return };
        let clock = Clock::now();
        let commit = Commit::new(&clock, &pipeline.role, began, records);
        let mut spans = vec![commit.span(&pipeline.role)];
        spans.extend(labels.iter().map(|label| label.span(&commit, read, &clock, &pipeline.role)));
        pipeline.send(spans);
        if unpublished.0.len() == MAX_UNPUBLISHED {
            unpublished.0.pop_front();
        }
        unpublished.0.push_back(commit.context());
    }

    /// Sends the span of publishing predictors from `began` until now. `began` is `None` if there was nothing new to
    /// publish.
    pub fn published(&self, began: Option<Instant>, unpublished: &mut Unpublished) {
        let commits: Vec<_> = unpublished.0.drain(..).collect();
        if let (Some(pipeline), Some(began), false) = (&self.0, began, commits.is_empty()) {
            pipeline.send(vec![labels::publish(&commits, began, &Clock::now(), &pipeline.role)]);
        }
    }
}

impl Pipeline {
    /// Sends all spans or, if the queue is full, none of them: half of a trace would be misleading.
    fn send(&self, spans: Vec<SpanData>) {
        if self.quota.reserve(spans.len()) {
            spans.into_iter().for_each(|span| self.processor.on_end(span));
        }
    }
}

impl Drop for Traces {
    /// Delivers the remaining spans within two seconds.
    fn drop(&mut self) {
        let Some(pipeline) = &mut self.0 else { return };
        pipeline.end = None;
        // The quota shows its result.
        let _ = pipeline.processor.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
        let left = pipeline.quota.in_flight();
        if left > 0 {
            metrics::spans("stopped", left);
            tracing::warn!(
                spans = left,
                "the process ends before the collector has accepted these spans: they are dropped"
            );
        }
    }
}
