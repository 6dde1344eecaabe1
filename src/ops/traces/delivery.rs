//! Delivery of spans: a bound on their number, metrics of their outcomes, and log lines when delivery fails or recovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::metrics;
use super::post::LastError;

/// The number of spans that wait for delivery or are being delivered, with its limit.
#[derive(Debug)]
pub struct SpanQuota {
    capacity: usize,
    in_flight: AtomicUsize,
    /// Spans have been dropped since the quota was last half empty.
    full: AtomicBool,
}

impl SpanQuota {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, in_flight: AtomicUsize::new(0), full: AtomicBool::new(false) }
    }

    /// Reserves capacity for all of these spans, or returns `false`.
    pub fn reserve(&self, spans: usize) -> bool {
        let take = |in_flight: usize| Some(in_flight + spans).filter(|count| *count <= self.capacity);
        if self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok() {
            return true;
        }
        metrics::spans("full", spans);
        if !self.full.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                queue = self.capacity,
                "spans are dropped because the collector accepts them too slowly; moderation is not affected. Lower \
                 traces.sample or the share that producers sample, or give the collector more resources"
            );
        }
        false
    }

    fn release(&self, spans: usize) {
        let left = self.in_flight.fetch_sub(spans, Ordering::AcqRel).saturating_sub(spans);
        if left <= self.capacity / 2 && self.full.swap(false, Ordering::AcqRel) {
            tracing::info!("spans are accepted again");
        }
    }

    /// Returns the number of spans in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }
}

/// An exporter that counts its spans.
#[derive(Debug)]
pub struct Delivery<E> {
    exporter: E,
    quota: Arc<SpanQuota>,
    endpoint: String,
    last_error: Arc<LastError>,
    failing: AtomicBool,
}

impl<E> Delivery<E> {
    pub fn new(exporter: E, quota: Arc<SpanQuota>, endpoint: &str, last_error: Arc<LastError>) -> Self {
        Self { exporter, quota, endpoint: endpoint.to_owned(), last_error, failing: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for Delivery<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.quota.release(spans);
        let endpoint = self.endpoint.as_str();
        match &result {
            Ok(()) => {
                metrics::spans("sent", spans);
                if self.failing.swap(false, Ordering::AcqRel) {
                    tracing::info!(endpoint, "the collector accepts spans again");
                }
            }
            Err(error) => {
                metrics::spans("failed", spans);
                let error = self.last_error.take().unwrap_or_else(|| error.to_string());
                if !self.failing.swap(true, Ordering::AcqRel) {
                    tracing::warn!(
                        endpoint,
                        %error,
                        "spans are dropped: the collector does not accept them; moderation is not affected. Check \
                         that an OpenTelemetry collector runs, and that traces.endpoint is its OTLP/HTTP address \
                         with the path"
                    );
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spans_are_accepted_or_none() {
        let quota = SpanQuota::new(10);
        assert!(quota.reserve(6) && !quota.reserve(5) && quota.reserve(4) && !quota.reserve(1));
        assert_eq!(quota.in_flight(), 10);
        assert!(quota.full.load(Ordering::Acquire));
        quota.release(4);
        assert!(quota.full.load(Ordering::Acquire), "it is not half empty yet");
        quota.release(6);
        assert!(!quota.full.load(Ordering::Acquire) && quota.reserve(10) && !quota.reserve(11));
    }
}
