//! The effect of another predictor: reads the newest decisions and the labelled rounds, and compares them under both.

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde_json::Value;

use super::Entry;
use super::again::{Both, Decisions, Mistakes, again, count, mistakes};
use super::topic::{Version, entries};
use crate::cli::scan::{ANSWER_TIMEOUT, scan, scan_from};
use crate::cli::{Failure, run};
use crate::codec::{self, Received, Schemas};
use crate::config::{Config, Loaded};
use crate::core::ledger_state::LedgerState;
use crate::core::policy::Policy;
use crate::core::predictor::{Predictor, Published, StateHash};
use crate::kafka::{Connection, Follower, From};
use crate::ops::Exit;
use crate::registry::Registry;

/// The bounds of a comparison.
pub struct Limits {
    /// The greatest number of decisions.
    pub decisions: u64,
    /// The greatest number of labelled rounds.
    pub rounds: u64,
}

/// A comparison of two predictors; a part that was not requested is `None`.
#[derive(Default)]
pub struct Compared {
    decisions: Option<Decisions>,
    rounds: Option<Mistakes>,
}

/// Compares two versions of a policy's predictor.
///
/// # Errors
/// Returns an error if a version cannot be used, or if a topic cannot be read.
pub fn compare(
    (from, to): (&Version, &Version),
    limits: &Limits,
    loaded: &Loaded,
) -> Result<Compared, Failure> {
    let mut compared = Compared::default();
    let (Some(old), Some(_)) = (&from.published, &to.published) else { return Ok(compared) };
    let Loaded { config, policies } = loaded;
    let Some(policy) = policies.get(&from.policy).filter(|_| limits.decisions + limits.rounds > 0) else {
        return Ok(compared);
    };
    let connection = run::brokers(config)?;
    let mut both = load([from, to], policy, config, &connection)?;
    if limits.decisions > 0 {
        compared.decisions = Some(decisions(&mut both, policy, limits.decisions, config, &connection)?);
    }
    if limits.rounds > 0 {
        let ledger = read_ledger(config, &connection)?;
        compared.rounds = Some(mistakes(&mut both, policy, old, limits.rounds, &ledger));
    }
    Ok(compared)
}

/// Loads the states of two versions, which are not kept while the topic is listed.
fn load(
    versions: [&Version; 2],
    policy: &Policy,
    config: &Config,
    connection: &Connection,
) -> Result<Both, Failure> {
    let mut states: BTreeMap<StateHash, Published> = BTreeMap::new();
    entries(connection, config, &mut |_, entry| {
        let version = match entry {
            Entry::Version(version) => Some(version),
            Entry::Pin(change) => change.pinned.map(|(_, version)| version),
        };
        let published = version.and_then(|version| version.published);
        if let Some(published) = published.filter(|published| published.policy == policy.name)
            && versions
                .iter()
                .any(|one| one.published.as_ref().is_some_and(|one| one.state_hash == published.state_hash))
        {
            states.insert(published.state_hash, published);
        }
    })?;
    let build = |version: &Version| {
        let hash = version.published.as_ref().map(|published| published.state_hash);
        let published = hash.and_then(|hash| states.get(&hash));
        let mut published = published.cloned().ok_or_else(|| Failure {
            exit: Exit::Data,
            error: anyhow!(
                "the predictor at offset {} was compacted away meanwhile: repeat this",
                version.offset
            ),
        })?;
        // The secret of keyed draws is never published.
        published.learner.seed.clone_from(&policy.learner.seed);
        Predictor::published(&published).map_err(|error| Failure::new(Exit::Data, error))
    };
    let [from, to] = versions;
    Ok(Both([build(from)?, build(to)?]))
}

/// Makes the newest decisions of the policy again. Of each partition at most twice `limit` offsets are read.
fn decisions(
    both: &mut Both,
    policy: &Policy,
    limit: u64,
    config: &Config,
    connection: &Connection,
) -> Result<Decisions, Failure> {
    let registry =
        Registry::from_config(&config.registry).map_err(|error| Failure::new(Exit::Config, error))?;
    let waiting = registry.as_ref().map(|registry| registry.waiting(&|| false));
    let waiting = waiting.as_ref().map(|waiting| waiting as &dyn Schemas);
    let topic = &config.topics.decisions;
    let mut made = Vec::new();
    scan_from(connection, topic, &tail(connection, topic, limit)?, &mut |record| {
        let received = Received::new(record.payload.as_deref(), &record.headers, waiting);
        if let Ok(decision) = received.decision()
            && decision.id.policy == policy.name
        {
            made.push(again(both, policy, &decision, record.timestamp.unwrap_or(decision.round_time)));
        }
        Ok(())
    })?;
    made.sort_by_key(|again| std::cmp::Reverse(again.time));
    made.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(count(&made))
}

/// Returns the positions from which each partition has `limit` records left, unless it holds fewer. At most every second
/// offset is the marker of a transaction.
fn tail(connection: &Connection, topic: &str, limit: u64) -> Result<From, Failure> {
    let follower = Follower::open(connection, topic, &From::Beginning, ANSWER_TIMEOUT);
    let follower = follower.map_err(|error| Failure::of(connection, error))?;
    let (first, offsets) = (follower.positions(), i64::try_from(2 * limit).unwrap_or(i64::MAX));
    let ends = follower.ends().into_iter();
    let begin = |partition: i32, end: i64| (end - offsets).max(first.get(&partition).copied().unwrap_or(0));
    Ok(From::Offsets(ends.map(|(partition, end)| (partition, begin(partition, end))).collect()))
}

fn read_ledger(config: &Config, connection: &Connection) -> Result<LedgerState, Failure> {
    let mut ledger = LedgerState::new();
    scan(connection, &config.topics.rounds, &mut |record| {
        let Some(payload) = &record.payload else { return Ok(()) };
        let wrong = |error: anyhow::Error| {
            let at = format!("{} at offset {}", config.topics.rounds, record.offset);
            Failure { exit: Exit::Data, error: error.context(at) }
        };
        let decoded = codec::decode_record(payload).map_err(|error| wrong(error.into()))?;
        ledger.apply(&decoded, &mut Vec::new()).map_err(|error| wrong(error.into()))?;
        Ok(())
    })?;
    Ok(ledger)
}

impl Compared {
    pub fn decisions_json(&self) -> Value {
        self.decisions.as_ref().map_or(Value::Null, Decisions::json)
    }

    pub fn rounds_json(&self) -> Value {
        self.rounds.as_ref().map_or(Value::Null, Mistakes::json)
    }

    /// Describes the comparison for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(found) = &self.decisions {
            lines.extend(found.lines());
        }
        if let Some(found) = &self.rounds {
            lines.extend(found.lines());
        }
        lines
    }
}
