//! `aegis explain EVENT_ID`: explains a decision, and finds the change of a vote that would reverse it.

mod shown;

use anyhow::anyhow;
use clap::Args;

use super::print::{self, Output, printable};
use super::scan::scan;
use super::weights::{pins, versions};
use super::{ConfigArgs, Failure, run};
use crate::codec::{Received, Schemas};
use crate::config::{Config, Loaded, Policies};
use crate::core::decision::Decision;
use crate::core::explain::{Explanation, explain as computed};
use crate::core::predictor::{Predictor, Published};
use crate::kafka::Connection;
use crate::ops::Exit;
use crate::ops::stdout::errln;
use crate::registry::Registry;
use shown::{as_json, text};

#[derive(Args)]
pub struct ExplainArgs {
    /// The event's id
    #[arg(value_name = "EVENT_ID")]
    event: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// The event's tenant [default: defaults.tenant of the configuration]
    #[arg(long)]
    tenant: Option<String>,
    /// The event's policy [default: defaults.policy of the configuration]
    #[arg(long)]
    policy: Option<String>,
    /// Explains every decision about the event, not only the newest
    #[arg(long)]
    all: bool,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A decision with its position.
struct Located {
    partition: i32,
    offset: i64,
    time: Option<i64>,
    decision: Decision,
}

/// The status of the predictor that a decision names.
enum PredictorStatus {
    /// The policy had not learned anything.
    Prior,
    /// It is the newest one.
    Newest,
    /// A person has pinned it, and scorers use it instead of newer ones.
    Pinned,
    /// Others have been published since, and it is still in the topic.
    Replaced,
    /// Compaction has removed it.
    Gone,
}

impl PredictorStatus {
    fn word(&self) -> &'static str {
        match self {
            Self::Prior => "untaught",
            Self::Newest => "newest",
            Self::Pinned => "pinned",
            Self::Replaced => "replaced",
            Self::Gone => "gone",
        }
    }
}

pub fn explain(args: &ExplainArgs) -> Result<Exit, Failure> {
    let Loaded { config, policies } = args.config.load()?;
    let connection = run::brokers(&config)?;
    let found = find(args, &config, &connection)?;
    let mut shown = Vec::new();
    for found in found {
        let (status, published) = predictor(&found.decision, &config, &connection)?;
        let explained = recompute(&found.decision, &status, published, &policies)?;
        match args.output {
            Output::Json => shown.push(as_json(&found, &status, explained.as_ref())),
            Output::Text => text(&found, &status, explained.as_ref(), &config),
        }
    }
    if args.output == Output::Json {
        // One decision is an object, and `--all` always prints a list.
        match (args.all, shown.pop()) {
            (false, Some(only)) => print::json(&only)?,
            (_, last) => print::json(&shown.into_iter().chain(last).collect::<Vec<_>>())?,
        }
    }
    Ok(Exit::Success)
}

/// Returns the event's decisions, the newest last, and without `--all` only the newest.
fn find(args: &ExplainArgs, config: &Config, connection: &Connection) -> Result<Vec<Located>, Failure> {
    let registry =
        Registry::from_config(&config.registry).map_err(|error| Failure::new(Exit::Config, error))?;
    let waiting = registry.as_ref().map(|registry| registry.waiting(&|| false));
    let waiting = waiting.as_ref().map(|waiting| waiting as &dyn Schemas);
    let tenant = args.tenant.as_deref().unwrap_or(&config.defaults.tenant);
    let policy = args.policy.as_deref().unwrap_or(&config.defaults.policy);
    let topic = &config.topics.decisions;
    let mut found = Vec::new();
    let (mut others, mut broken) = (Vec::new(), 0_usize);
    scan(connection, topic, &mut |record| {
        let Some(payload) = &record.payload else { return Ok(()) };
        // JSON can escape letters in many ways. In Avro the id appears unchanged.
        if !payload.starts_with(b"{") && !holds(payload, args.event.as_bytes()) {
            return Ok(());
        }
        match Received::new(Some(payload), &record.headers, waiting).decision() {
            Ok(decision) if decision.id.event != args.event => {}
            Ok(decision) if decision.id.tenant == tenant && decision.id.policy == policy => {
                let (partition, offset, time) = (record.partition, record.offset, record.timestamp);
                found.push(Located { partition, offset, time, decision });
            }
            Ok(decision) => others.push((decision.id.tenant, decision.id.policy)),
            Err(_) => broken += 1,
        }
        Ok(())
    })?;
    if broken > 0 {
        errln!("aegis: {broken} decisions that may be about the event cannot be read");
    }
    found.sort_by_key(|found| (found.time, found.partition, found.offset));
    if found.is_empty() {
        others.sort();
        others.dedup();
        let others: Vec<_> = others
            .iter()
            .map(|(tenant, policy)| format!("--tenant {} --policy {}", printable(tenant), printable(policy)))
            .collect();
        let hint = if others.is_empty() {
            "it was not decided yet, is a dead letter (`aegis dlq list`), or retention has passed".to_owned()
        } else {
            format!("there is one for {}", others.join(", and for "))
        };
        let error = anyhow!(
            "{topic} has no decision about event {} of tenant {tenant} under policy {policy}: {hint}",
            printable(&args.event)
        );
        return Err(Failure { exit: Exit::Data, error });
    }
    if !args.all {
        found.drain(..found.len() - 1);
    }
    Ok(found)
}

fn holds(payload: &[u8], id: &[u8]) -> bool {
    id.is_empty() || payload.windows(id.len()).any(|part| part == id)
}

/// Returns the predictor that the decision names, if it is still in its topic.
fn predictor(
    decision: &Decision,
    config: &Config,
    connection: &Connection,
) -> Result<(PredictorStatus, Option<Published>), Failure> {
    if decision.predictor.ledger_offset < 0 {
        return Ok((PredictorStatus::Prior, None));
    }
    let (mut named, mut newest) = (None, None);
    versions(connection, config, &mut |version| {
        if version.policy != decision.id.policy {
            return;
        }
        let hash = version.published.as_ref().map(|published| published.state_hash);
        if hash == Some(decision.predictor.state_hash) {
            named = version.published;
        }
        newest = Some(hash);
    })?;
    let is_newest = newest == Some(Some(decision.predictor.state_hash));
    let mut pins = pins(connection, config)?;
    let pinned = pins.remove(&decision.id.policy).and_then(|change| change.pinned?.1.published);
    if let Some(pinned) = pinned.filter(|pinned| pinned.state_hash == decision.predictor.state_hash) {
        return Ok((PredictorStatus::Pinned, Some(pinned)));
    }
    Ok(match named {
        None => (PredictorStatus::Gone, None),
        Some(named) if is_newest => (PredictorStatus::Newest, Some(named)),
        Some(named) => (PredictorStatus::Replaced, Some(named)),
    })
}

/// Computes the decision again. Returns `None` if its predictor is not available.
fn recompute(
    decision: &Decision,
    status: &PredictorStatus,
    published: Option<Published>,
    policies: &Policies,
) -> Result<Option<Explanation>, Failure> {
    let policy = policies.get(&decision.id.policy);
    let built = match (status, published, policy) {
        (PredictorStatus::Prior, _, Some(policy)) => {
            let experts: Vec<_> = decision.votes.iter().map(|weighed| weighed.vote.expert.clone()).collect();
            Predictor::prior(&policy.learner, &policy.name, &experts)
        }
        (_, Some(mut published), policy) => {
            // The secret of keyed draws is never published.
            published.learner.seed = policy.and_then(|policy| policy.learner.seed.clone());
            Predictor::published(&published)
        }
        _ => return Ok(None),
    };
    let mut built = built.map_err(|error| Failure::new(Exit::Data, error))?;
    Ok(Some(computed(decision, &mut built)))
}
