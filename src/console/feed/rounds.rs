//! The votes of recent decisions joined with the labels about them: how often each expert agreed with people.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::Arc;

use serde::Serialize;

use crate::core::decision::Decision;
use crate::core::event::Millis;
use crate::core::label::{Label, Source};
use crate::core::ledger::RoundId;

/// The number of decisions that labels are joined with.
const MAX_ROUNDS: usize = 50_000;
/// The number of labels that wait for their decision.
const MAX_WAITING: usize = 10_000;
/// The number of delays from which the median is taken.
const DELAYS: usize = 500;
/// The number of different panels that are remembered: lists of experts.
const MAX_PANELS: usize = 64;

/// The votes of a decision, in as little memory as possible.
struct Round {
    policy: Arc<str>,
    time: Millis,
    probability: Option<f32>,
    threshold: f32,
    panel: Arc<[String]>,
    /// The votes in the order of the panel. NaN is an abstention, or a vote that does not count for the quality.
    votes: Box<[f32]>,
    /// The target and the id of the label that gave it.
    label: Option<(f32, u64)>,
}

/// A label that waits for its decision.
struct Waiting {
    value: Option<f64>,
    id: u64,
    retracts: Option<u64>,
    time: Option<Millis>,
}

/// The agreement of votes with labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// The labelled votes.
    pub labels: u64,
    /// The votes on the same side as the label.
    pub agreed: u64,
    /// The mean of (vote - target)².
    pub brier: f64,
}

impl Agreement {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 labels")]
    fn add(&mut self, vote: f64, threshold: f64, target: f64) {
        self.labels += 1;
        self.agreed += u64::from((vote >= threshold) == (target >= 0.5));
        self.brier += ((vote - target).powi(2) - self.brier) / self.labels as f64;
    }
}

/// The recent rounds. Its memory is bounded.
pub struct Rounds {
    hasher: RandomState,
    rounds: HashMap<u64, Round>,
    order: VecDeque<u64>,
    waiting: HashMap<u64, Vec<Waiting>>,
    waiting_order: VecDeque<u64>,
    panels: Vec<Arc<[String]>>,
    policies: Vec<Arc<str>>,
    delays: VecDeque<Millis>,
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            rounds: HashMap::new(),
            order: VecDeque::new(),
            waiting: HashMap::new(),
            waiting_order: VecDeque::new(),
            panels: Vec::new(),
            policies: Vec::new(),
            delays: VecDeque::new(),
        }
    }
}

impl Rounds {
    fn key(&self, tenant: &str, policy: &str, event: &str) -> u64 {
        self.hasher.hash_one((tenant, policy, event))
    }

    fn panel(&mut self, decision: &Decision) -> Arc<[String]> {
        let experts = || decision.votes.iter().map(|weighed| &weighed.vote.expert);
        if let Some(known) = self.panels.iter().find(|known| known.iter().eq(experts())) {
            return Arc::clone(known);
        }
        let panel: Arc<[String]> = experts().cloned().collect();
        if self.panels.len() >= MAX_PANELS {
            self.panels.remove(0);
        }
        self.panels.push(Arc::clone(&panel));
        panel
    }

    fn policy(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.policies.iter().find(|known| &***known == name) {
            return Arc::clone(known);
        }
        let policy: Arc<str> = name.into();
        if self.policies.len() < super::MAX_POLICIES {
            self.policies.push(Arc::clone(&policy));
        }
        policy
    }

    /// Adds a decision.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for these figures")]
    pub fn decision(&mut self, decision: &Decision) {
        let RoundId { tenant, policy, event } = &decision.id;
        let key = self.key(tenant, policy, event);
        let panel = self.panel(decision);
        let policy = self.policy(policy);
        let votes = decision.votes.iter().map(|weighed| {
            let vote = &weighed.vote;
            if vote.decisive { f32::NAN } else { vote.score().map_or(f32::NAN, |score| score as f32) }
        });
        let round = Round {
            policy,
            time: decision.round_time,
            probability: decision.probability.map(|p| p as f32),
            threshold: decision.threshold as f32,
            panel,
            votes: votes.collect(),
            // An event that is decided again keeps its label.
            label: self.rounds.get(&key).and_then(|known| known.label),
        };
        if self.rounds.insert(key, round).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MAX_ROUNDS {
            if let Some(oldest) = self.order.pop_front() {
                self.rounds.remove(&oldest);
            }
        }
        for waiting in self.waiting.remove(&key).into_iter().flatten() {
            self.apply(key, &waiting);
        }
    }

    /// Adds a label with its value, which is `None` for a retraction. `time` is that of its record.
    pub fn label(&mut self, label: &Label, value: Option<f64>, time: Option<Millis>) {
        if label.source == Source::Calibration {
            return; // it measures the reviewer
        }
        let key = self.key(&label.tenant, &label.policy, &label.event);
        let id = |id: &String| self.hasher.hash_one(id);
        let waiting = Waiting { value, id: id(&label.id), retracts: label.retracts.as_ref().map(id), time };
        if self.rounds.contains_key(&key) {
            self.apply(key, &waiting);
            return;
        }
        self.waiting.entry(key).or_default().push(waiting);
        self.waiting_order.push_back(key);
        while self.waiting_order.len() > MAX_WAITING {
            if let Some(oldest) = self.waiting_order.pop_front() {
                self.waiting.remove(&oldest);
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for these figures")]
    fn apply(&mut self, key: u64, label: &Waiting) {
        let Some(round) = self.rounds.get_mut(&key) else { return };
        if let Some(retracted) = label.retracts {
            round.label = round.label.filter(|(_, id)| *id != retracted);
            return;
        }
        let Some(value) = label.value else { return };
        round.label = Some((value as f32, label.id));
        if let Some(time) = label.time {
            self.delays.push_back(time.saturating_sub(round.time).max(0));
            if self.delays.len() > DELAYS {
                self.delays.pop_front();
            }
        }
    }

    /// Returns the median and the 90th percentile of the time from an event to its label, with the number of labels.
    #[must_use]
    pub fn delay(&self) -> Option<(Millis, Millis, usize)> {
        let mut sorted: Vec<Millis> = self.delays.iter().copied().collect();
        sorted.sort_unstable();
        let at = |share: usize| {
            sorted.get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1))).copied()
        };
        Some((at(50)?, at(90)?, sorted.len()))
    }

    /// Returns the agreement of each expert with people, and that of the ensemble under the name of no expert.
    #[must_use]
    pub fn agreement(&self, policy: Option<&str>) -> BTreeMap<Option<String>, Agreement> {
        let mut found: BTreeMap<Option<String>, Agreement> = BTreeMap::new();
        for key in &self.order {
            let Some(round) = self.rounds.get(key) else { continue };
            let Some((target, _)) = round.label else { continue };
            if policy.is_some_and(|policy| *policy != *round.policy) {
                continue;
            }
            if let Some(p) = round.probability {
                found.entry(None).or_default().add(p.into(), round.threshold.into(), target.into());
            }
            for (expert, vote) in round.panel.iter().zip(&round.votes).filter(|(_, vote)| !vote.is_nan()) {
                let mine = found.entry(Some(expert.clone())).or_default();
                mine.add((*vote).into(), 0.5, target.into());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decision::WeighedVote;
    use crate::core::label::Finding;
    use crate::core::vote::Vote;

    fn decision(number: usize, votes: &[(&str, f64, bool)]) -> Decision {
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: format!("e{number}") };
        let vote = |(expert, score, decisive): &(&str, f64, bool)| WeighedVote {
            vote: Vote { decisive: *decisive, ..Vote::scored(expert, [0; 32], *score, Vec::new()) },
            weight: 0.5,
            contribution: 0.0,
        };
        let votes = votes.iter().map(vote).collect();
        Decision { votes, probability: Some(0.75), round_time: 1_000, ..Decision::example(id, 0) }
    }

    fn label(decision: &Decision, id: &str, source: Source) -> Label {
        Label { source, ..Label::new(&decision.id, id, Finding::Unsafe) }
    }

    #[test]
    fn labels_are_joined_before_and_after_their_decisions() {
        let mut rounds = Rounds::default();
        let votes = [("a", 0.5, false), ("b", 0.0, false), ("c", 1.0, true)];
        let (first, second) = (decision(0, &votes), decision(1, &votes));
        rounds.label(&label(&first, "l", Source::Review), Some(1.0), Some(4_000));
        rounds.decision(&first);
        rounds.decision(&second);
        rounds.label(&label(&second, "l", Source::Calibration), Some(0.0), Some(9_000));
        let found = rounds.agreement(Some("p"));
        let of = |expert: Option<&str>| found.get(&expert.map(str::to_owned)).copied();
        assert_eq!(of(Some("a")), Some(Agreement { labels: 1, agreed: 1, brier: 0.25 }));
        assert_eq!(of(Some("b")), Some(Agreement { labels: 1, agreed: 0, brier: 1.0 }));
        assert_eq!(of(Some("c")), None, "decisive votes do not count");
        assert_eq!(of(None), Some(Agreement { labels: 1, agreed: 1, brier: 0.0625 }));
        assert_eq!(rounds.delay(), Some((3_000, 3_000, 1)));
        assert!(rounds.agreement(Some("other")).is_empty());
    }

    #[test]
    fn a_newer_label_replaces_and_a_retraction_removes() {
        let mut rounds = Rounds::default();
        let decided = decision(0, &[("a", 1.0, false)]);
        rounds.decision(&decided);
        rounds.label(&label(&decided, "l1", Source::Review), Some(0.0), None);
        rounds.label(&label(&decided, "l2", Source::Review), Some(1.0), None);
        assert_eq!(rounds.agreement(None)[&Some("a".to_owned())].brier, 0.0);
        let retraction = Label { retracts: Some("l1".into()), ..label(&decided, "l3", Source::Review) };
        rounds.label(&retraction, None, None);
        assert_eq!(rounds.agreement(None).len(), 2, "another label was retracted");
        let retraction = Label { retracts: Some("l2".into()), ..retraction };
        rounds.label(&retraction, None, None);
        assert!(rounds.agreement(None).is_empty());
    }

    #[test]
    fn an_event_that_is_decided_again_keeps_its_label() {
        let mut rounds = Rounds::default();
        let decided = decision(0, &[("a", 0.5, false)]);
        rounds.decision(&decided);
        rounds.label(&label(&decided, "l", Source::Review), Some(1.0), None);
        rounds.decision(&decision(0, &[("a", 1.0, false)]));
        let expected = Agreement { labels: 1, agreed: 1, brier: 0.0 };
        assert_eq!(rounds.agreement(None)[&Some("a".to_owned())], expected);
    }

    #[test]
    fn memory_is_bounded() {
        let mut rounds = Rounds::default();
        for number in 0..MAX_WAITING + 100 {
            rounds.label(&label(&decision(number, &[]), "l", Source::Review), Some(1.0), None);
        }
        assert_eq!((rounds.waiting.len(), rounds.waiting_order.len()), (MAX_WAITING, MAX_WAITING));
        for number in 0..MAX_ROUNDS + 100 {
            rounds.decision(&decision(number, &[("a", 1.0, false)]));
        }
        assert_eq!((rounds.rounds.len(), rounds.order.len()), (MAX_ROUNDS, MAX_ROUNDS));
        assert_eq!((rounds.panels.len(), rounds.policies.len()), (1, 1));
    }
}
