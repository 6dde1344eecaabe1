//! Benchmarks of the flow on a real Apache Kafka, compared in one run with the programs that it is measured against:
//!
//! ```text
//! cargo bench --bench flow                    every part
//! cargo bench --bench flow -- throughput      against a bare consume-produce-commit loop; no model
//! cargo bench --bench flow -- latency         produce to visible decision at half of saturation, or --rate N a second
//! cargo bench --bench flow -- restart         score after a clean stop; learn with and without sled
//! cargo bench --bench flow -- beside          the same latency beside a learner that restores, in turn: from the
//!                                             ledger topic or from sled, in its own process or in that of score
//! cargo bench --bench flow -- idle            both roles without records to process
//! cargo bench --bench flow -- inference       one head, against the limit and Python consumers; all mixes of
//!                                             lengths, or those named: chat, long, one-length; with `short` only
//!                                             Aegis with one head, the limit and the sorted consumer
//! cargo bench --bench flow -- load            one head, produce to visible decision under four loads, or only at
//!                                             --at N percent of the maximum; p99 compared with the delay cap and
//!                                             the longest batch, and the time of each stage
//! cargo bench --bench flow -- round-trip      both roles with brokers that are 0 to 1,000 ms away, through a proxy
//! cargo bench --bench flow -- rebalance       the pause of decisions when one of three scorers is killed, under both
//!                                             protocols of groups
//! cargo bench --bench flow -- cuda            experts on an NVIDIA GPU and on the CPU, Python consumers on the GPU;
//!                                             runs only if it is named
//! ```
//!
//! `--rounds N` (5), `--events N` (160000), `--ledger N` (1000000), `--texts N` (2000), `--interval MS` of `load`'s
//! commits (20). The requirements are those of `make test`.

mod bare;
mod beside;
mod broker;
mod card;
mod idle;
mod inference;
mod latency;
mod limit;
mod load;
mod process;
mod rebalance;
mod restart;
mod round_trip;
mod rounds;
mod stages;
mod texts;
mod throughput;

use std::str::FromStr;

use aegis::config::Config;

/// Returns the value after `--name`, or `default`.
fn option<T: FromStr>(words: &[String], name: &str, default: T) -> T {
    let value = words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    value.and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == bare::WORD) {
        bare::run(&words);
        return;
    }
    if words.first().is_some_and(|word| word == limit::WORD) {
        limit::run(&words);
        return;
    }
    let rounds = option(&words, "--rounds", 5);
    let events = option(&words, "--events", 160_000);
    let ledger = option(&words, "--ledger", 1_000_000);
    let texts = option(&words, "--texts", 2_000);
    if words.iter().any(|word| word == "cuda") {
        card::run(rounds, texts);
        return;
    }
    let parts = [
        "throughput",
        "latency",
        "beside",
        "restart",
        "idle",
        "inference",
        "load",
        "round-trip",
        "rebalance",
    ];
    let named: Vec<&str> = parts.into_iter().filter(|part| words.iter().any(|word| word == part)).collect();
    let wanted = |part: &str| named.is_empty() || named.contains(&part);
    if wanted("throughput") {
        throughput::run(rounds, events);
    }
    let half = || match option(&words, "--rate", 0.0) {
        given if given > 0.0 => given,
        _ => latency::saturation(rounds) / 2.0,
    };
    if wanted("latency") {
        latency::run(rounds, half());
    }
    if wanted("beside") {
        beside::run(rounds, half(), ledger);
    }
    if wanted("restart") {
        restart::run(rounds, ledger);
    }
    if wanted("idle") {
        idle::run();
    }
    if wanted("inference") {
        inference::run(rounds, texts, &words);
    }
    if wanted("round-trip") {
        round_trip::run(events, texts);
    }
    if wanted("rebalance") {
        rebalance::run(rounds);
    }
    if wanted("load") {
        let interval = Config::default().score.commit_interval_ms;
        load::run(rounds, texts, option(&words, "--interval", interval), option(&words, "--at", 0));
    }
}

/// Returns the least, the median and the greatest value.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// Returns `median (least to greatest)`.
fn shown(values: Vec<f64>, digits: usize) -> String {
    let (least, median, greatest) = spread(values);
    format!("{median:.digits$} ({least:.digits$} to {greatest:.digits$})")
}
