//! The effect of another predictor: past decisions and labelled rounds under both.
//!
//! The newest decisions are made again from their own votes and features, with the policy of the configuration. Nothing is
//! asked again: a vote that a decision lacks is missing under both predictors.

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::Entry;
use super::topic::{Version, entries};
use crate::cli::scan::{ANSWER_TIMEOUT, scan, scan_from};
use crate::cli::{Failure, run};
use crate::codec::{self, Received, Schemas, time::format_millis};
use crate::config::{Config, Loaded};
use crate::core::decision::Decision;
use crate::core::event::Millis;
use crate::core::ledger::TextFeatures;
use crate::core::ledger_state::{LedgerState, Rounds, Row};
use crate::core::policy::{Action, Policy};
use crate::core::predictor::{Predictor, Published, StateHash};
use crate::core::vote::{Abstention, Vote};
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

/// The newest decisions under both predictors.
#[derive(Debug, Default, PartialEq)]
struct Decisions {
    /// The number of decisions, and the times of the first and the last.
    count: u64,
    times: Option<(Millis, Millis)>,
    /// The decisions whose action changes, by action before and after.
    changed: BTreeMap<(&'static str, &'static str), u64>,
    /// The decisions without the vote of an expert that was not needed under the predictor that made them.
    without_votes: u64,
}

/// The mistakes on labelled rounds: of the first predictor, and of the second.
#[derive(Debug, Default, PartialEq)]
struct Mistakes {
    rounds: u64,
    /// The rounds that are newer than those that the first predictor has learned from.
    newer: u64,
    /// Unsafe rounds below the threshold.
    misses: [u64; 2],
    /// Safe rounds at or above it.
    false_alarms: [u64; 2],
}

/// Both predictors, ready to combine votes.
struct Both([Predictor; 2]);

impl Both {
    fn probabilities(
        &mut self,
        event: &str,
        votes: &[Vote],
        features: Option<&TextFeatures>,
    ) -> [Option<f64>; 2] {
        let [from, to] = &mut self.0;
        [from, to].map(|one| one.probability(event, votes, features))
    }
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

/// A decision that was made again.
struct Again {
    time: Millis,
    actions: [Action; 2],
    without_votes: bool,
}

fn again(both: &mut Both, policy: &Policy, decision: &Decision, time: Millis) -> Again {
    let votes: Vec<Vote> = decision.votes.iter().map(|weighed| weighed.vote.clone()).collect();
    let probabilities = both.probabilities(&decision.id.event, &votes, decision.features.as_ref());
    let without_votes = votes.iter().any(|vote| vote.abstention() == Some(Abstention::NotNeeded));
    Again { time, actions: probabilities.map(|p| action(policy, decision, p)), without_votes }
}

/// Returns the action of a policy on an event with this probability.
fn action(policy: &Policy, decision: &Decision, p: Option<f64>) -> Action {
    if decision.nothing_to_judge {
        return policy.nothing_to_judge;
    }
    let awake = decision.votes.iter().filter(|weighed| weighed.vote.awake().is_some()).count();
    let Some(p) = p.filter(|_| awake >= policy.min_awake) else { return Action::Review };
    let flagged = if p >= policy.threshold() { policy.flagged } else { Action::Allow };
    let rules = decision.categories.iter().filter_map(|found| {
        let rule = policy.categories.get(&found.category)?;
        (found.score >= rule.threshold).then_some(rule.action)
    });
    // The strictest action is taken.
    let strictness =
        |action: &Action| [Action::Allow, Action::Review, Action::Block].iter().position(|one| one == action);
    rules.chain([flagged]).max_by_key(strictness).unwrap_or(flagged)
}

fn count(made: &[Again]) -> Decisions {
    let mut counted = Decisions { count: made.len() as u64, ..Decisions::default() };
    counted.times = made.last().zip(made.first()).map(|(oldest, newest)| (oldest.time, newest.time));
    for again in made {
        let [from, to] = again.actions.map(Action::word);
        if from != to {
            *counted.changed.entry((from, to)).or_default() += 1;
        }
        counted.without_votes += u64::from(again.without_votes);
    }
    counted
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

/// Counts the mistakes of both predictors on the newest labelled rounds, at the threshold of the policy.
fn mistakes(
    both: &mut Both,
    policy: &Policy,
    from: &Published,
    limit: u64,
    ledger: &LedgerState,
) -> Mistakes {
    let mut found = Mistakes::default();
    let Some(rounds) = ledger.find(&policy.name).and_then(|at| ledger.rounds(at)) else { return found };
    let target = |row: Row| rounds.target(row, &policy.mapping, ledger.edits());
    let key = |row: Row| (rounds.round_time(row), rounds.tenant(row), rounds.event(row));
    let mut rows: Vec<Row> =
        rounds.rows().filter(|row| rounds.any_awake(*row) && target(*row).is_some()).collect();
    rows.sort_by(|one, other| key(*other).cmp(&key(*one)));
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = from.last_key.as_ref().map(|(time, tenant, event)| (*time, tenant.as_str(), event.as_str()));
    for row in rows {
        let Some(target) = target(row) else { continue };
        let (votes, features) = inputs(rounds, row);
        let probabilities = both.probabilities(rounds.event(row), &votes, features.as_ref());
        found.rounds += 1;
        found.newer += u64::from(last.is_none_or(|last| key(row) > last));
        for (side, p) in probabilities.into_iter().enumerate() {
            let Some(p) = p else { continue };
            match (p >= policy.threshold(), target >= 0.5) {
                (false, true) => found.misses[side] += 1,
                (true, false) => found.false_alarms[side] += 1,
                _ => {}
            }
        }
    }
    found
}

/// The votes and the features of a round.
fn inputs(rounds: &Rounds, row: Row) -> (Vec<Vote>, Option<TextFeatures>) {
    let votes = rounds.votes(row).map_or_else(Vec::new, |(panel, scores)| {
        let experts = &rounds.panels()[panel.number()];
        let vote = |(expert, score): (&String, f64)| Vote::scored(expert, [0; 32], score, Vec::new());
        experts.iter().zip(scores.iter().map(|score| score.awake())).map(vote).collect()
    });
    let features = rounds.features(row).map(|(encoder, features)| TextFeatures {
        encoder: rounds.encoders()[encoder],
        features: Box::new(*features),
    });
    (votes, features)
}

impl Compared {
    pub fn decisions_json(&self) -> Value {
        let Some(found) = &self.decisions else { return Value::Null };
        let changed =
            |((from, to), count): (&(&str, &str), &u64)| json!({"from": from, "to": to, "decisions": count});
        json!({
            "count": found.count,
            "since": found.times.map(|(since, _)| format_millis(since)),
            "until": found.times.map(|(_, until)| format_millis(until)),
            "changed": found.changed.iter().map(changed).collect::<Vec<_>>(),
            "without_votes": found.without_votes,
        })
    }

    pub fn rounds_json(&self) -> Value {
        let Some(found) = &self.rounds else { return Value::Null };
        let side = |at: usize| json!({"misses": found.misses[at], "false_alarms": found.false_alarms[at]});
        json!({"count": found.rounds, "newer_than_from": found.newer, "from": side(0), "to": side(1)})
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

impl Decisions {
    fn lines(&self) -> Vec<String> {
        let Some((since, until)) = self.times else {
            return vec!["decisions  none of this policy are on their topic".to_owned()];
        };
        let changed: u64 = self.changed.values().sum();
        let (count, since, until) = (self.count, format_millis(since), format_millis(until));
        let mut lines =
            vec![format!("decisions  {changed} of the newest {count} would change ({since} to {until})")];
        let change =
            |((from, to), count): (&(&str, &str), &u64)| format!("           {from} to {to}: {count}");
        lines.extend(self.changed.iter().map(change));
        if self.without_votes > 0 {
            let count = self.without_votes;
            lines.push(format!(
                "           {count} lack votes that were not needed, and are made again without them"
            ));
        }
        lines
    }
}

impl Mistakes {
    fn lines(&self) -> Vec<String> {
        if self.rounds == 0 {
            return vec!["rounds     none of this policy are labelled".to_owned()];
        }
        let side = |at: usize| {
            let (misses, alarms) = (self.misses[at], self.false_alarms[at]);
            format!("{} ({misses} misses, {alarms} false alarms)", misses + alarms)
        };
        vec![
            format!(
                "rounds     mistakes on the newest {} labelled: from {}, to {}",
                self.rounds,
                side(0),
                side(1)
            ),
            format!(
                "           {} of these are newer than what FROM has learned from; what a version has learned from flatters it",
                self.newer
            ),
        ]
    }
}
