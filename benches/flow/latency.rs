//! From produce to visible decision in an open loop: each event has its time, whether or not the ones
//! before it are done, and its latency counts from then (no coordinated omission).

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::broker::{Site, follow, kafka, padded, record};
use crate::shown;

/// How long each round sends.
const SENDING: Duration = Duration::from_secs(8);

/// `saturation`: messages a second; unknown, 8,000.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates"
)]
pub fn run(rounds: usize, _events: usize, saturation: Option<f64>) {
    let rate = saturation.unwrap_or(8_000.0) / 2.0;
    let events = (rate * SENDING.as_secs_f64()) as usize;
    println!(
        "\nLatency: {events} events of 1 KiB at {rate:.0} a second, commit interval 100 ms, read_committed"
    );
    let mut quantiles: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        let source = format!("flow.latency.{round}.events");
        let site = Site::without_models(&format!("flow.latency.{round}"), &source, "exactly-once", "");
        let mut process = site.start("score");
        process.ready("partitions assigned");
        let records: Vec<_> = (0..events).map(|number| record(&source, &padded(number))).collect();
        let start = Instant::now() + Duration::from_millis(500);
        let due = |number: usize| start + Duration::from_secs_f64(number as f64 / rate);
        let mut latencies = Vec::with_capacity(events);
        thread::scope(|scope| {
            scope.spawn(|| {
                let producer: BaseProducer = ClientConfig::new()
                    .set("bootstrap.servers", kafka().bootstrap())
                    .set("linger.ms", "1")
                    .create()
                    .expect("a producer");
                for (number, record) in records.iter().enumerate() {
                    while let Some(wait) = due(number).checked_duration_since(Instant::now()) {
                        producer.poll(Duration::ZERO);
                        thread::sleep(wait.min(Duration::from_millis(1)));
                    }
                    let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
                    let record = BaseRecord::to(&source)
                        .key(key.unwrap_or_default())
                        .payload(payload.unwrap_or_default());
                    producer.send(record).map_err(|(error, _)| error).expect("room for a record");
                }
                producer.flush(Duration::from_secs(30)).expect("all records are taken");
            });
            follow(&site.topic("decisions"), |key| {
                let number =
                    std::str::from_utf8(key).ok().and_then(|key| key.parse().ok()).expect("a number");
                latencies.push(due(number).elapsed().as_secs_f64() * 1e3);
                latencies.len() == events
            });
        });
        process.stop();
        latencies.sort_by(f64::total_cmp);
        for (values, share) in quantiles.iter_mut().zip([0.5, 0.95, 0.99]) {
            values.push(latencies[((events - 1) as f64 * share) as usize]);
        }
    }
    for (name, values) in ["p50", "p95", "p99"].iter().zip(quantiles) {
        println!("{name}: {} ms", shown(values, 1));
    }
}
