//! `aegis explain EVENT_ID`: what made a decision, and what would have made another.

mod shown;

use anyhow::anyhow;
use clap::Args;

use super::print::{self, Output, printable};
use super::scan::scan;
use super::weights::versions;
use super::{ConfigArgs, Failure, run};
use crate::codec::{Received, Schemas};
use crate::config::{Config, Loaded, Policies};
use crate::core::decision::Decision;
use crate::core::explain::{Explanation, explain as computed};
use crate::core::predictor::{Predictor, Published};
use crate::kafka::Connection;
use crate::ops::Exit;
use crate::ops::stdout::errln;
use crate::schemas;
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
    /// Every decision about the event, not the newest only
    #[arg(long)]
    all: bool,
    /// For people or for machines
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A decision and where it lies.
struct Found {
    partition: i32,
    offset: i64,
    time: Option<i64>,
    decision: Decision,
}

/// What became of the predictor that a decision names.
enum Standing {
    /// The policy had learned nothing.
    Untaught,
    /// It is the newest.
    Newest,
    /// Others have been published since; it is still there.
    Replaced,
    /// Compaction has taken it: only what the decision names is left.
    Gone,
}

impl Standing {
    fn word(&self) -> &'static str {
        match self {
            Self::Untaught => "untaught",
            Self::Newest => "newest",
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
        let (standing, published) = predictor(&found.decision, &config, &connection)?;
        let explained = again(&found.decision, &standing, published, &policies)?;
        match args.output {
            Output::Json => shown.push(as_json(&found, &standing, explained.as_ref())),
            Output::Text => text(&found, &standing, explained.as_ref(), &config),
        }
    }
    if args.output == Output::Json {
        // One decision is an object, `--all` always a list.
        match (args.all, shown.pop()) {
            (false, Some(only)) => print::json(&only)?,
            (_, last) => print::json(&shown.into_iter().chain(last).collect::<Vec<_>>())?,
        }
    }
    Ok(Exit::Success)
}

/// The event's decisions, the newest last, and without `--all` only that.
fn find(args: &ExplainArgs, config: &Config, connection: &Connection) -> Result<Vec<Found>, Failure> {
    let registry = schemas::open(&config.registry).map_err(|error| Failure::new(Exit::Config, error))?;
    let patient = registry.as_ref().map(|registry| registry.waiting(&|| false));
    let patient = patient.as_ref().map(|patient| patient as &dyn Schemas);
    let tenant = args.tenant.as_deref().unwrap_or(&config.defaults.tenant);
    let policy = args.policy.as_deref().unwrap_or(&config.defaults.policy);
    let topic = &config.topics.decisions;
    let mut found = Vec::new();
    let (mut others, mut broken) = (Vec::new(), 0_usize);
    scan(connection, topic, &mut |record| {
        let Some(payload) = &record.payload else { return Ok(()) };
        // JSON can write a letter in many ways; in Avro the id stands as it is.
        if !payload.starts_with(b"{") && !holds(payload, args.event.as_bytes()) {
            return Ok(());
        }
        match Received::new(Some(payload), &record.headers, patient).decision() {
            Ok(decision) if decision.id.event != args.event => {}
            Ok(decision) if decision.id.tenant == tenant && decision.id.policy == policy => {
                let (partition, offset, time) = (record.partition, record.offset, record.timestamp);
                found.push(Found { partition, offset, time, decision });
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

/// The predictor that the decision names, if it is still on its topic.
fn predictor(
    decision: &Decision,
    config: &Config,
    connection: &Connection,
) -> Result<(Standing, Option<Published>), Failure> {
    if decision.predictor.ledger_offset < 0 {
        return Ok((Standing::Untaught, None));
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
    Ok(match named {
        None => (Standing::Gone, None),
        Some(named) if is_newest => (Standing::Newest, Some(named)),
        Some(named) => (Standing::Replaced, Some(named)),
    })
}

/// The decision computed again; `None` where its predictor is not to be had.
fn again(
    decision: &Decision,
    standing: &Standing,
    published: Option<Published>,
    policies: &Policies,
) -> Result<Option<Explanation>, Failure> {
    let policy = policies.get(&decision.id.policy);
    let built = match (standing, published, policy) {
        (Standing::Untaught, _, Some(policy)) => {
            let experts: Vec<_> = decision.votes.iter().map(|weighed| weighed.vote.expert.clone()).collect();
            Predictor::prior(&policy.learner, &policy.name, &experts)
        }
        (_, Some(mut published), policy) => {
            // The secret of keyed draws never travels.
            published.learner.seed = policy.and_then(|policy| policy.learner.seed.clone());
            Predictor::published(&published)
        }
        _ => return Ok(None),
    };
    let mut built = built.map_err(|error| Failure::new(Exit::Data, error))?;
    Ok(Some(computed(decision, &mut built)))
}
