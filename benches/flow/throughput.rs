//! Measures the maximum throughput and the CPU time per message, compared with the bare loop.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::bare;
use crate::broker::{Site, broker_cpu, follow, kafka, padded, record, send};
use crate::process::{Process, machine_cpu};
use crate::shown;

/// The result of one measurement.
pub struct Passage {
    /// The messages per second.
    pub rate: f64,
    /// The CPU time of the process per message, in microseconds.
    pub micros: f64,
    /// The CPU time of the broker per message, in microseconds.
    pub broker: f64,
    /// The share of all cores that everything else used meanwhile: broker, reader and host.
    pub beside: f64,
}

/// The records of a program that writes a window at a time become visible together: records that arrive within this
/// time after the first counted one were processed before it.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Measures a process while it processes the events. The first fifth is the warm-up and does not count.
#[expect(clippy::cast_precision_loss, reason = "messages are few")]
pub fn measure(process: &Process, topic: &str, events: usize) -> Passage {
    let warm = events / 5;
    let mut seen = 0;
    let (mut warmed, mut cpu, mut broker, mut all) = (Instant::now(), 0.0, 0.0, 0.0);
    let mut from = (warmed, warm);
    follow(topic, |_| {
        seen += 1;
        if seen == warm {
            (warmed, cpu, broker, all) = (Instant::now(), process.cpu(), broker_cpu(), machine_cpu());
        }
        if seen >= warm && warmed.elapsed() < AT_ONCE {
            from = (Instant::now(), seen);
        }
        seen == events
    });
    let counted = (events - from.1) as f64;
    let seconds = from.0.elapsed().as_secs_f64();
    let (cpu, broker) = (process.cpu() - cpu, broker_cpu() - broker);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let beside = (machine_cpu() - all - cpu) / (warmed.elapsed().as_secs_f64() * cores);
    Passage { rate: counted / seconds, micros: cpu / counted * 1e6, broker: broker / counted * 1e6, beside }
}

/// Runs all programs, interleaved.
pub fn run(rounds: usize, events: usize) {
    println!(
        "\nThroughput: {events} events of 1 KiB on 4 partitions, no model; {rounds} rounds, interleaved"
    );
    let source = "flow.throughput.events";
    let first = Site::without_models("flow.make", source, "exactly-once");
    send(&kafka().connection(), (0..events).map(|number| record(source, &padded(number))));
    drop(first);
    let mut passages: [Vec<Passage>; 3] = Default::default();
    for round in 0..rounds {
        let site =
            |word: &str, delivery| Site::without_models(&format!("flow.{word}.{round}"), source, delivery);

        let out = site("bare", "exactly-once");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let group = format!("flow.bare.{round}");
        command.args([bare::WORD, &kafka().bootstrap(), source, &out.topic("decisions"), &group]);
        let process = Process::start(command);
        passages[0].push(measure(&process, &out.topic("decisions"), events));
        process.kill();

        for (place, word, delivery) in [(1, "once", "exactly-once"), (2, "least", "at-least-once")] {
            let out = site(word, delivery);
            let process = out.start("score");
            passages[place].push(measure(&process, &out.topic("decisions"), events));
            process.stop();
        }
    }
    let rates = |of: &[Passage]| of.iter().map(|passage| passage.rate).collect::<Vec<_>>();
    let micros = |of: &[Passage]| of.iter().map(|passage| passage.micros).collect::<Vec<_>>();
    let names = ["bare loop, exactly once", "aegis, exactly once", "aegis, at least once"];
    for (name, passages) in names.iter().zip(&passages) {
        println!(
            "{name:<24} {} messages/s, {} us CPU a message",
            shown(rates(passages), 0),
            shown(micros(passages), 1)
        );
    }
    let ratio =
        |above: Vec<f64>, below: Vec<f64>| above.iter().zip(below).map(|(a, b)| a / b).collect::<Vec<_>>();
    let [bare, once, least] = &passages;
    println!("throughput, aegis to the bare loop: {}", shown(ratio(rates(once), rates(bare)), 2));
    println!("CPU, exactly once to at least once: {}", shown(ratio(micros(once), micros(least)), 2));
}
