//! `aegis check`: what can be known without a broker. Configuration, policies, experts, and how an event is read.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;

use super::print::printable;
use super::{ConfigArgs, Failure, run};
use crate::codec::{MAX_EVENT, Received, time::format_millis};
use crate::config::{Config, EventFields, Loaded, Policies};
use crate::core::event::Event;
use crate::ops::Exit;
use crate::schemas;

#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Reads the file as one event, JSON or Avro, and tells what was found in it, but for its texts
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
}

/// So many turns of an event are told of.
const SHOWN: usize = 20;

pub fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let file = args.config.config.display();
    let Loaded { config, policies } = args.config.load()?;
    println!("{file}: in order");
    for policy in policies.policies.values() {
        let threshold = policy.threshold();
        println!(
            "policy {} version {}: {} learner, flags from p = {threshold:.3}",
            policy.name, policy.version, policy.learner.name
        );
    }
    if config.event_fields.is_set() {
        println!("events in JSON: {}", pointers(&config.event_fields));
    }
    if let Some(path) = &args.event {
        event(path, &config, &policies)?;
    }
    run::traced(&config)?;
    run::connection(&config)?;
    let panel = run::panel(&config)?;
    run::fitting(&panel, &config, &policies)?;
    for expert in panel.experts() {
        let shadow = if config.experts.shadow.contains(&expert.id) { ", in shadow" } else { "" };
        println!(
            "expert {}: {}, {}, {}{shadow}",
            expert.id,
            expert.kind.word(),
            expert.provider,
            expert.state.word()
        );
    }
    println!("brokers {}: settings in order; `aegis topics --config {file}` asks them", config.kafka.brokers);
    Ok(Exit::Success)
}

/// Where fields are looked for, by their names.
fn pointers(fields: &EventFields) -> String {
    let named = [
        ("turns", &fields.turns),
        ("text", &fields.text),
        ("id", &fields.id),
        ("conversation", &fields.conversation),
        ("tenant", &fields.tenant),
        ("policy", &fields.policy),
        ("subject", &fields.subject),
        ("time", &fields.time),
        ("judged", &fields.judged),
    ];
    let notes = fields.metadata.iter().map(|(name, pointer)| (name.as_str(), pointer));
    let all = named.into_iter().chain(notes).filter(|(_, pointer)| !pointer.is_empty());
    let all = all.map(|(name, pointer)| format!("{name} at {}", printable(pointer.as_str())));
    all.collect::<Vec<_>>().join(", ")
}

/// Reads a file as the first event of the topic.
fn event(path: &Path, config: &Config, policies: &Policies) -> Result<(), Failure> {
    let shown = path.display();
    let lost = |error| Failure::new(Exit::Unavailable, anyhow!("cannot read {shown}: {error}"));
    let mut payload = Vec::new();
    let file = File::open(path).map_err(lost)?;
    file.take(MAX_EVENT as u64 + 1).read_to_end(&mut payload).map_err(lost)?;
    let received = Received::plain(&payload).at(&config.topics.events, 0, 0);
    let wrong = |error| Failure::new(Exit::Data, anyhow!("{shown}: {error}"));
    let event = received.event(&schemas::defaults(config)).map_err(|error| wrong(error.to_string()))?;
    if policies.get(&event.policy).is_none() {
        let policy = printable(&event.policy);
        return Err(wrong(format!(
            "the event names the policy {policy}, which the policies file does not have"
        )));
    }
    println!("event {shown}: {}", printable(&told(&event)));
    for (number, turn) in event.turns.iter().enumerate().take(SHOWN) {
        let judged = if number == event.judged { ", judged" } else { "" };
        println!("  turn {number}: {}, {} bytes of text{judged}", turn.role.word(), turn.text.len());
    }
    if event.turns.len() > SHOWN {
        println!("  … {} turns in all, number {} is judged", event.turns.len(), event.judged);
    }
    Ok(())
}

fn told(event: &Event) -> String {
    let mut told = format!(
        "id {}, conversation {}, tenant {}, policy {}",
        event.id, event.conversation, event.tenant, event.policy
    );
    let time = event.time.map(format_millis);
    for (name, value) in [("subject", event.subject.as_deref()), ("time", time.as_deref())] {
        told += &format!(", {name} {}", value.unwrap_or("none"));
    }
    for (name, value) in &event.metadata {
        told += &format!(", {name} = {value}");
    }
    told
}
