//! `aegis topics`: compares the topics with their specifications, and creates missing ones.

mod sizes;

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::print::{self, Output};
use super::{ConfigArgs, Failure, run};
use crate::config::topic_specs;
use crate::kafka::SourceError;
use crate::kafka::topics::{Finding, TopicSpec, check, ensure, max_message_bytes, partitions};
use crate::ops::Exit;
use crate::ops::stdout::outln;

#[derive(Args)]
pub struct TopicsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Creates missing topics, and adds missing partitions to decisions and review requests; changes nothing
    /// else
    #[arg(long)]
    create: bool,
    /// Prints the specifications without connecting to a broker
    #[arg(long, conflicts_with = "create")]
    dry_run: bool,
    /// The partitions of new topics; decisions and review requests get as many as events have
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The time that brokers have to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

pub fn topics(args: &TopicsArgs) -> Result<Exit, Failure> {
    let config = args.config.load()?.config;
    if args.dry_run {
        let needed: Vec<_> = topic_specs(&config, args.partitions).iter().map(TopicNeed::of).collect();
        match args.output {
            Output::Json => print::json(&needed)?,
            Output::Text => print_needed(&needed),
        }
        return Ok(Exit::Success);
    }
    let connection = run::brokers(&config)?;
    let unavailable = |error| Failure::of(&connection, error);
    let count = match partitions(&connection, &config.topics.events, ANSWER_TIMEOUT) {
        Ok(count) => count,
        Err(SourceError::MissingTopic { .. }) => args.partitions,
        Err(error) => return Err(unavailable(error)),
    };
    let specs = topic_specs(&config, count);
    let findings = if args.create {
        ensure(&connection, &specs, ANSWER_TIMEOUT).map_err(unavailable)?
    } else {
        check(&connection, &specs, true, ANSWER_TIMEOUT).map_err(unavailable)?
    };
    let mut found: Vec<_> =
        specs.iter().zip(findings).map(|(spec, finding)| TopicReport::of(spec, finding)).collect();
    let there = found.iter().filter(|found| found.state != "missing").map(|found| found.topic.clone());
    let limits =
        there.map(|topic| Ok((topic.clone(), max_message_bytes(&connection, &topic, ANSWER_TIMEOUT)?)));
    let limits = limits.collect::<Result<_, _>>().map_err(unavailable)?;
    for (topic, note) in sizes::narrow(&config.topics, &limits, connection.max_record_size()) {
        let of = found.iter_mut().filter(|found| found.topic == topic);
        of.for_each(|found| found.notes.push(note.clone()));
    }
    match args.output {
        Output::Json => print::json(&found)?,
        Output::Text => {
            for TopicReport { topic, says, notes, .. } in &found {
                says.iter().for_each(|word| outln!("{topic:<24} {word}"));
                notes.iter().for_each(|note| outln!("{topic:<24} note: {note}"));
            }
        }
    }
    let well = found.iter().all(|found| !matches!(found.state, "missing" | "wrong"));
    Ok(if well { Exit::Success } else { Exit::Unavailable })
}

/// The specification of a topic, as it is printed.
#[derive(Serialize)]
struct TopicNeed {
    topic: String,
    partitions: i32,
    /// The cleanup policy. `None` leaves the choice to the user.
    cleanup: Option<&'static str>,
    /// The other settings.
    also: Vec<String>,
}

impl TopicNeed {
    fn of(spec: &TopicSpec) -> Self {
        let mut also = Vec::new();
        if let Some(clock) = spec.clock {
            also.push(format!("message.timestamp.type={}", clock.word()));
        }
        if spec.safe {
            also.push("min.insync.replicas>=2 (1 with one replica)".to_owned());
        }
        if let Some(keeps) = spec.keeps {
            also.push(format!("retention.ms>={}", keeps.as_millis()));
        }
        let cleanup = spec.cleanup.map(|cleanup| cleanup.word());
        Self { topic: spec.name.clone(), partitions: spec.partitions, cleanup, also }
    }
}

fn print_needed(needed: &[TopicNeed]) {
    outln!("{:<24} {:>10}  {:<8} also", "topic", "partitions", "cleanup");
    for TopicNeed { topic, partitions, cleanup, also } in needed {
        let line =
            format!("{topic:<24} {partitions:>10}  {:<8} {}", cleanup.unwrap_or("yours"), also.join(" "));
        outln!("{}", line.trim_end());
    }
}

/// The state of a topic, as it is printed.
#[derive(Serialize)]
struct TopicReport {
    topic: String,
    /// `in_order`, `made`, `grown`, `missing` or `wrong`.
    state: &'static str,
    /// The state as text. A wrong topic has one sentence for each error.
    says: Vec<String>,
    /// Possible problems with large records, which do not break the guarantees.
    notes: Vec<String>,
}

impl TopicReport {
    fn of(spec: &TopicSpec, finding: Finding) -> Self {
        let partitions = spec.partitions;
        let (state, says) = match finding {
            Finding::Fine => ("in_order", vec!["ok".to_owned()]),
            Finding::Made => ("made", vec![format!("created ({})", count(partitions))]),
            Finding::Grown(had) => ("grown", vec![format!("grown from {had} to {}", count(partitions))]),
            Finding::Missing => ("missing", vec!["missing: create it with --create".to_owned()]),
            Finding::Wrong(reasons) => ("wrong", reasons),
        };
        Self { topic: spec.name.clone(), state, says, notes: Vec::new() }
    }
}

fn count(partitions: i32) -> String {
    format!("{partitions} partition{}", if partitions == 1 { "" } else { "s" })
}
