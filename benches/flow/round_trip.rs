//! Measures both roles with a broker that is far away, behind a proxy that delays all bytes and does not limit the
//! bandwidth.

use std::time::{Duration, Instant};

use aegis::core::label::Finding;
use aegis::kafka::{Followed, Follower, From};

use crate::broker::support::far::Far;
use crate::broker::support::flow::{label, label_record};
use crate::broker::support::site::{Process, Site};
use crate::broker::{event, padded, record, send};

/// The round trips, in milliseconds.
const TRIPS: [u64; 7] = [0, 50, 100, 200, 400, 500, 1_000];
/// The number of partitions of events and decisions.
const PARTITIONS: i32 = 4;
/// The first `1 / START` of the events do not count. Batches have grown to their size by then.
const START: usize = 4;
/// Records that arrive within this time after the first of a batch belong to the same batch.
const AT_ONCE: Duration = Duration::from_millis(200);
/// The timeout of every step.
const PATIENCE: Duration = Duration::from_secs(300);

/// One row of the table.
struct Row {
    ready: Duration,
    first: Duration,
    rate: f64,
    learned: Duration,
    again: usize,
}

/// Runs all round trips and prints the table of docs/operating.md.
pub fn run(events: usize, labels: usize) {
    println!(
        "\nRound trip to the brokers: {events} events of 1 KiB on {PARTITIONS} partitions, no model; {labels} labels"
    );
    let far = Far::start();
    println!(
        "| round trip | score is ready after | first decision after | decisions a second | {labels} labels are learned after | batches repeated |"
    );
    println!("|---|---|---|---|---|---|");
    for millis in TRIPS {
        let row = passage(&far, millis, events, labels);
        println!(
            "| {millis} ms | {:.1} s | {:.1} s | {:.0} | {:.1} s | {} |",
            row.ready.as_secs_f64(),
            row.first.as_secs_f64(),
            row.rate,
            row.learned.as_secs_f64(),
            row.again
        );
    }
}

fn passage(far: &Far, millis: u64, events: usize, labels: usize) -> Row {
    far.proxy.set_round_trip(Duration::ZERO);
    let brokers = far.bootstrap();
    let sets = [("log.level", "info"), ("kafka.brokers", &brokers), ("experts.only", "[\"lenient\"]")];
    let site = Site::on(&far.kafka, &format!("trip{millis}"), PARTITIONS, &sets);
    let source = site.topic("events");
    send(&site.connection, (0..events).map(|number| record(&source, &padded(number))));
    far.proxy.set_round_trip(Duration::from_millis(millis));

    let started = Instant::now();
    let mut score = site.start_with("score", &[], &[]);
    let ready = ready(&mut score, started);
    let (first, rate) = decided(&site, started, events);
    let mut again = score.log().matches("a batch is repeated").count();

    let topic = site.topic("labels");
    let labelled =
        (0..labels).map(|number| label(&format!("l{number}"), &event(number, "").id, Finding::Safe));
    send(&site.connection, labelled.map(|label| label_record(&topic, &label)));
    let started = Instant::now();
    let learn = site.start_with("learn", &[], &[]);
    site.published(labels as u64, 0);
    let learned = started.elapsed();
    again += learn.log().matches("a batch is repeated").count();

    far.proxy.set_round_trip(Duration::ZERO);
    score.stop();
    learn.stop();
    Row { ready, first, rate, learned, again }
}

/// Returns the time until the first decision is visible, and the decisions per second after the warm-up.
#[expect(clippy::cast_precision_loss, reason = "events are few")]
fn decided(site: &Site, started: Instant, events: usize) -> (Duration, f64) {
    let decisions = site.topic("decisions");
    let mut follower =
        Follower::open(&site.connection, &decisions, &From::Beginning, PATIENCE).expect("a reader");
    let warm = events / START;
    let (mut seen, mut first, mut warmed) = (0, None, started);
    let mut from = (started, 0);
    while seen < events {
        assert!(started.elapsed() < PATIENCE, "{seen} of {events} are decided");
        let Followed::Record(_) = follower.poll(Duration::from_millis(100)).expect("a record") else {
            continue;
        };
        seen += 1;
        first.get_or_insert_with(|| started.elapsed());
        if seen == warm {
            warmed = Instant::now();
        }
        // The records of a batch become visible together, so the clock starts after the batch in which the warm-up
        // ends.
        if seen >= warm && warmed.elapsed() < AT_ONCE {
            from = (Instant::now(), seen);
        }
    }
    let (at, before) = from;
    (first.expect("a decision"), (events - before) as f64 / at.elapsed().as_secs_f64())
}

fn ready(process: &mut Process, started: Instant) -> Duration {
    process.says("health and metrics");
    while process.get("/readyz").0 != 200 {
        assert!(started.elapsed() < PATIENCE, "{}", process.get("/readyz").1);
        std::thread::sleep(Duration::from_millis(20)); // no event announces this
    }
    started.elapsed()
}
