//! `aegis explain EVENT_ID`: what made a decision, and what would have made another.

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::print::{self, Output, printable, row, short};
use super::scan::scan;
use super::weights::versions;
use super::{ConfigArgs, Failure, run};
use crate::codec::{Received, Schemas, hex, time::format_millis};
use crate::config::{Config, Loaded, Policies};
use crate::core::decision::{Decision, WeighedVote};
use crate::core::explain::{Explanation, explain as computed};
use crate::core::predictor::{Predictor, Published};
use crate::core::vote::Outcome;
use crate::kafka::Connection;
use crate::ops::Exit;
use crate::schemas;

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
    let connection = run::connection(&config)?;
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
        eprintln!("aegis: {broken} decisions that may be about the event cannot be read");
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
            Predictor::untaught(&policy.learner, &policy.name, &experts)
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

/// Whether the decision's p came out again, to the bit: a learner that draws needs its seed, and a decision
/// without features may have been made with them.
fn same(decision: &Decision, explained: &Explanation) -> bool {
    explained.probability.map(f64::to_bits) == decision.probability.map(f64::to_bits)
}

fn as_json(found: &Found, standing: &Standing, explained: Option<&Explanation>) -> Value {
    let decision = &found.decision;
    let votes: Vec<_> = decision.votes.iter().map(vote_json).collect();
    let scores = |found: &[crate::core::vote::CategoryScore]| -> Value {
        found
            .iter()
            .map(|found| (found.category.clone(), json!(found.score)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let computed = explained.map(|explained| {
        json!({
            "probability": explained.probability,
            "same": same(decision, explained),
            "without_features": explained.unread,
            "flip": explained.flip.as_ref().map(|flip| json!({
                "expert": flip.expert, "from": flip.from, "to": flip.to, "probability": flip.probability,
            })),
        })
    });
    json!({
        "event": decision.id.event,
        "tenant": decision.id.tenant,
        "policy": decision.id.policy,
        "policy_version": decision.policy_version,
        "partition": found.partition,
        "offset": found.offset,
        "time": found.time.map(format_millis),
        "source": {
            "topic": decision.origin.topic,
            "partition": decision.origin.partition,
            "offset": decision.origin.offset,
        },
        "action": decision.action.word(),
        "probability": decision.probability,
        "threshold": decision.threshold,
        "categories": scores(&decision.categories),
        "degraded": decision.degraded,
        "review": decision.review.map(|reason| reason.word()),
        "review_probability": decision.review_probability,
        "features": decision.reading.is_some(),
        "predictor": {
            "learner": decision.predictor.learner,
            "rounds": decision.predictor.rounds,
            "ledger_offset": decision.predictor.ledger_offset,
            "state_hash": hex(&decision.predictor.state_hash),
            "standing": standing.word(),
        },
        "votes": votes,
        "computed": computed,
    })
}

fn vote_json(weighed: &WeighedVote) -> Value {
    let vote = &weighed.vote;
    let (score, abstention) = match &vote.outcome {
        Outcome::Voted { score, .. } => (Some(score), None),
        Outcome::Abstained(reason) => (None, Some(reason.word())),
    };
    json!({
        "expert": vote.expert,
        "score": score,
        "abstention": abstention,
        "shadow": vote.shadow,
        "truncated": vote.truncated,
        "weight": weighed.weight,
        "contribution": weighed.contribution,
        "model": vote.model.map(|model| hex(&model)),
    })
}

fn text(found: &Found, standing: &Standing, explained: Option<&Explanation>, config: &Config) {
    let decision = &found.decision;
    let id = &decision.id;
    println!(
        "event      {} of tenant {}, {} {}:{}",
        printable(&id.event),
        printable(&id.tenant),
        printable(&decision.origin.topic),
        decision.origin.partition,
        decision.origin.offset
    );
    let time = found.time.map_or_else(|| "-".into(), format_millis);
    println!("decision   {} {}:{}, {time}", config.topics.decisions, found.partition, found.offset);
    println!("action     {}: {}", decision.action.word(), why(decision));
    println!("policy     {}, version {}", printable(&id.policy), printable(&decision.policy_version));
    let named = &decision.predictor;
    let standing = match standing {
        Standing::Untaught => "nothing was learned yet",
        Standing::Newest => "it is the newest",
        Standing::Replaced => "newer ones have been published since",
        Standing::Gone => "it is no longer on its topic, so that only what the decision names is shown",
    };
    if named.ledger_offset < 0 {
        println!("predictor  {}: {standing}", printable(&named.learner));
    } else {
        println!(
            "predictor  {}, {} rounds, ledger offset {}, state {}: {standing}",
            printable(&named.learner),
            named.rounds,
            named.ledger_offset,
            short(&hex(&named.state_hash))
        );
    }
    if let Some(explained) = explained {
        text_of(decision, explained);
    }
    let mut rows = vec![row(["expert", "vote", "weight", "contribution", "model", "also"])];
    rows.extend(decision.votes.iter().map(vote_row));
    print::table(&rows, &[1, 2, 3]);
}

fn text_of(decision: &Decision, explained: &Explanation) {
    if !same(decision, explained) {
        println!(
            "again      p does not come out again: it was made with features that the decision does not carry, or \
             with another seed or program"
        );
        return;
    }
    match (decision.probability, explained.unread) {
        (Some(p), Some(unread)) => println!(
            "features   p {p:.4} with the text's features, {unread:.4} without: the members that read add {:+.4}",
            p - unread
        ),
        _ => println!("features   none that the learner reads"),
    }
    match &explained.flip {
        Some(flip) => println!(
            "flip       {} {:.4} instead of {:.4} ({:+.4}) would make p {:.4}, on the other side of the threshold",
            printable(&flip.expert),
            flip.to,
            flip.from,
            flip.to - flip.from,
            flip.probability
        ),
        None => println!("flip       no single vote could move p to the other side of the threshold"),
    }
}

/// In words what the action goes by.
fn why(decision: &Decision) -> String {
    let Some(p) = decision.probability else { return "no expert was awake".to_owned() };
    let side = if p >= decision.threshold { "at or above" } else { "below" };
    let review = decision.review.map_or_else(String::new, |reason| {
        format!("; review: {}, with probability {}", reason.word(), decision.review_probability)
    });
    let highest = decision.categories.iter().max_by(|a, b| a.score.total_cmp(&b.score));
    let category = highest.map_or_else(String::new, |highest| {
        format!("; highest category {} {:.4}", printable(&highest.category), highest.score)
    });
    format!("p {p:.4} is {side} the threshold {:.4}{category}{review}", decision.threshold)
}

fn vote_row(weighed: &WeighedVote) -> Vec<String> {
    let vote = &weighed.vote;
    let mut also = Vec::new();
    let score = match &vote.outcome {
        Outcome::Voted { score, categories } => {
            also.extend(
                categories.iter().map(|one| format!("{} {:.3}", printable(&one.category), one.score)),
            );
            format!("{score:.4}")
        }
        Outcome::Abstained(reason) => {
            also.push(format!("abstained: {}", reason.word()));
            "-".into()
        }
    };
    if vote.shadow {
        also.insert(0, "shadow".into());
    }
    if vote.truncated {
        also.insert(0, "read only the beginning".into());
    }
    let model = vote.model.map_or_else(|| "-".into(), |model| short(&hex(&model)).to_owned());
    vec![
        printable(&vote.expert),
        score,
        format!("{:.4}", weighed.weight),
        format!("{:+.4}", weighed.contribution),
        model,
        also.join(", "),
    ]
}
