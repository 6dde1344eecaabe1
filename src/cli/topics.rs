//! `aegis topics`: what the topics must be like, and what they are.

mod sizes;

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::print::{self, Output};
use super::{ConfigArgs, Failure, run};
use crate::config::topic_specs;
use crate::kafka::SourceError;
use crate::kafka::topics::{Finding, TopicSpec, check, ensure, limit, partitions};
use crate::ops::Exit;
use crate::ops::stdout::outln;

#[derive(Args)]
pub struct TopicsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Makes the topics that are missing, and adds the partitions that decisions and review requests lack;
    /// nothing else that exists is changed
    #[arg(long)]
    create: bool,
    /// Prints what is needed and asks no broker
    #[arg(long, conflicts_with = "create")]
    dry_run: bool,
    /// Partitions of topics made anew; decisions and review requests get as many as events have
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// For people or for machines
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(15);

pub fn topics(args: &TopicsArgs) -> Result<Exit, Failure> {
    let config = args.config.load()?.config;
    if args.dry_run {
        let needed: Vec<_> = topic_specs(&config, args.partitions).iter().map(Needed::of).collect();
        match args.output {
            Output::Json => print::json(&needed)?,
            Output::Text => print_needed(&needed),
        }
        return Ok(Exit::Success);
    }
    let connection = run::brokers(&config)?;
    let unavailable = |error| Failure::of(&connection, error);
    let count = match partitions(&connection, &config.topics.events, PATIENCE) {
        Ok(count) => count,
        Err(SourceError::MissingTopic { .. }) => args.partitions,
        Err(error) => return Err(unavailable(error)),
    };
    let specs = topic_specs(&config, count);
    let findings = if args.create {
        ensure(&connection, &specs, PATIENCE).map_err(unavailable)?
    } else {
        check(&connection, &specs, true, PATIENCE).map_err(unavailable)?
    };
    let mut found: Vec<_> =
        specs.iter().zip(findings).map(|(spec, finding)| Found::of(spec, finding)).collect();
    let there = found.iter().filter(|found| found.state != "missing").map(|found| found.topic.clone());
    let limits = there.map(|topic| Ok((topic.clone(), limit(&connection, &topic, PATIENCE)?)));
    let limits = limits.collect::<Result<_, _>>().map_err(unavailable)?;
    for (topic, note) in sizes::narrow(&config.topics, &limits, connection.largest()) {
        let of = found.iter_mut().filter(|found| found.topic == topic);
        of.for_each(|found| found.notes.push(note.clone()));
    }
    match args.output {
        Output::Json => print::json(&found)?,
        Output::Text => {
            for Found { topic, says, notes, .. } in &found {
                says.iter().for_each(|word| outln!("{topic:<24} {word}"));
                notes.iter().for_each(|note| outln!("{topic:<24} note: {note}"));
            }
        }
    }
    let well = found.iter().all(|found| !matches!(found.state, "missing" | "wrong"));
    Ok(if well { Exit::Success } else { Exit::Unavailable })
}

/// What a topic must be like.
#[derive(Serialize)]
struct Needed {
    topic: String,
    partitions: i32,
    /// None: the user's affair.
    cleanup: Option<&'static str>,
    /// Further settings.
    also: Vec<String>,
}

impl Needed {
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

fn print_needed(needed: &[Needed]) {
    outln!("{:<24} {:>10}  {:<8} also", "topic", "partitions", "cleanup");
    for Needed { topic, partitions, cleanup, also } in needed {
        let line =
            format!("{topic:<24} {partitions:>10}  {:<8} {}", cleanup.unwrap_or("yours"), also.join(" "));
        outln!("{}", line.trim_end());
    }
}

/// What a topic is like.
#[derive(Serialize)]
struct Found {
    topic: String,
    /// `in_order`, `made`, `grown`, `missing` or `wrong`.
    state: &'static str,
    /// For people; of a wrong topic one sentence for each thing that is wrong.
    says: Vec<String>,
    /// What can go wrong with large records; nothing that keeps the promises from holding.
    notes: Vec<String>,
}

impl Found {
    fn of(spec: &TopicSpec, finding: Finding) -> Self {
        let partitions = spec.partitions;
        let (state, says) = match finding {
            Finding::Fine => ("in_order", vec!["in order".to_owned()]),
            Finding::Made => ("made", vec![format!("made, {partitions} partitions")]),
            Finding::Grown(had) => ("grown", vec![format!("grown from {had} to {partitions} partitions")]),
            Finding::Missing => ("missing", vec!["missing: make it with --create".to_owned()]),
            Finding::Wrong(reasons) => ("wrong", reasons),
        };
        Self { topic: spec.name.clone(), state, says, notes: Vec::new() }
    }
}
