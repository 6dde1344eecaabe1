//! Measures the time until each role works again after a restart.

use aegis::codec::{self, Encoding};
use aegis::kafka::Produced;

use crate::broker::{Site, follow, kafka, padded, record, send};
use crate::rounds::round;
use crate::shown;

/// Runs both parts.
pub fn run(rounds: usize, ledger: usize) {
    score(rounds);
    learn(ledger);
}

/// Measures the time from the start of the process to its first decision, after a clean stop.
fn score(rounds: usize) {
    println!("\nRestart of score after a clean stop, to the first visible decision; {rounds} rounds");
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let bundled = format!("folder = \"{}\"", models.display());
    for (what, bundled) in [("rules alone", None), ("the bundled panel", Some(bundled))] {
        let prefix = format!("flow.restart.{}", bundled.is_some());
        let source = format!("{prefix}.events");
        let site = match &bundled {
            None => Site::without_models(&prefix, &source, "exactly-once"),
            Some(experts) => Site::new(&prefix, &source, "exactly-once", experts),
        };
        let mut seconds = Vec::new();
        let connection = kafka().connection();
        for round in 0..=rounds {
            send(&connection, std::iter::once(record(&source, &padded(round))));
            let process = site.start("score");
            let mut seen = 0;
            follow(&site.topic("decisions"), |_| {
                seen += 1;
                seen == round + 1
            });
            // The first start is no restart.
            if round > 0 {
                seconds.push(process.age().as_secs_f64());
            }
            process.stop();
        }
        println!("{what}: {} s", shown(seconds, 2));
    }
}

/// Writes a ledger with `rounds` rounds.
pub fn fill(site: &Site, rounds: usize) {
    let topic = site.topic("rounds");
    let records = (0..rounds).flat_map(round).map(|record| Produced {
        topic: topic.as_str().into(),
        partition: Some(0),
        key: Some(codec::encode_key(&record.key())),
        payload: Some(codec::encode_record(&record, Encoding::Avro).expect("a record")),
        headers: Vec::new(),
        timestamp: None,
    });
    send(&kafka().connection(), records);
}

/// Measures the time until learn is ready, first with only the topics, then with its store.
fn learn(rounds: usize) {
    println!("\nlearn with {rounds} ledger rounds of eight votes, until it is ready");
    let site = Site::without_models("flow.learn", "flow.learn.events", "exactly-once");
    fill(&site, rounds);
    let mut process = site.start("learn");
    println!(
        "without sled: {:.1} s, {:.0} MiB",
        process.ready("learn: decisions indexed").as_secs_f64(),
        process.peak_mib()
    );
    process.stop();
    let mut process = site.start("learn");
    println!(
        "with sled: {:.1} s, {:.0} MiB",
        process.ready("learn: decisions indexed").as_secs_f64(),
        process.peak_mib()
    );
    process.stop();
}
