//! `aegis topics`: what the topics must be like, and what they are.

use std::time::Duration;

use clap::Args;

use super::{ConfigArgs, Failure, run};
use crate::kafka::SourceError;
use crate::kafka::topics::{Finding, check, ensure, partitions};
use crate::ops::Exit;
use crate::topics::table;

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
}

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(15);

pub fn topics(args: &TopicsArgs) -> Result<Exit, Failure> {
    let config = args.config.load()?.config;
    if args.dry_run {
        println!("{:<24} {:>10}  {:<8} also", "topic", "partitions", "cleanup");
        for spec in table(&config, args.partitions) {
            let cleanup = spec.cleanup.map_or("yours", |cleanup| cleanup.word());
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
            println!("{:<24} {:>10}  {cleanup:<8} {}", spec.name, spec.partitions, also.join(" "));
        }
        return Ok(Exit::Success);
    }
    let connection = run::connection(&config)?;
    let unavailable = |error| Failure::of(&connection, error);
    let count = match partitions(&connection, &config.topics.events, PATIENCE) {
        Ok(count) => count,
        Err(SourceError::MissingTopic { .. }) => args.partitions,
        Err(error) => return Err(unavailable(error)),
    };
    let specs = table(&config, count);
    let findings = if args.create {
        ensure(&connection, &specs, PATIENCE).map_err(unavailable)?
    } else {
        check(&connection, &specs, true, PATIENCE).map_err(unavailable)?
    };
    let mut well = true;
    for (spec, finding) in specs.iter().zip(findings) {
        match finding {
            Finding::Fine => println!("{:<24} in order", spec.name),
            Finding::Made => println!("{:<24} made, {} partitions", spec.name, spec.partitions),
            Finding::Grown(had) => {
                println!("{:<24} grown from {had} to {} partitions", spec.name, spec.partitions);
            }
            Finding::Missing => {
                well = false;
                println!("{:<24} missing: make it with --create", spec.name);
            }
            Finding::Wrong(reasons) => {
                well = false;
                reasons.iter().for_each(|reason| println!("{:<24} {reason}", spec.name));
            }
        }
    }
    Ok(if well { Exit::Success } else { Exit::Unavailable })
}
