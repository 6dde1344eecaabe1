//! Past decisions and labelled rounds under two predictors. Nothing is asked again: a vote that a decision lacks is missing
//! under both.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::codec::time::format_millis;
use crate::core::decision::Decision;
use crate::core::event::Millis;
use crate::core::ledger::TextFeatures;
use crate::core::ledger_state::{LedgerState, Rounds, Row};
use crate::core::policy::{Action, Policy};
use crate::core::predictor::{Predictor, Published};
use crate::core::preview::action;
use crate::core::vote::{Abstention, Vote};

/// The newest decisions under both predictors.
#[derive(Debug, Default, PartialEq)]
pub struct Decisions {
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
pub struct Mistakes {
    rounds: u64,
    /// The rounds that are newer than those that the first predictor has learned from.
    newer: u64,
    /// Unsafe rounds below the threshold.
    misses: [u64; 2],
    /// Safe rounds at or above it.
    false_alarms: [u64; 2],
}

/// Both predictors, ready to combine votes.
pub struct Both(pub [Predictor; 2]);

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

/// A decision that was made again.
pub struct Again {
    pub time: Millis,
    actions: [Action; 2],
    without_votes: bool,
}

pub fn again(both: &mut Both, policy: &Policy, decision: &Decision, time: Millis) -> Again {
    let votes: Vec<Vote> = decision.votes.iter().map(|weighed| weighed.vote.clone()).collect();
    let probabilities = both.probabilities(&decision.id.event, &votes, decision.features.as_ref());
    let without_votes = votes.iter().any(|vote| vote.abstention() == Some(Abstention::NotNeeded));
    Again { time, actions: probabilities.map(|p| action(decision, policy, p)), without_votes }
}

pub fn count(made: &[Again]) -> Decisions {
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

/// Counts the mistakes of both predictors on the newest labelled rounds, at the threshold of the policy.
pub fn mistakes(
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

impl Decisions {
    pub fn json(&self) -> Value {
        let changed =
            |((from, to), count): (&(&str, &str), &u64)| json!({"from": from, "to": to, "decisions": count});
        json!({
            "count": self.count,
            "since": self.times.map(|(since, _)| format_millis(since)),
            "until": self.times.map(|(_, until)| format_millis(until)),
            "changed": self.changed.iter().map(changed).collect::<Vec<_>>(),
            "without_votes": self.without_votes,
        })
    }

    /// Describes the decisions for people.
    pub fn lines(&self) -> Vec<String> {
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
    pub fn json(&self) -> Value {
        let side = |at: usize| json!({"misses": self.misses[at], "false_alarms": self.false_alarms[at]});
        json!({"count": self.rounds, "newer_than_from": self.newer, "from": side(0), "to": side(1)})
    }

    /// Describes the mistakes for people.
    pub fn lines(&self) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policies;
    use crate::core::decision::WeighedVote;
    use crate::core::fold::{Fold, Settings};
    use crate::core::label::Finding;
    use crate::core::ledger::{Record, RoundId};
    use crate::core::policy::CategoryRule;
    use crate::core::vote::CategoryScore;

    fn policy() -> Policy {
        Policies::default().get("default").unwrap().clone()
    }

    fn id(number: i64) -> RoundId {
        RoundId { tenant: "t".into(), policy: "default".into(), event: format!("e{number}") }
    }

    /// A ledger in which the expert `a` is right and `b` is wrong. Every second round is unsafe.
    fn ledger(rounds: i64) -> LedgerState {
        let mut ledger = LedgerState::new();
        for number in 0..rounds {
            let is_unsafe = number % 2 == 0;
            let finding = if is_unsafe { Finding::Unsafe } else { Finding::Safe };
            let score = |right: bool| if is_unsafe == right { 0.9 } else { 0.1 };
            let votes = [("a", score(true)), ("b", score(false))];
            for record in Record::examples(id(number), number, &votes, finding) {
                ledger.apply(&record, &mut Vec::new()).unwrap();
            }
        }
        ledger
    }

    fn published(rounds: i64) -> Published {
        let (ledger, policy) = (ledger(rounds), policy());
        let mut fold = Fold::new(Settings::new(&policy.name, policy.learner, policy.mapping));
        fold.mark_all_changed(&ledger);
        fold.catch_up(&ledger).unwrap();
        fold.published(&ledger, 2 * rounds).unwrap()
    }

    /// The predictors before and after learning: the first one trusts the expert `b` as much as `a`.
    fn both(from: &Published, to: &Published) -> Both {
        Both([from, to].map(|one| Predictor::published(one).unwrap()))
    }

    fn decision(scores: [(&str, f64); 2]) -> Decision {
        let weighed = |(expert, score): (&str, f64)| WeighedVote {
            vote: Vote::scored(expert, [0; 32], score, Vec::new()),
            weight: 0.5,
            contribution: 0.0,
        };
        Decision { votes: scores.map(weighed).into(), ..Decision::example(id(0), 0) }
    }

    #[test]
    fn the_action_is_that_of_the_policy() {
        let mut policy = policy();
        let mut made = decision([("a", 0.9), ("b", 0.9)]);
        assert_eq!(action(&made, &policy, Some(0.5)), Action::Block);
        assert_eq!(action(&made, &policy, Some(0.4)), Action::Allow);
        assert_eq!(action(&made, &policy, None), Action::Review);
        policy.categories.insert("self-harm".into(), CategoryRule { threshold: 0.8, action: Action::Review });
        made.categories = vec![CategoryScore { category: "self-harm".into(), score: 0.8 }];
        assert_eq!(action(&made, &policy, Some(0.4)), Action::Review, "the rule is stricter");
        assert_eq!(action(&made, &policy, Some(0.5)), Action::Block, "block is stricter");
        policy.min_awake = 3;
        assert_eq!(action(&made, &policy, Some(0.5)), Action::Review);
        made.nothing_to_judge = true;
        assert_eq!(action(&made, &policy, None), Action::Allow);
    }

    #[test]
    fn decisions_that_change_are_counted_by_their_actions() {
        let mut both = both(&published(1), &published(40));
        let policy = policy();
        // After one round the experts still have about the same weight; after forty only `a` counts.
        let mut lacks = decision([("a", 0.1), ("b", 1.0)]);
        lacks.votes[1].vote = Vote::abstained("b", None, Abstention::NotNeeded);
        let made: Vec<Again> =
            [decision([("a", 0.4), ("b", 1.0)]), decision([("a", 0.9), ("b", 0.9)]), lacks]
                .iter()
                .zip([30, 20, 10])
                .map(|(decision, time)| again(&mut both, &policy, decision, time))
                .collect();
        let counted = count(&made);
        assert_eq!((counted.count, counted.times, counted.without_votes), (3, Some((10, 30)), 1));
        assert_eq!(counted.changed, BTreeMap::from([(("block", "allow"), 1)]));
        let lines = counted.lines().join("\n");
        assert!(
            lines.contains("1 of the newest 3 would change") && lines.contains("block to allow: 1"),
            "{lines}"
        );
    }

    #[test]
    fn mistakes_are_counted_on_the_newest_rounds_of_both() {
        let (old, new) = (published(1), published(40));
        let mut both = both(&old, &new);
        let found = mistakes(&mut both, &policy(), &old, 10, &ledger(40));
        assert_eq!((found.rounds, found.newer), (10, 10));
        assert_eq!(found.misses[1] + found.false_alarms[1], 0, "the newer one has learned whom to trust");
        let all = mistakes(&mut both, &policy(), &old, 1_000, &ledger(40));
        assert_eq!((all.rounds, all.newer), (40, 39));
        let none = mistakes(&mut both, &Policy { name: "other".into(), ..policy() }, &old, 10, &ledger(40));
        assert_eq!(none, Mistakes::default());
    }
}
