//! `aegis check`: what can be known without a broker. Configuration, policies, experts, and how an event or a label
//! is read.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;

use super::print::printable;
use super::{ConfigArgs, Failure, run};
use crate::codec::{MAX_EVENT, MAX_LABEL, Received, time::format_millis};
use crate::config::{Config, EventFields, LabelFields, Loaded, Pointer, Policies};
use crate::core::event::Event;
use crate::core::label::Label;
use crate::ops::Exit;
use crate::schemas;

#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Reads the file as one event, JSON or Avro, and tells what was found in it, but for its texts
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Reads the file as one human label, JSON or Avro, and tells what was found in it
    #[arg(long, value_name = "FILE")]
    label: Option<PathBuf>,
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
        println!("events in JSON: {}", pointers(&of_events(&config.event_fields)));
    }
    if config.label_fields.is_set() {
        println!("labels in JSON: {}", pointers(&of_labels(&config.label_fields)));
    }
    if let Some(path) = &args.event {
        event(path, &config, &policies)?;
    }
    if let Some(path) = &args.label {
        label(path, &config, &policies)?;
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

/// Where an event's fields are looked for, by their names.
fn of_events(fields: &EventFields) -> Vec<(&str, &Pointer)> {
    let named = vec![
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
    named.into_iter().chain(notes).collect()
}

/// The same of a label's.
fn of_labels(fields: &LabelFields) -> Vec<(&str, &Pointer)> {
    vec![
        ("event_id", &fields.event_id),
        ("id", &fields.id),
        ("tenant", &fields.tenant),
        ("policy", &fields.policy),
        ("annotator", &fields.annotator),
        ("verdict", &fields.verdict),
        ("severity", &fields.severity),
        ("categories", &fields.categories),
        ("time", &fields.time),
        ("source", &fields.source),
        ("inclusion_probability", &fields.inclusion_probability),
        ("decision", &fields.decision),
        ("corrects", &fields.corrects),
        ("retracts", &fields.retracts),
    ]
}

fn pointers(named: &[(&str, &Pointer)]) -> String {
    let given = named.iter().filter(|(_, pointer)| !pointer.is_empty());
    let given = given.map(|(name, pointer)| format!("{name} at {}", printable(pointer.as_str())));
    given.collect::<Vec<_>>().join(", ")
}

/// What a file holds; of one that is too large no more than it takes to see that.
fn payload(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let lost = |error| Failure::new(Exit::Unavailable, anyhow!("cannot read {}: {error}", path.display()));
    let mut payload = Vec::new();
    let file = File::open(path).map_err(lost)?;
    file.take(most as u64 + 1).read_to_end(&mut payload).map_err(lost)?;
    Ok(payload)
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Data, anyhow!("{}: {error}", path.display()))
}

/// Refuses what names a policy that is none.
fn known(path: &Path, what: &str, policy: &str, policies: &Policies) -> Result<(), Failure> {
    if policies.get(policy).is_some() {
        return Ok(());
    }
    let policy = printable(policy);
    Err(wrong(path, &format!("the {what} names the policy {policy}, which the policies file does not have")))
}

/// Reads a file as the first label of the topic.
fn label(path: &Path, config: &Config, policies: &Policies) -> Result<(), Failure> {
    let payload = payload(path, MAX_LABEL)?;
    let label = Received::plain(&payload).label(&schemas::defaults(config));
    let label = label.map_err(|error| wrong(path, &error))?;
    known(path, "label", &label.policy, policies)?;
    println!("label {}: {}", path.display(), printable(&told_of_label(&label)));
    Ok(())
}

fn told_of_label(label: &Label) -> String {
    let Label { id, event, tenant, policy, source, .. } = label;
    let mut told = format!("about event {event}, tenant {tenant}, policy {policy}; id {id}");
    let severity = label.severity.map(|severity| severity.to_string());
    let inclusion = label.inclusion_probability.map(|chance| chance.to_string());
    let decision = label.decision.map(|at| format!("{}:{}", at.partition, at.offset));
    let categories = (!label.categories.is_empty()).then(|| label.categories.join(" "));
    let time = (label.time != 0).then(|| format_millis(label.time));
    for (name, value) in [
        ("annotator", Some(label.annotator.as_deref().unwrap_or("none"))),
        ("verdict", label.verdict.map(|verdict| verdict.word())),
        ("severity", severity.as_deref()),
        ("categories", categories.as_deref()),
        ("time", Some(time.as_deref().unwrap_or("none"))),
        ("source", Some(source.word())),
        ("inclusion probability", inclusion.as_deref()),
        ("decision", decision.as_deref()),
        ("corrects", label.corrects.as_deref()),
        ("retracts", label.retracts.as_deref()),
    ] {
        if let Some(value) = value {
            told += &format!(", {name} {value}");
        }
    }
    told
}

/// Reads a file as the first event of the topic.
fn event(path: &Path, config: &Config, policies: &Policies) -> Result<(), Failure> {
    let payload = payload(path, MAX_EVENT)?;
    let received = Received::plain(&payload).at(&config.topics.events, 0, 0);
    let event = received.event(&schemas::defaults(config)).map_err(|error| wrong(path, &error))?;
    known(path, "event", &event.policy, policies)?;
    let shown = path.display();
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
