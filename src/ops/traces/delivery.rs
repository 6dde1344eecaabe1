//! Delivery: room for so many spans, what becomes of them, and a word when that changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::metrics;
use super::post::Why;

/// Room for spans from when they are made until they are delivered or dropped.
#[derive(Debug)]
pub struct Room {
    most: usize,
    inside: AtomicUsize,
    /// Whether something was turned away since it was last half empty.
    full: AtomicBool,
}

impl Room {
    pub fn new(most: usize) -> Self {
        Self { most, inside: AtomicUsize::new(0), full: AtomicBool::new(false) }
    }

    /// Takes so many in, or turns all of them away.
    pub fn enter(&self, spans: usize) -> bool {
        let take = |inside: usize| Some(inside + spans).filter(|inside| *inside <= self.most);
        if self.inside.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok() {
            return true;
        }
        metrics::spans("full", spans);
        if !self.full.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                queue = self.most,
                "spans come faster than the collector takes them and are dropped; events are moderated all the \
                 same. Lower traces.sample or the share that producers record, or give the collector more"
            );
        }
        false
    }

    fn leave(&self, spans: usize) {
        let inside = self.inside.fetch_sub(spans, Ordering::AcqRel).saturating_sub(spans);
        if inside <= self.most / 2 && self.full.swap(false, Ordering::AcqRel) {
            tracing::info!("there is room for spans again");
        }
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::Acquire)
    }
}

/// An exporter whose spans are counted.
#[derive(Debug)]
pub struct Delivery<E> {
    exporter: E,
    room: Arc<Room>,
    endpoint: String,
    why: Arc<Why>,
    failing: AtomicBool,
}

impl<E> Delivery<E> {
    pub fn new(exporter: E, room: Arc<Room>, endpoint: &str, why: Arc<Why>) -> Self {
        Self { exporter, room, endpoint: endpoint.to_owned(), why, failing: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for Delivery<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.room.leave(spans);
        let endpoint = self.endpoint.as_str();
        match &result {
            Ok(()) => {
                metrics::spans("sent", spans);
                if self.failing.swap(false, Ordering::AcqRel) {
                    tracing::info!(endpoint, "the collector takes spans again");
                }
            }
            Err(error) => {
                metrics::spans("failed", spans);
                let error = self.why.take().unwrap_or_else(|| error.to_string());
                if !self.failing.swap(true, Ordering::AcqRel) {
                    tracing::warn!(
                        endpoint,
                        %error,
                        "spans are dropped: the collector does not take them; events are moderated all the same. \
                         Is an OpenTelemetry collector there, and does traces.endpoint name its OTLP/HTTP address \
                         with the path?"
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
    fn all_go_in_or_none() {
        let room = Room::new(10);
        assert!(room.enter(6) && !room.enter(5) && room.enter(4) && !room.enter(1));
        assert_eq!(room.inside(), 10);
        assert!(room.full.load(Ordering::Acquire));
        room.leave(4);
        assert!(room.full.load(Ordering::Acquire), "not half empty yet");
        room.leave(6);
        assert!(!room.full.load(Ordering::Acquire) && room.enter(10) && !room.enter(11));
    }
}
