//! Measures the time from produce to visible decision in an open loop: each event has a fixed time at which it is due,
//! even if earlier events are not done, and its latency counts from that time (no coordinated omission).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aegis::config::Config;
use aegis::kafka::Produced;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::broker::{Site, follow, kafka, padded, record};
use crate::{shown, spread};

/// The duration of the load of each round.
pub const SENDING: Duration = Duration::from_secs(8);
/// The number of events in flight in the closed loop, which is enough for full batches.
const WINDOW: usize = 8_000;
/// The number of events of a closed loop. The first fifth is the warm-up and does not count.
const CLOSED: usize = 100_000;

/// The reported quantiles.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

/// One value for each round by quantile, in milliseconds.
#[derive(Default)]
pub struct Quantiles([Vec<f64>; 3]);

impl Quantiles {
    /// Adds the latencies of a round, in milliseconds.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "events are few"
    )]
    pub fn add(&mut self, mut latencies: Vec<f64>) {
        latencies.sort_by(f64::total_cmp);
        for (values, (_, share)) in self.0.iter_mut().zip(SHARES) {
            values.push(latencies[((latencies.len() - 1) as f64 * share) as usize]);
        }
    }

    /// Returns the 99th percentile of each round.
    pub fn p99(&self) -> &[f64] {
        &self.0[2]
    }

    /// Returns all quantiles in one line.
    pub fn line(&self) -> String {
        let one =
            |((name, _), values): ((&str, f64), &Vec<f64>)| format!("{name} {} ms", shown(values.clone(), 0));
        SHARES.into_iter().zip(&self.0).map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Sends `records` at `rate` per second, each of which results in one record of `topic`. Returns the time at which the
/// first was due, and the latencies in milliseconds. `number` returns the index of the record that an output is about,
/// or `None` if it is about an earlier record.
#[expect(clippy::cast_precision_loss, reason = "events are few")]
pub fn open_loop(
    records: &[Produced],
    topic: &str,
    rate: f64,
    number: impl Fn(&[u8]) -> Option<usize>,
) -> (SystemTime, Vec<f64>) {
    let wait = Duration::from_millis(500);
    let (start, day) = (Instant::now() + wait, SystemTime::now() + wait);
    let due = |number: usize| start + Duration::from_secs_f64(number as f64 / rate);
    let (mut latencies, mut seen) = (vec![f64::NAN; records.len()], 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let producer = producer();
            for (number, record) in records.iter().enumerate() {
                while let Some(wait) = due(number).checked_duration_since(Instant::now()) {
                    producer.poll(Duration::ZERO);
                    thread::sleep(wait.min(Duration::from_millis(1)));
                }
                give(&producer, record);
            }
            producer.flush(Duration::from_secs(30)).expect("all records are taken");
        });
        follow(topic, |key| {
            if let Some(number) = number(key) {
                latencies[number] = due(number).elapsed().as_secs_f64() * 1e3;
                seen += 1;
            }
            seen == records.len()
        });
    });
    (day, latencies)
}

fn producer() -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka().bootstrap()).set("linger.ms", "1");
    config.create().expect("a producer")
}

fn give(producer: &BaseProducer, record: &Produced) {
    let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
    let mut headers = OwnedHeaders::new();
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: value.as_deref() });
    }
    let record = BaseRecord::to(&record.topic)
        .key(key.unwrap_or_default())
        .payload(payload.unwrap_or_default())
        .headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("room for a record");
}

/// Returns the decisions per second with a producer that always has [`WINDOW`] events in flight.
#[expect(clippy::cast_precision_loss, reason = "events are few")]
fn closed_loop(records: &[Produced], topic: &str) -> f64 {
    let seen = AtomicUsize::new(0);
    let mut from = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let producer = producer();
            for (number, record) in records.iter().enumerate() {
                while number >= seen.load(Ordering::Acquire) + WINDOW {
                    producer.poll(Duration::from_millis(1));
                }
                give(&producer, record);
            }
            producer.flush(Duration::from_secs(30)).expect("all records are taken");
        });
        follow(topic, |_| {
            let count = seen.fetch_add(1, Ordering::Release) + 1;
            if count == records.len() / 5 {
                from = Instant::now();
            }
            count == records.len()
        });
    });
    (records.len() - records.len() / 5) as f64 / from.elapsed().as_secs_f64()
}

/// Returns the maximum throughput of producer, broker and scorer together on this machine without a model, in messages
/// per second.
pub fn saturation(rounds: usize) -> f64 {
    let mut rates = Vec::new();
    for round in 0..rounds {
        let source = format!("flow.saturation.{round}.events");
        let site = Site::without_models(&format!("flow.saturation.{round}"), &source, "exactly-once");
        let mut process = site.start("score");
        process.ready("score: partitions assigned");
        let records: Vec<_> = (0..CLOSED).map(|number| record(&source, &padded(number))).collect();
        rates.push(closed_loop(&records, &site.topic("decisions")));
        process.stop();
    }
    println!(
        "\nSaturation, the producer beside it: {} messages/s from produce to visible decision",
        shown(rates.clone(), 0)
    );
    spread(rates).1
}

/// Parses a key as a number.
pub fn numbered(key: &[u8]) -> usize {
    std::str::from_utf8(key).ok().and_then(|key| key.parse().ok()).expect("a number")
}

/// Runs without a model, at `rate` messages per second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates")]
pub fn run(rounds: usize, rate: f64) {
    let events = (rate * SENDING.as_secs_f64()) as usize;
    println!(
        "\nLatency: {events} events of 1 KiB at {rate:.0} a second, commit interval {} ms, read_committed",
        Config::default().score.commit_interval_ms
    );
    let mut quantiles = Quantiles::default();
    // The first round warms up the broker and the disk, and does not count.
    for round in 0..=rounds {
        let source = format!("flow.latency.{round}.events");
        let site = Site::without_models(&format!("flow.latency.{round}"), &source, "exactly-once");
        let mut process = site.start("score");
        process.ready("score: partitions assigned");
        let records: Vec<_> = (0..events).map(|number| record(&source, &padded(number))).collect();
        let (_, latencies) = open_loop(&records, &site.topic("decisions"), rate, |key| Some(numbered(key)));
        process.stop();
        if round > 0 {
            quantiles.add(latencies);
        }
    }
    println!("{}", quantiles.line());
}
