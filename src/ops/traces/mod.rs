//! Traces: each event that is moderated is a span, and each label that is learned from, for an OpenTelemetry
//! collector, over OTLP with HTTP.
//!
//! Spans are made when a unit is committed and put into a bounded queue; a thread of its own delivers them. Who
//! moderates never waits for it: what has no room, or is not taken, is dropped and counted. No span holds
//! anything of what a user wrote.

mod context;
mod delivery;
mod labels;
mod post;
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

pub use self::context::{RecordPosition, Trace};
use self::delivery::{Delivery, Room};
pub use self::labels::Labelled;
use self::post::{Post, Why};
use self::spans::{Clock, Commit, Common};
pub use self::spans::{ExpertRun, Moderation, Outcome, PanelRun};
use super::metrics;
use crate::config::Config;

/// Spans that wait for delivery or are on their way, at most.
const QUEUE: usize = 16_384;
/// Spans of a request, at most.
const TOGETHER: usize = 512;
/// Spans that are not that many wait so long for others.
const DELAY: Duration = Duration::from_secs(1);
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// How long the end waits for what is still to be delivered.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where spans go, and which.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Address that takes OTLP/HTTP, with its path; empty: no spans.
    pub endpoint: String,
    /// Name of the service, e.g. `aegis`.
    pub service: String,
    /// Name of this process among the service's, e.g. the scorer's member.
    pub instance: String,
    /// Consumer group of the scorers.
    pub group: String,
    /// Share of the events that nobody upstream records whose trace is recorded here, from 0 to 1.
    pub sample: f64,
    /// PEM file of authorities; none: the system's.
    pub authorities: Option<PathBuf>,
    /// Headers of every request, secrets among them.
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

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The address is none.
    #[error("traces.endpoint = {endpoint} {reason}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What to write instead.
        reason: &'static str,
    },
    /// The file of authorities is of no use.
    #[error("traces.authorities: {reason}")]
    Authorities {
        /// What is wrong with it, with its name.
        reason: String,
    },
    /// A header cannot be sent.
    #[error(
        "traces.secrets: {name} is no header's name, or its file holds what a header cannot: one line is needed"
    )]
    Header {
        /// Its name.
        name: String,
    },
    /// The exporter refuses the settings.
    #[error("traces cannot be sent to {endpoint}: {reason}")]
    Exporter {
        /// As configured.
        endpoint: String,
        /// Its words.
        reason: String,
    },
}

/// Makes spans and has them delivered; or does nothing.
#[derive(Debug)]
pub struct Traces(Option<On>);

#[derive(Debug)]
struct On {
    sample: f64,
    common: Common,
    room: Arc<Room>,
    processor: BatchSpanProcessor,
    /// Dropped at the end: whoever waits for a busy collector waits no longer.
    end: Option<Sender<()>>,
}

/// Whether these settings can be meant, without sending anything.
///
/// # Errors
/// What is wrong with them.
pub fn check(settings: &Settings) -> Result<(), TracesError> {
    if !settings.endpoint.is_empty() {
        exporter(settings, crossbeam_channel::never(), Arc::default())?;
    }
    Ok(())
}

fn exporter(settings: &Settings, end: Receiver<()>, why: Arc<Why>) -> Result<SpanExporter, TracesError> {
    let post = Post::new(settings, REQUEST, end, why)?;
    let endpoint = settings.endpoint.clone();
    let built = SpanExporter::builder()
        .with_http()
        .with_http_client(post)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&endpoint)
        .with_timeout(REQUEST)
        .build();
    built.map_err(|error| TracesError::Exporter { endpoint, reason: error.to_string() })
}

impl Traces {
    /// Opens the way to the collector, which need not be there yet. Without an endpoint nothing is ever sent.
    ///
    /// # Errors
    /// As [`check`].
    pub fn open(settings: &Settings) -> Result<Self, TracesError> {
        if settings.endpoint.is_empty() {
            return Ok(Self(None));
        }
        let room = Arc::new(Room::new(QUEUE));
        let (end, ended) = crossbeam_channel::bounded(0);
        let why = Arc::<Why>::default();
        let exporter = exporter(settings, ended, Arc::clone(&why))?;
        let delivery = Delivery::new(exporter, Arc::clone(&room), &settings.endpoint, why);
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(TOGETHER)
            .with_scheduled_delay(DELAY)
            .build();
        let mut processor = BatchSpanProcessor::new(delivery, config);
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource::builder()
            .with_service_name(settings.service.clone())
            .with_attribute(KeyValue::new("service.version", version))
            .with_attribute(KeyValue::new("service.instance.id", settings.instance.clone()))
            .build();
        processor.set_resource(&resource);
        // Of a counter that appears with its first loss nobody knows that it grew.
        ["sent", "full", "failed", "stopped"].into_iter().for_each(|outcome| metrics::spans(outcome, 0));
        let common = Common {
            group: settings.group.clone(),
            instance: settings.instance.clone(),
            scope: InstrumentationScope::builder("aegis").with_version(version).build(),
        };
        Ok(Self(Some(On { sample: settings.sample, common, room, processor, end: Some(end) })))
    }

    /// The span that a record gets, if any: where its `traceparent` says that the trace is recorded, and of the
    /// others a share. The same record always gets the same.
    #[must_use]
    pub fn of(&self, headers: &[(String, Option<Vec<u8>>)], place: RecordPosition<'_>) -> Option<Trace> {
        let on = self.0.as_ref()?;
        Trace::of(headers, place, &on.common.group, on.sample)
    }

    /// A unit was committed, from `began` until now, with so many records. These are the events in it that are
    /// traced: their spans are sent.
    pub fn committed(&self, moderations: &[Moderation], began: Instant, records: usize) {
        let Some(on) = self.0.as_ref().filter(|_| !moderations.is_empty()) else { return };
        let clock = Clock::now();
        let commit = Commit::new(&clock, &on.common, began, records);
        on.send(vec![commit.span(&on.common)]);
        for moderation in moderations {
            on.send(spans::of(moderation, &commit, &clock, &on.common));
        }
    }
}

/// Commits of units with traced labels whose rounds no predictor reflects yet, at most.
const UNPUBLISHED: usize = 64;

/// A learner's units that are to be linked to the next publishing.
#[derive(Debug, Default)]
pub struct Unpublished(VecDeque<SpanContext>);

impl Traces {
    /// The span that a label gets, if any: as [`Traces::of`] for events.
    #[must_use]
    pub fn label(
        &self,
        headers: &[(String, Option<Vec<u8>>)],
        place: RecordPosition<'_>,
    ) -> Option<Labelled> {
        let on = self.0.as_ref()?;
        Labelled::of(headers, place, &on.common.group, on.sample)
    }

    /// A unit of labels was read from `read` on and committed from `began` until now, with so many records. Those
    /// in it that are traced: their spans are sent.
    pub fn learned(
        &self,
        labels: &[Labelled],
        read: Instant,
        began: Instant,
        records: usize,
        unpublished: &mut Unpublished,
    ) {
        let Some(on) = self.0.as_ref().filter(|_| !labels.is_empty()) else { return };
        let clock = Clock::now();
        let commit = Commit::new(&clock, &on.common, began, records);
        let mut spans = vec![commit.span(&on.common)];
        spans.extend(labels.iter().map(|label| label.span(&commit, read, &clock, &on.common)));
        on.send(spans);
        if unpublished.0.len() == UNPUBLISHED {
            unpublished.0.pop_front();
        }
        unpublished.0.push_back(commit.context());
    }

    /// Predictors that reflect all units so far were published from `began` until now; `None`: there was nothing
    /// new to publish.
    pub fn published(&self, began: Option<Instant>, unpublished: &mut Unpublished) {
        let units: Vec<_> = unpublished.0.drain(..).collect();
        if let (Some(on), Some(began), false) = (&self.0, began, units.is_empty()) {
            on.send(vec![labels::publish(&units, began, &Clock::now(), &on.common)]);
        }
    }
}

impl On {
    /// All of them or, where there is no room, none: half of a trace would say what is not so.
    fn send(&self, spans: Vec<SpanData>) {
        if self.room.enter(spans.len()) {
            spans.into_iter().for_each(|span| self.processor.on_end(span));
        }
    }
}

impl Drop for Traces {
    /// Delivers what there is, within two seconds.
    fn drop(&mut self) {
        let Some(on) = &mut self.0 else { return };
        on.end = None;
        // What it says is seen in the room.
        let _ = on.processor.shutdown_with_timeout(FAREWELL);
        let left = on.room.inside();
        if left > 0 {
            metrics::spans("stopped", left);
            tracing::warn!(
                spans = left,
                "stopped before the collector had taken these spans: they are dropped"
            );
        }
    }
}
