//! `aegis check`: checks without a broker the configuration, the policies and the experts, and shows how an event or a label
//! is read.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value, json};

use super::experts::{is_shadow, reads};
use super::print::{self, Output, printable};
use super::{ConfigArgs, Failure, run};
use crate::codec::{self, Encoding, MAX_EVENT, MAX_LABEL, Received, time::format_millis};
use crate::config::{Config, EventFields, Loaded, Pointer, Policies};
use crate::core::event::{Event, Turn};
use crate::core::label::Label;
use crate::core::policy::{Policy, Release};
use crate::core::sampling::AuditRates;
use crate::core::text;
use crate::core::vote::Abstention;
use crate::experts::{ExpertInfo, Panel};
use crate::ops::Exit;
use crate::ops::stdout::outln;

#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Reads the file as one event, JSON or Avro, and prints its fields without its texts
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Reads the file as one record of human labels, JSON or Avro, and prints its fields
    #[arg(long, value_name = "FILE")]
    label: Option<PathBuf>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The report. Text is printed as it is found, JSON at the end.
struct Report {
    output: Output,
    values: Map<String, Value>,
}

impl Report {
    fn add(&mut self, name: &str, value: Value, lines: &[String]) {
        if self.output == Output::Text {
            lines.iter().for_each(|line| outln!("{line}"));
        }
        self.values.insert(name.to_owned(), value);
    }
}

/// The number of an event's turns that are printed.
const MAX_TURNS: usize = 20;

pub fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let file = args.config.file()?;
    let file = file.display();
    let Loaded { config, policies } = args.config.load()?;
    let mut report = Report { output: args.output, values: Map::new() };
    report.add("file", file.to_string().into(), &[format!("{file}: ok")]);
    let (all, lines): (Vec<_>, Vec<_>) = policies.policies.values().map(policy).unzip();
    report.add("policies", all.into(), &lines);
    if config.event_fields.is_set() {
        let fields = event_pointers(&config.event_fields);
        report.add("event_fields", object(&fields), &[format!("events in JSON: {}", pointers(&fields))]);
    }
    if config.label_fields.is_set() {
        let fields = config.label_fields.pointers();
        report.add("label_fields", object(&fields), &[format!("labels in JSON: {}", pointers(&fields))]);
    }
    if let Some(path) = &args.event {
        let (value, lines) = event(path, &config, &policies)?;
        report.add("event", value, &lines);
    }
    if let Some(path) = &args.label {
        let (value, lines) = labels(path, &config, &policies)?;
        report.add("label", value, &lines);
    }
    run::check_traces(&config)?;
    run::connection(&config)?;
    let panel = run::complete_panel(&config)?;
    run::validate_panel(&panel, &config, &policies)?;
    let all = panel.experts().iter().map(|info| expert(info, &config));
    let (all, lines): (Vec<_>, Vec<_>) = all.unzip();
    report.add("experts", all.into(), &lines);
    add_endpoints(&panel, &mut report);
    let brokers = &config.kafka.brokers;
    let line = format!("brokers {brokers}: settings ok; `aegis topics --config {file}` checks the topics");
    report.add("brokers", brokers.as_str().into(), &[line]);
    let predictable = policies.policies.values().filter(|policy| has_predictable_draws(policy));
    let (all, lines): (Vec<_>, Vec<_>) = predictable.map(predictable_draws).unzip();
    report.add("predictable_draws", all.into(), &lines);
    if args.output == Output::Json {
        print::json(&report.values)?;
    }
    Ok(Exit::Success)
}

/// Adds whether the endpoints of remote experts answer. One that does not is no error: score runs without it.
fn add_endpoints(panel: &Panel, report: &mut Report) {
    let answers = panel.probe_remotes();
    if answers.is_empty() {
        return;
    }
    let describe = |(id, answer): &(&str, Result<(), Abstention>)| match answer {
        Ok(()) => (json!({ "id": id, "answers": true }), format!("endpoint of {id}: answers")),
        Err(reason) => {
            let reason = reason.word();
            let value = json!({ "id": id, "answers": false, "reason": reason });
            (
                value,
                format!("endpoint of {id}: does not answer ({reason}); the expert abstains until it does"),
            )
        }
    };
    let (all, lines): (Vec<_>, Vec<_>) = answers.iter().map(describe).unzip();
    report.add("endpoints", all.into(), &lines);
}

fn policy(policy: &Policy) -> (Value, String) {
    let (name, version, learner) = (&policy.name, &policy.version, policy.learner.name.to_string());
    let threshold = policy.threshold();
    let (release, released) = (policy.release.word(), policy.release == Release::Manual);
    let released = if released { ", uses only predictors that a person has released" } else { "" };
    let line = format!(
        "policy {name} version {version}: {learner} learner, flags from p = {threshold:.3}{released}"
    );
    let value = json!({
        "name": name, "version": version, "learner": learner, "threshold": threshold, "release": release,
    });
    (value, line)
}

/// Returns `true` if reviews are drawn without a secret. Draws with a probability of 0 or 1 need none.
fn has_predictable_draws(policy: &Policy) -> bool {
    let AuditRates { allow, block, review } = policy.audit_rates;
    let mut probabilities = [allow, block, review].into_iter();
    let draws = policy.review_slope > 0.0
        || policy.review_budget.is_some()
        || probabilities.any(|probability| probability > 0.0 && probability < 1.0);
    draws && policy.learner.seed.as_ref().is_none_or(Vec::is_empty)
}

fn predictable_draws(policy: &Policy) -> (Value, String) {
    let name = &policy.name;
    let line = format!(
        "warning: policy {name}: audits can be predicted from event ids: set parameters.seed to a secret"
    );
    (name.as_str().into(), line)
}

fn expert(expert: &ExpertInfo, config: &Config) -> (Value, String) {
    let (id, kind, provider, state) = (&expert.id, expert.kind.word(), &expert.provider, expert.state.word());
    let shadow = is_shadow(expert, config);
    let in_shadow = if shadow { ", in shadow" } else { "" };
    let line = format!("expert {id}: {kind}, {provider}, {state}{in_shadow}{}", reads(expert));
    let roles: Vec<_> = expert.roles.iter().map(|role| role.word()).collect();
    let view = expert.view.to_string();
    let value = json!({
        "id": id, "kind": kind, "provider": provider, "state": state, "shadow": shadow, "view": view, "roles": roles,
    });
    (value, line)
}

/// Returns the pointers to an event's fields, by their names.
fn event_pointers(fields: &EventFields) -> Vec<(&str, &Pointer)> {
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

/// Returns the pointers that are set as a JSON object.
fn object(named: &[(&str, &Pointer)]) -> Value {
    let given = named.iter().filter(|(_, pointer)| !pointer.is_empty());
    given.map(|(name, pointer)| ((*name).to_owned(), Value::from(pointer.as_str()))).collect()
}

/// Returns the pointers that are set as text.
fn pointers(named: &[(&str, &Pointer)]) -> String {
    let given = named.iter().filter(|(_, pointer)| !pointer.is_empty());
    let given = given.map(|(name, pointer)| format!("{name} at {}", printable(pointer.as_str())));
    given.collect::<Vec<_>>().join(", ")
}

/// Reads a file, and of one larger than `limit` only one byte more.
fn payload(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let unavailable =
        |error| Failure::new(Exit::Unavailable, anyhow!("cannot read {}: {error}", path.display()));
    let mut payload = Vec::new();
    let file = File::open(path).map_err(unavailable)?;
    file.take(limit as u64 + 1).read_to_end(&mut payload).map_err(unavailable)?;
    Ok(payload)
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Data, anyhow!("{}: {error}", path.display()))
}

/// Returns an error if the policies file does not have this policy.
fn validate_policy(path: &Path, what: &str, policy: &str, policies: &Policies) -> Result<(), Failure> {
    if policies.get(policy).is_some() {
        return Ok(());
    }
    let policy = printable(policy);
    Err(wrong(path, &format!("the {what} names the policy {policy}, which the policies file does not have")))
}

/// Reads a file as the first record of the topic of labels. As JSON one label is an object, and any other number of labels is
/// a list.
fn labels(path: &Path, config: &Config, policies: &Policies) -> Result<(Value, Vec<String>), Failure> {
    let payload = payload(path, MAX_LABEL)?;
    let labels = Received::plain(&payload).labels(&config.record_defaults());
    let labels = labels.map_err(|error| wrong(path, &error))?;
    let shown = path.display();
    if labels.is_empty() {
        let why = "left out, by label_fields.skip_if or because its list of annotations is empty";
        return Ok((Value::Array(Vec::new()), vec![format!("label {shown}: none: {why}")]));
    }
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for label in &labels {
        validate_policy(path, "label", &label.policy, policies)?;
        lines.push(format!("label {shown}: {}", printable(&describe_label(label))));
        let json = codec::encode_label(label, Encoding::Json)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        values.push(serde_json::from_slice(&json).map_err(|error| Failure::new(Exit::Internal, error))?);
    }
    let one = if values.len() == 1 { values.pop() } else { None };
    Ok((one.unwrap_or(Value::Array(values)), lines))
}

fn describe_label(label: &Label) -> String {
    let Label { id, event, tenant, policy, source, .. } = label;
    let mut text = format!("about event {event}, tenant {tenant}, policy {policy}; id {id}");
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
            text += &format!(", {name} {value}");
        }
    }
    text
}

/// Reads a file as the first record of the topic of events.
fn event(path: &Path, config: &Config, policies: &Policies) -> Result<(Value, Vec<String>), Failure> {
    let payload = payload(path, MAX_EVENT)?;
    let received = Received::plain(&payload).at(&config.topics.events, 0, 0);
    let read = received.event_and_replaced(&config.record_defaults());
    let (event, replaced) = read.map_err(|error| wrong(path, &error))?;
    validate_policy(path, "event", &event.policy, policies)?;
    let shown = path.display();
    let mut lines = vec![format!("event {shown}: {}", printable(&describe_event(&event)))];
    for (number, turn) in event.turns.iter().enumerate().take(MAX_TURNS) {
        let judged = if number == event.judged { ", judged" } else { "" };
        lines.push(format!(
            "  turn {number}: {}, {} bytes of text{judged}",
            turn.role.word(),
            turn.text.len()
        ));
    }
    if event.turns.len() > MAX_TURNS {
        lines.push(format!("  … {} turns in all, number {} is judged", event.turns.len(), event.judged));
    }
    if replaced > 0 {
        lines.push(format!(
            "  escapes that stand for no character: {replaced}, each read as U+FFFD; the producer cuts texts within a \
             character"
        ));
    }
    if text::is_blank(event.judged_text()) {
        lines.push("  nothing to judge: the policy's nothing_to_judge is the action".to_owned());
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

fn describe_event(event: &Event) -> String {
    let mut text = format!(
        "id {}, conversation {}, tenant {}, policy {}",
        event.id, event.conversation, event.tenant, event.policy
    );
    let time = event.time.map(format_millis);
    for (name, value) in [("subject", event.subject.as_deref()), ("time", time.as_deref())] {
        text += &format!(", {name} {}", value.unwrap_or("none"));
    }
    for (name, value) in &event.metadata {
        text += &format!(", {name} = {value}");
    }
    text
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
