//! Metrics: each is a documented constant of [`list`], recorded through the `metrics` crate.
//!
//! Names, labels and units are stable: docs/metrics.md is generated from the constants and compared by a test. Units are
//! Prometheus base units. Label values come from the configuration and enums, never from records.

mod lag;
mod learning;
mod list;
mod roles;
mod scoring;

use std::fmt::Write as _;

use metrics::{Label, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use self::lag::Lag;
pub use self::learning::*;
pub use self::list::*;
pub use self::roles::*;
pub use self::scoring::*;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// Counts of values in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The description of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The name on /metrics.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The unit: `seconds`, `bytes`, `ratio` or a plural noun.
    pub unit: &'static str,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// The meaning.
    pub help: &'static str,
    /// The condition to alert on. Empty if there is none.
    pub alert: &'static str,
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $handle:ty, $record:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name<const N: usize> {
            name: &'static str,
            labels: [&'static str; N],
        }

        impl<const N: usize> $name<N> {
            const fn new(name: &'static str, labels: [&'static str; N]) -> Self {
                Self { name, labels }
            }

            /// Returns the name on /metrics.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                self.name
            }

            /// Returns the handle for these label values. Keep it if it is used often.
            pub fn with(&self, values: [&str; N]) -> $handle {
                let labels = self.labels.iter().zip(values);
                let labels: Vec<_> = labels.map(|(name, value)| Label::new(*name, value.to_owned())).collect();
                metrics::$record!(self.name, labels)
            }
        }
    };
}

handle!(
    /// A counter with N labels.
    Counter, metrics::Counter, counter
);
handle!(
    /// A gauge with N labels.
    Gauge, metrics::Gauge, gauge
);
handle!(
    /// A histogram with N labels.
    Histogram, metrics::Histogram, histogram
);

/// Converts to the type of gauges and histograms. Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn float(number: u64) -> f64 {
    number as f64
}

/// Converts to the type of gauges and histograms. Exact up to 2^53 in size.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn signed(number: i64) -> f64 {
    number as f64
}

fn unit(words: &str) -> Unit {
    match words {
        "seconds" => Unit::Seconds,
        "bytes" => Unit::Bytes,
        _ => Unit::Count,
    }
}

/// Registers the descriptions of all metrics.
pub fn describe_all() {
    for Description { name, kind, unit: words, help, .. } in all().copied() {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, unit(words), help),
            Kind::Gauge => metrics::describe_gauge!(name, unit(words), help),
            Kind::Histogram(_) => metrics::describe_histogram!(name, unit(words), help),
        }
    }
    BUILD_INFO.with([env!("CARGO_PKG_VERSION")]).set(1.0);
}

/// Returns a recorder with the buckets of all histograms.
///
/// # Errors
/// Returns an error if a histogram has no buckets.
pub fn builder() -> Result<PrometheusBuilder, BuildError> {
    all().try_fold(PrometheusBuilder::new(), |builder, description| match description.kind {
        Kind::Histogram(buckets) => {
            builder.set_buckets_for_metric(Matcher::Full(description.name.to_owned()), buckets)
        }
        Kind::Counter | Kind::Gauge => Ok(builder),
    })
}

/// Installs the recorder of the process and describes all metrics.
///
/// # Errors
/// Returns an error if a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe_all();
    Ok(handle)
}

/// Returns the text of docs/metrics.md.
#[must_use]
pub fn document() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         `/metrics` serves these metrics. Names, units and labels are stable: this page is generated from the code \
         and compared by a test.\nLabel values come from the configuration and fixed lists, never from records.\n",
    );
    let mut section = "";
    for (place, metric) in
        SECTIONS.iter().flat_map(|(name, metrics)| metrics.iter().map(move |metric| (*name, metric)))
    {
        // Writing to a String cannot fail.
        if place != section {
            section = place;
            let _ = write!(
                page,
                "\n## {section}\n\n| Metric | Kind, unit | Labels | Meaning | Alert on |\n|---|---|---|---|---|\n"
            );
        }
        let Description { name, kind, unit, labels, help, alert } = metric;
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let alert = if alert.is_empty() { "–" } else { alert };
        let _ = writeln!(page, "| `{name}` | {}, {unit} | {labels} | {help} | {alert} |", kind.name());
    }
    page
}

/// Returns all metrics.
pub fn all() -> impl Iterator<Item = &'static Description> {
    SECTIONS.iter().flat_map(|(_, metrics)| *metrics)
}
