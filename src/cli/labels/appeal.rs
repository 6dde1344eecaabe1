//! `aegis labels appeal`: the decision about an appeal, written as labels.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use clap::{ArgGroup, Args};
use serde::Serialize;

use super::{connect, scan_ledger};
use crate::cli::print::{self, Output, printable};
use crate::cli::{ConfigArgs, Failure};
use crate::codec::time::format_millis;
use crate::config::Loaded;
use crate::core::event::Millis;
use crate::core::label::{Finding, Label};
use crate::core::ledger::{Key, RoundId};
use crate::core::ledger_state::LedgerState;
use crate::kafka::{Connection, Delivery, Outbox};
use crate::labels::Refusal;
use crate::labels::appeal::{Appeal, Outcome};
use crate::labels::import::record;
use crate::ops::Exit;
use crate::ops::stdout::{errln, outln};

#[derive(Args)]
#[command(group(ArgGroup::new("outcome").required(true).args(["upheld", "rejected"])))]
pub struct AppealArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The event that the appeal is about
    #[arg(long, value_name = "ID")]
    event: String,
    /// The tenant of the event [default: defaults.tenant]
    #[arg(long)]
    tenant: Option<String>,
    /// The policy of the event [default: defaults.policy]
    #[arg(long)]
    policy: Option<String>,
    /// The id of the appeal, if an event has several, and of the label that filed it
    #[arg(long, value_name = "ID", default_value = "appeal")]
    appeal: String,
    /// The person who decided
    #[arg(long, value_name = "NAME")]
    annotator: String,
    /// The appeal is right: labels of the other verdict are corrected, and this one teaches
    #[arg(long)]
    upheld: bool,
    /// The appeal is wrong: nothing changes, and nothing is learned from it
    #[arg(long)]
    rejected: bool,
    /// The verdict of an upheld appeal
    #[arg(long, default_value = "safe", conflicts_with = "rejected", value_parser = ["safe", "unsafe", "needs_caution"])]
    verdict: String,
    /// Prints the labels, and sends nothing
    #[arg(long)]
    dry_run: bool,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A label as it is shown.
#[derive(Serialize)]
struct Shown {
    id: String,
    source: &'static str,
    verdict: Option<&'static str>,
    corrects: Option<String>,
    retracts: Option<String>,
    time: String,
}

impl Shown {
    fn of(label: &Label) -> Self {
        Self {
            id: label.id.clone(),
            source: label.source.word(),
            verdict: label.verdict.map(Finding::word),
            corrects: label.corrects.clone(),
            retracts: label.retracts.clone(),
            time: format_millis(label.time),
        }
    }
}

fn refused(Refusal { message, .. }: Refusal) -> Failure {
    Failure { exit: Exit::Data, error: anyhow!(message) }
}

pub fn appeal(args: &AppealArgs) -> Result<Exit, Failure> {
    let (loaded, connection) = connect(&args.config)?;
    let defaults = &loaded.config.defaults;
    let id = RoundId {
        tenant: args.tenant.clone().unwrap_or_else(|| defaults.tenant.clone()),
        policy: args.policy.clone().unwrap_or_else(|| defaults.policy.clone()),
        event: args.event.clone(),
    };
    let labels = labels(args, &loaded, &connection, id)?;
    let topic: Arc<str> = loaded.config.topics.labels.as_str().into();
    let records =
        labels.iter().map(|label| record(&topic, label)).collect::<Result<Vec<_>, _>>().map_err(refused)?;
    if !args.dry_run && !records.is_empty() {
        let unavailable = |error| Failure::of(&connection, error);
        let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).map_err(unavailable)?;
        outbox.commit(&records, None).map_err(unavailable)?;
    }
    show(args, &labels, &topic)?;
    Ok(Exit::Success)
}

/// Returns the labels that express the decision, given what the ledger has about the round.
fn labels(
    args: &AppealArgs,
    loaded: &Loaded,
    connection: &Connection,
    id: RoundId,
) -> Result<Vec<Label>, Failure> {
    let Some(policy) = loaded.policies.get(&id.policy) else {
        let error = anyhow!("the policies file has no policy {}: name another with --policy", id.policy);
        return Err(Failure { exit: Exit::Usage, error });
    };
    let mut ledger = LedgerState::new();
    scan_ledger(&loaded.config, connection, &mut |record| {
        let is_of_round = match record.key() {
            Key::Round(round) | Key::Label(round, ..) => round == id,
            Key::Edit(_) => true,
        };
        if is_of_round {
            let applied = ledger.apply(&record, &mut Vec::new());
            applied.map_err(|error| Failure::new(Exit::Data, error))?;
        }
        Ok(())
    })?;
    let (known, decision) = match ledger.row(&id) {
        Some((rounds, row)) => (rounds.labels(row), rounds.has_votes(row).then(|| rounds.decision(row))),
        None => {
            errln!(
                "aegis: the ledger has neither a decision nor a label about this event: check --event, --tenant and --policy"
            );
            (Vec::new(), None)
        }
    };
    let verdict = Finding::ALL.into_iter().find(|finding| finding.word() == args.verdict);
    let outcome =
        if args.upheld { Outcome::Upheld(verdict.unwrap_or(Finding::Safe)) } else { Outcome::Rejected };
    let tenant = id.tenant.clone();
    let (appeal, annotator) = (args.appeal.clone(), args.annotator.clone());
    let appeal = Appeal { round: id, id: appeal, annotator, outcome, time: now() };
    let quarantined = |annotator: &str| ledger.edits().quarantines(&tenant, annotator);
    appeal.labels(&known, decision, &policy.mapping, quarantined).map_err(refused)
}

fn show(args: &AppealArgs, labels: &[Label], topic: &str) -> Result<(), Failure> {
    let shown: Vec<_> = labels.iter().map(Shown::of).collect();
    if args.output == Output::Json {
        return print::json(&shown);
    }
    if shown.is_empty() {
        outln!("the ledger has this decision already: nothing is sent");
        return Ok(());
    }
    for label in &shown {
        outln!("{}", printable(&describe(label)));
    }
    match args.dry_run {
        true => outln!("nothing is sent (--dry-run)"),
        false => outln!("sent to {topic}, acknowledged; the learner applies it when it reads it"),
    }
    Ok(())
}

fn describe(label: &Shown) -> String {
    let verdict = label.verdict.map(|verdict| format!(", {verdict}")).unwrap_or_default();
    let corrects = label.corrects.as_ref().map(|id| format!(", corrects {id}")).unwrap_or_default();
    let retracts = label.retracts.as_ref().map(|id| format!(", retracts {id}")).unwrap_or_default();
    format!("label {}: source {}{verdict}{corrects}{retracts}", label.id, label.source)
}

/// Returns the time in milliseconds since 1970.
fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
