//! The end of the demo: the rounds are written and folded again, and the counts are checked and summarized.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::audits::{self, Audits};
use super::brokers::read_back;
use super::drive::{Outcomes, Played};
use super::plan::{POLICY, Plan};
use super::{DemoArgs, DemoError, io_error};
use crate::codec;
use crate::config::{self, Policies, Topics};
use crate::core::features::EncoderId;
use crate::core::fold::{Fold, Settings};
use crate::core::label::target;
use crate::core::learners::Mass;
use crate::core::learners::tally::ExpertTally;
use crate::core::ledger::Record;
use crate::core::ledger_state::LedgerState;
use crate::core::policy::Policy;
use crate::core::predictor::{Published, StateHash};
use crate::kafka::Connection;
use crate::ops::stdout::{self, outln};
use crate::replay;

/// The data of the summary.
pub struct Run<'a> {
    /// The arguments.
    pub args: &'a DemoArgs,
    /// The records sent.
    pub plan: &'a Plan,
    /// The outcomes.
    pub outcomes: &'a Outcomes,
    /// The policies.
    pub policies: &'a Policies,
    /// The brokers.
    pub connection: &'a Connection,
    /// The topics' names there.
    pub topics: &'a Topics,
    /// The delivery guarantee of the roles.
    pub delivery: config::Delivery,
    /// From the first event to the last decision.
    pub deciding: Duration,
    /// From the first event to the last label.
    pub elapsed: Duration,
}

/// The content of DIR/summary.json.
#[derive(Serialize)]
struct Summary {
    events: usize,
    malformed: usize,
    decisions: usize,
    event_dead_letters: usize,
    label_dead_letters: usize,
    labels: usize,
    rounds: u64,
    experts: BTreeMap<String, ExpertSummary>,
    /// Mistakes of the decisions, made with the labels known when each event came.
    ensemble_mistakes: u64,
    /// Mistakes of the fold, in which every label is known before the next event.
    fold_mistakes: u64,
    majority_mistakes: u64,
    fold_brier: f64,
    calibration_error: f64,
    /// The estimates from the audits alone, beside the truth.
    audits: Audits,
    learner: String,
    state_hash: String,
    replay_hash: String,
    delivery: &'static str,
    broker: String,
    seed: u64,
    duration_seconds: f64,
    events_per_second: f64,
}

#[derive(Serialize)]
struct ExpertSummary {
    mistakes: u64,
    awake: u64,
    weight: f64,
}

/// Reads the ledger and the last predictor back, folds the rounds, writes DIR/rounds.jsonl, DIR/report.html and
/// DIR/summary.json, and prints the summary.
///
/// # Errors
/// Returns [`DemoError::Unbalanced`] if the counts or the hashes differ, and other errors if a topic cannot be read or a
/// file cannot be written.
pub fn report(run: &Run<'_>) -> Result<(), DemoError> {
    let published = last_predictor(run)?;
    let records = ledger(run)?;
    let policy = run.policies.get(POLICY).ok_or_else(|| fold_error(&"the demo's policy is missing"))?;
    let replay_hash = write_rounds(run, policy, published.encoder, &records)?;
    let mut ledger = LedgerState::new();
    let mut changes = Vec::new();
    for record in &records {
        ledger.apply(record, &mut changes).map_err(|error| fold_error(&error))?;
    }
    let mut fold = Fold::new(Settings::new(&policy.name, policy.learner.clone(), policy.mapping.clone()));
    fold.mark_all_changed(&ledger);
    fold.catch_up(&ledger).map_err(|error| fold_error(&error))?;
    let page = run.args.out.join("report.html");
    replay::report::write(&page, "aegis demo", &ledger, std::slice::from_ref(&fold))
        .map_err(|error| fold_error(&error))?;
    let summary = summarize(run, policy, &published, replay_hash, &ledger, &fold)?;
    let path = run.args.out.join("summary.json");
    let text = serde_json::to_string_pretty(&summary).expect("a summary is JSON");
    fs::write(&path, text + "\n").map_err(io_error(&path))?;
    print(run, &summary, &published.masses);
    balance(run, &summary)
}

fn fold_error(reason: &dyn std::fmt::Display) -> DemoError {
    DemoError::Fold(reason.to_string())
}

/// Writes the ledger's records to DIR/rounds.jsonl, folds the file's lines shuffled, and returns the state's hash.
fn write_rounds(
    run: &Run<'_>,
    policy: &Policy,
    encoder: Option<EncoderId>,
    records: &[Record],
) -> Result<StateHash, DemoError> {
    let path = run.args.out.join("rounds.jsonl");
    let header = replay::write::Policy {
        name: policy.name.clone(),
        learner: policy.learner.clone(),
        mapping: policy.mapping.clone(),
        encoder,
    };
    let mut lines = vec![replay::write::header(&[header])];
    lines.extend(records.iter().map(replay::write::record));
    fs::write(&path, lines.join("\n") + "\n").map_err(io_error(&path))?;
    fastrand::Rng::with_seed(run.args.seed).shuffle(&mut lines);
    let hashes = replay::fold_lines(lines.iter().map(String::as_str)).map_err(|error| fold_error(&error))?;
    hashes.get(POLICY).copied().ok_or_else(|| fold_error(&"no round of the demo's policy"))
}

fn summarize(
    run: &Run<'_>,
    policy: &Policy,
    published: &Published,
    replay_hash: StateHash,
    ledger: &LedgerState,
    fold: &Fold,
) -> Result<Summary, DemoError> {
    let targets = targets(ledger, policy);
    let tally = fold.tally().ok_or_else(|| fold_error(&"the fold keeps no tally"))?;
    let expert = |(id, found): (&String, &ExpertTally)| {
        // An expert without mass is no member of the learner.
        let mass = published.masses.iter().find(|mass| mass.member == *id);
        let weight = mass.map_or(0.0, |mass| mass.mass);
        (id.clone(), ExpertSummary { mistakes: found.mistakes, awake: found.awake, weight })
    };
    Ok(Summary {
        events: run.plan.events,
        malformed: run.plan.malformed,
        decisions: run.outcomes.decisions,
        event_dead_letters: run.outcomes.event_dead_letters.values().sum(),
        label_dead_letters: run.outcomes.label_dead_letters.values().sum(),
        labels: run.plan.labels,
        rounds: tally.rounds,
        experts: fold.experts().iter().zip(&tally.experts).map(expert).collect(),
        ensemble_mistakes: played_mistakes(&targets, &run.outcomes.played),
        fold_mistakes: tally.mistakes,
        majority_mistakes: tally.majority_mistakes,
        fold_brier: tally.brier(),
        calibration_error: tally.calibration_error(),
        audits: audits::estimate(run.outcomes, &targets, &run.plan.opinions),
        learner: policy.learner.name.to_string(),
        state_hash: codec::hex(&published.state_hash),
        replay_hash: codec::hex(&replay_hash),
        delivery: match run.delivery {
            config::Delivery::ExactlyOnce => "exactly-once",
            config::Delivery::AtLeastOnce => "at-least-once",
        },
        broker: run.args.broker.clone(),
        seed: run.args.seed,
        duration_seconds: run.elapsed.as_secs_f64(),
        events_per_second: run.plan.events as f64 / run.deciding.as_secs_f64(),
    })
}

fn last_predictor(run: &Run<'_>) -> Result<Published, DemoError> {
    let mut newest = None;
    for record in read_back(run.connection, &run.topics.weights, false)? {
        if codec::pin_policy(record.key.as_deref().unwrap_or_default()).is_some() {
            continue;
        }
        let Some(payload) = record.payload else { continue };
        let published = codec::decode_published(&payload)?;
        if published.policy == POLICY {
            newest = Some(published);
        }
    }
    newest.ok_or_else(|| DemoError::Unbalanced("no predictor was published".into()))
}

fn ledger(run: &Run<'_>) -> Result<Vec<Record>, DemoError> {
    let records = read_back(run.connection, &run.topics.rounds, true)?;
    let values = records.into_iter().filter_map(|record| record.payload);
    values.map(|payload| Ok(codec::decode_record(&payload)?)).collect()
}

/// Returns the targets of the fold's rounds, by event.
fn targets(ledger: &LedgerState, policy: &Policy) -> HashMap<String, f64> {
    let Some(rounds) = ledger.find(&policy.name).and_then(|number| ledger.rounds(number)) else {
        return HashMap::new();
    };
    let target_of = |row| {
        let records = rounds.labels(row);
        let labels = records.iter().filter(|record| record.status.counts()).map(|record| &record.label);
        Some((rounds.event(row).to_owned(), target(labels, &policy.mapping, |_| false)?))
    };
    rounds.rows().filter(|row| rounds.any_awake(*row)).filter_map(target_of).collect()
}

/// Returns the mistakes of the decisions as they were made, on the rounds of the fold.
fn played_mistakes(targets: &HashMap<String, f64>, played: &HashMap<String, Played>) -> u64 {
    let mut mistakes = 0;
    for (event, target) in targets {
        let p = played.get(event).and_then(|played| played.probability).unwrap_or(0.0);
        mistakes += u64::from((p >= 0.5) != (*target >= 0.5));
    }
    mistakes
}

/// Checks the counts and hashes that must be equal.
fn balance(run: &Run<'_>, summary: &Summary) -> Result<(), DemoError> {
    let equal = |what: &str, left: usize, right: usize| {
        if left == right { Ok(()) } else { Err(DemoError::Unbalanced(format!("{what}: {left} and {right}"))) }
    };
    equal("events and decisions", summary.events, summary.decisions)?;
    equal("malformed records and their dead letters", summary.malformed, summary.event_dead_letters)?;
    equal("bad labels and their dead letters", run.plan.bad_labels, summary.label_dead_letters)?;
    if summary.state_hash != summary.replay_hash {
        let text = format!("state {} and replay {}", summary.state_hash, summary.replay_hash);
        return Err(DemoError::Unbalanced(text));
    }
    Ok(())
}

fn print(run: &Run<'_>, summary: &Summary, masses: &[Mass]) {
    let out = run.args.out.display();
    outln!();
    outln!("  {:>7} events        each with one decision", summary.decisions);
    outln!(
        "  {:>7} malformed     each with one dead letter: {}",
        summary.malformed,
        kinds(&run.outcomes.event_dead_letters)
    );
    outln!(
        "  {:>7} labels        late, out of order, some twice, corrected or taken back; {} dead letters",
        summary.labels,
        summary.label_dead_letters
    );
    outln!("  {:>7} rounds        events with a live label, from which the learner learns", summary.rounds);
    outln!();
    print_mistakes(summary);
    outln!("  greatest weights: {}", heaviest(masses));
    outln!();
    summary.audits.print();
    outln!();
    outln!(
        "  {:.0} events a second, {} on broker {}",
        summary.events_per_second,
        summary.delivery,
        summary.broker
    );
    outln!("  state hash  {}", summary.state_hash);
    outln!("  replay hash {} (folded from {out}/rounds.jsonl, its lines shuffled)", summary.replay_hash);
    outln!();
    outln!("  Look further:");
    // The commands start this program as the user did.
    let program = std::env::args().next().unwrap_or_else(|| "aegis".to_owned());
    stdout::print(&next_steps(&program, &out.to_string(), run.args.console));
}

/// Prints the mistakes of the ensemble, the fold, the majority and each expert.
fn print_mistakes(summary: &Summary) {
    let rate = |mistakes: u64, rounds: u64| 100.0 * mistakes as f64 / rounds.max(1) as f64;
    outln!("  mistakes on these rounds, flagging from p = .5         rate   weight");
    outln!(
        "  {:>7} the ensemble as played, labels late        {:>5.1} %",
        summary.ensemble_mistakes,
        rate(summary.ensemble_mistakes, summary.rounds)
    );
    outln!(
        "  {:>7} the fold: the learner without delay        {:>5.1} %",
        summary.fold_mistakes,
        rate(summary.fold_mistakes, summary.rounds)
    );
    outln!(
        "  {:>7} plain majority of the experts              {:>5.1} %",
        summary.majority_mistakes,
        rate(summary.majority_mistakes, summary.rounds)
    );
    // By rate: an expert that is asked only when decisive makes few mistakes because it has few votes.
    let mut experts: Vec<_> = summary.experts.iter().collect();
    experts.sort_by(|(_, a), (_, b)| rate(a.mistakes, a.awake).total_cmp(&rate(b.mistakes, b.awake)));
    outln!("  {:>7} (of an expert: on the rounds on which it voted)", "");
    for (id, expert) in experts {
        outln!(
            "  {:>7} expert {id:<35} {:>5.1} %   {:.3}",
            expert.mistakes,
            rate(expert.mistakes, expert.awake),
            expert.weight
        );
    }
}

/// Returns commands and files to look at next, in two columns. `console` is `true` if the console is open already.
fn next_steps(program: &str, out: &str, console: bool) -> String {
    let mut lines = vec![
        (format!("{program} replay {out}/rounds.jsonl"), "fold the rounds again"),
        (format!("{program} replay {out}/rounds.jsonl --learner all"), "every learner side by side"),
        (format!("{out}/report.html"), "a page to look at"),
        (format!("{out}/summary.json"), "these figures"),
    ];
    if !console {
        lines.push((format!("{program} demo --console"), "the demo again, with the console, until Ctrl-C"));
    }
    let wide = lines.iter().map(|(what, _)| what.chars().count()).max().expect("at least four lines");
    lines.iter().map(|(what, why)| format!("    {what:<wide$}   {why}\n")).collect()
}

fn kinds(letters: &HashMap<String, usize>) -> String {
    let mut kinds: Vec<_> = letters.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    kinds.sort();
    kinds.join(", ")
}

/// Returns the members with most of the aggregation's mass, as text.
fn heaviest(masses: &[Mass]) -> String {
    let mut masses: Vec<_> = masses.iter().filter(|mass| mass.mass >= 0.005).collect();
    masses.sort_by(|left, right| right.mass.total_cmp(&left.mass));
    let words = masses.iter().take(5).map(|mass| format!("{} {:.2}", mass.member, mass.mass));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_steps_name_the_program_as_it_was_called() {
        let text = next_steps("aegis", "out", false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "    aegis replay out/rounds.jsonl                 fold the rounds again");
        assert_eq!(lines[3], "    out/summary.json                              these figures");
        let console = "    aegis demo --console                          the demo again, with the console, until Ctrl-C";
        assert_eq!(lines[4..], [console]);
        assert_eq!(next_steps("aegis", "out", true).lines().count(), 4, "it is open already");
    }
}
