//! `aegis check`: what can be known without a broker. Configuration, policies, experts, and how an event or a label
//! is read.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value, json};

use super::print::{self, Output, printable};
use super::{ConfigArgs, Failure, run};
use crate::codec::{self, Encoding, MAX_EVENT, MAX_LABEL, Received, time::format_millis};
use crate::config::{Config, EventFields, Loaded, Pointer, Policies};
use crate::core::event::{Event, Turn};
use crate::core::label::Label;
use crate::core::policy::Policy;
use crate::core::text;
use crate::experts::ExpertInfo;
use crate::ops::Exit;
use crate::ops::stdout::outln;
use crate::schemas;

#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Reads the file as one event, JSON or Avro, and tells what was found in it, but for its texts
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Reads the file as one record of human labels, JSON or Avro, and tells what was found in it
    #[arg(long, value_name = "FILE")]
    label: Option<PathBuf>,
    /// For people or for machines
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What is known so far: people read it as it comes, machines get all of it at the end.
struct Known {
    output: Output,
    told: Map<String, Value>,
}

impl Known {
    fn add(&mut self, name: &str, value: Value, lines: &[String]) {
        if self.output == Output::Text {
            lines.iter().for_each(|line| outln!("{line}"));
        }
        self.told.insert(name.to_owned(), value);
    }
}

/// So many turns of an event are told of.
const SHOWN: usize = 20;

pub fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let file = args.config.config.display();
    let Loaded { config, policies } = args.config.load()?;
    let mut known = Known { output: args.output, told: Map::new() };
    known.add("file", file.to_string().into(), &[format!("{file}: in order")]);
    let (all, lines): (Vec<_>, Vec<_>) = policies.policies.values().map(policy).unzip();
    known.add("policies", all.into(), &lines);
    if config.event_fields.is_set() {
        let fields = of_events(&config.event_fields);
        known.add("event_fields", object(&fields), &[format!("events in JSON: {}", pointers(&fields))]);
    }
    if config.label_fields.is_set() {
        let fields = config.label_fields.pointers();
        known.add("label_fields", object(&fields), &[format!("labels in JSON: {}", pointers(&fields))]);
    }
    if let Some(path) = &args.event {
        let (value, lines) = event(path, &config, &policies)?;
        known.add("event", value, &lines);
    }
    if let Some(path) = &args.label {
        let (value, lines) = labels(path, &config, &policies)?;
        known.add("label", value, &lines);
    }
    run::traced(&config)?;
    run::connection(&config)?;
    let panel = run::whole_panel(&config)?;
    run::fitting(&panel, &config, &policies)?;
    let all = panel.experts().iter().map(|info| expert(info, &config));
    let (all, lines): (Vec<_>, Vec<_>) = all.unzip();
    known.add("experts", all.into(), &lines);
    let brokers = &config.kafka.brokers;
    let line = format!("brokers {brokers}: settings in order; `aegis topics --config {file}` asks them");
    known.add("brokers", brokers.as_str().into(), &[line]);
    if args.output == Output::Json {
        print::json(&known.told)?;
    }
    Ok(Exit::Success)
}

fn policy(policy: &Policy) -> (Value, String) {
    let (name, version, learner) = (&policy.name, &policy.version, policy.learner.name.to_string());
    let threshold = policy.threshold();
    let line = format!("policy {name} version {version}: {learner} learner, flags from p = {threshold:.3}");
    (json!({ "name": name, "version": version, "learner": learner, "threshold": threshold }), line)
}

fn expert(expert: &ExpertInfo, config: &Config) -> (Value, String) {
    let (id, kind, provider, state) = (&expert.id, expert.kind.word(), &expert.provider, expert.state.word());
    let shadow = config.experts.shadow.contains(id);
    let line = format!("expert {id}: {kind}, {provider}, {state}{}", if shadow { ", in shadow" } else { "" });
    (json!({ "id": id, "kind": kind, "provider": provider, "state": state, "shadow": shadow }), line)
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

/// Where fields are looked for, by their names.
fn object(named: &[(&str, &Pointer)]) -> Value {
    let given = named.iter().filter(|(_, pointer)| !pointer.is_empty());
    given.map(|(name, pointer)| ((*name).to_owned(), Value::from(pointer.as_str()))).collect()
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

/// Reads a file as the first record of the labels' topic. For machines one label is an object, and any other number of
/// them is a list.
fn labels(path: &Path, config: &Config, policies: &Policies) -> Result<(Value, Vec<String>), Failure> {
    let payload = payload(path, MAX_LABEL)?;
    let labels = Received::plain(&payload).labels(&schemas::defaults(config));
    let labels = labels.map_err(|error| wrong(path, &error))?;
    let shown = path.display();
    if labels.is_empty() {
        let why = "left out, by label_fields.skip_if or because its list of annotations is empty";
        return Ok((Value::Array(Vec::new()), vec![format!("label {shown}: none: {why}")]));
    }
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for label in &labels {
        known(path, "label", &label.policy, policies)?;
        lines.push(format!("label {shown}: {}", printable(&told_of_label(label))));
        let json = codec::encode_label(label, Encoding::Json).ok();
        values.push(json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default());
    }
    let one = if values.len() == 1 { values.pop() } else { None };
    Ok((one.unwrap_or(Value::Array(values)), lines))
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
fn event(path: &Path, config: &Config, policies: &Policies) -> Result<(Value, Vec<String>), Failure> {
    let payload = payload(path, MAX_EVENT)?;
    let received = Received::plain(&payload).at(&config.topics.events, 0, 0);
    let read = received.event_and_replaced(&schemas::defaults(config));
    let (event, replaced) = read.map_err(|error| wrong(path, &error))?;
    known(path, "event", &event.policy, policies)?;
    let shown = path.display();
    let mut lines = vec![format!("event {shown}: {}", printable(&told(&event)))];
    for (number, turn) in event.turns.iter().enumerate().take(SHOWN) {
        let judged = if number == event.judged { ", judged" } else { "" };
        lines.push(format!(
            "  turn {number}: {}, {} bytes of text{judged}",
            turn.role.word(),
            turn.text.len()
        ));
    }
    if event.turns.len() > SHOWN {
        lines.push(format!("  … {} turns in all, number {} is judged", event.turns.len(), event.judged));
    }
    if replaced > 0 {
        lines.push(format!(
            "  escapes that stand for no character: {replaced}, each read as U+FFFD; the producer cuts texts within a \
             character"
        ));
    }
    if text::is_blank(event.judged_text()) {
        lines.push("  nothing to judge: the policy's nothing_to_judge says what is done".to_owned());
    }
    let hidden: Vec<_> = text::reveal(event.judged_text()).hidden.iter().map(|way| way.word()).collect();
    if !hidden.is_empty() {
        lines.push(format!("  hidden text in the judged turn: {}", hidden.join(", ")));
    }
    let Event { id, conversation, tenant, policy, subject, time, judged, metadata, .. } = &event;
    let turn = |turn: &Turn| json!({ "role": turn.role.word(), "bytes": turn.text.len() });
    let value = json!({
        "id": id,
        "conversation": conversation,
        "tenant": tenant,
        "policy": policy,
        "subject": subject,
        "time": time.map(format_millis),
        "judged": judged,
        "metadata": metadata,
        "turns": event.turns.iter().map(turn).collect::<Vec<_>>(),
        "escapes_replaced": replaced,
    });
    Ok((value, lines))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_call_at_the_end_is_nothing_to_judge_and_hidden_text_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.event_fields.turns = serde_json::from_value(json!("/messages")).unwrap();
        let lines = |last: &str| {
            let path = folder.path().join("event.json");
            let chat =
                format!(r#"{{"messages": [{{"role": "user", "content": "Weather in Oslo?"}}, {last}]}}"#);
            std::fs::write(&path, chat).unwrap();
            event(&path, &config, &Policies::default()).map_err(|_| "refused").unwrap().1.join("\n")
        };
        let call =
            r#"{"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function"}]}"#;
        assert!(lines(call).contains("nothing to judge"), "{}", lines(call));
        let hidden = "{\"role\": \"user\", \"content\": \"Hello\u{e006b}\u{e0069}\"}";
        let told = lines(hidden);
        assert!(told.contains("hidden text in the judged turn: tag_characters"), "{told}");
        assert!(!told.contains("nothing to judge") && !told.contains("Hello"), "{told}");
    }
}
