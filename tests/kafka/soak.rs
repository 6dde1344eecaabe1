//! The memory under load: the bundled panel and the learner on a real Apache Kafka, with events of all lengths, some of
//! them labelled. `make soak` runs the test for `AEGIS_SOAK_MINUTES` (15). `make test` skips it because of its
//! duration.

use crate::support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aegis::core::label::Finding;
use support::flow::{event, event_record, label, label_record, send};
use support::site::{Process, Site, wait};

/// The number of events per second, with which two cores and the whole panel keep up.
const RATE: usize = 40;
/// One in this number of events is labelled.
const LABELLED: usize = 10;
/// The allowed growth of resident memory by role, in MiB per hour, once no new state has to be kept.
const GROWTH: [(&str, f64); 2] = [("score", 12.0), ("learn", 12.0)];
/// The size of the cache of earlier answers. It is small, so that it is full after the first third.
const CACHE: &str = "experts.cache_mib=1";

/// Returns a text with a length and words that depend on the number.
fn text(number: usize) -> String {
    const WORDS: [&str; 12] =
        ["please", "tell", "me", "how", "the", "river", "finds", "its", "way", "between", "old", "stones"];
    let length = if number.is_multiple_of(20) { 200 } else { 3 + number * 7 % 40 };
    let words = (0..length).map(|place| WORDS[(number * 31 + place * place * 7 + place) % WORDS.len()]);
    format!("{number} {}", words.collect::<Vec<_>>().join(" "))
}

/// Returns the resident memory of a process, in MiB.
fn resident(process: &Process) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Returns the slope of a least-squares line through points of (seconds, MiB), in MiB per hour.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (middle, level) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points.iter().map(|(at, value)| (at - middle) * (value - level)).sum();
    let under: f64 = points.iter().map(|(at, _)| (at - middle).powi(2)).sum();
    over / under * 3600.0
}

#[test]
#[ignore = "takes a quarter of an hour: make soak"]
fn memory_grows_by_little_under_load() {
    let minutes: u64 = std::env::var("AEGIS_SOAK_MINUTES").map_or(15, |said| said.parse().unwrap());
    let site = Site::new("soak");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let bundled = format!("experts.folder={}", models.display());
    let scorer = ["--set", bundled.as_str(), "--set", CACHE];
    let roles = [site.start_with("score", &scorer, &[]), site.start_with("learn", &[], &[])];
    let (events, labels) = (site.topic("events"), site.topic("labels"));

    let began = Instant::now();
    let third = Duration::from_secs(minutes * 60 / 3);
    let mut fresh = 1;
    let mut points: [Vec<(f64, f64)>; 2] = Default::default();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(minutes * 60) {
        let due = (began.elapsed().as_secs_f64() * RATE as f64) as usize;
        let numbers = sent..due.max(sent);
        let events = numbers.clone().map(|number| event_record(&events, &event(number, &text(number))));
        send(&site.connection, &events.collect::<Vec<_>>());
        let finding = |number: usize| if number.is_multiple_of(3) { Finding::Unsafe } else { Finding::Safe };
        // The learner keeps each labelled round. After the first third labels are only of earlier rounds.
        if began.elapsed() < third {
            fresh = due.max(1);
        }
        let labelled = numbers.filter(|number| number.is_multiple_of(LABELLED)).map(|number| {
            let number = if number < fresh { number } else { number % fresh / LABELLED * LABELLED };
            label_record(&labels, &label(&format!("l{number}"), &format!("e{number:05}"), finding(number)))
        });
        send(&site.connection, &labelled.collect::<Vec<_>>());
        sent = due.max(sent);
        let at = began.elapsed().as_secs_f64();
        for (points, role) in points.iter_mut().zip(&roles) {
            points.push((at, resident(role)));
        }
        std::thread::sleep(Duration::from_secs(1)); // the interval of the load
    }
    wait("all events", || site.committed("score", "events") == i64::try_from(sent).unwrap());

    for (points, (role, most)) in points.iter().zip(GROWTH) {
        // Caches, arenas and pools fill up in the first third.
        let settled = points.get(points.len() / 3..).unwrap();
        let (slope, level) = (slope(settled), settled.last().unwrap().1);
        println!(
            "{role}: {level:.0} MiB after {minutes} min and {sent} events, growing by {slope:.1} MiB an hour"
        );
        assert!(slope < most, "{role} grows by {slope:.1} MiB an hour, at most {most} is well");
    }
    roles.into_iter().for_each(Process::stop);
    site.verified();
}
