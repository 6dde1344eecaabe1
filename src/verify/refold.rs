//! Folds the ledger up to the offset that each published predictor reflects, and compares the state hashes.
//!
//! It is pure: it is fed with the records of the ledger in their order. It holds the ledger, like the learner, and one
//! fold at a time.

use std::sync::Arc;

use serde::Serialize;

use super::violations::{Place, ViolationKind, Violations};
use crate::core::fold::{Fold, Settings};
use crate::core::hash::{HashedState, hex, state_hash};
use crate::core::learners::LearnerSpec;
use crate::core::ledger::Record;
use crate::core::ledger_state::{LedgerError, LedgerState};
use crate::core::policy::Policy;
use crate::core::predictor::{Published, StateHash};

/// A predictor to verify.
#[derive(Debug, Clone)]
pub struct PendingCheck {
    /// The predictor as published.
    pub published: Published,
    /// Its place.
    pub at: Place,
    /// The configuration's policy of that name.
    pub policy: Option<Policy>,
}

/// The outcome of verifying the predictor of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PredictorCheck {
    /// The policy.
    pub policy: String,
    /// `true` if the fold has the published hash.
    pub holds: bool,
    /// The ledger offset that the predictor reflects.
    pub ledger_offset: i64,
    /// The number of rounds that the predictor was made of.
    pub rounds: u64,
    /// The published hash.
    pub published: String,
    /// The hash of the fold; `None` if there was nothing to compare with.
    pub folded: Option<String>,
}

/// The ledger as read so far, and the predictors that reflect more of it.
#[derive(Debug)]
pub struct Refold {
    ledger: Arc<str>,
    state: LedgerState,
    /// The predictors in descending order of their ledger offsets.
    pending: Vec<PendingCheck>,
    checked: Vec<PredictorCheck>,
    violations: Violations,
    records: u64,
}

impl Refold {
    /// Starts with an empty ledger. `ledger` is its topic.
    #[must_use]
    pub fn new(ledger: &Arc<str>, mut pending: Vec<PendingCheck>) -> Self {
        pending.sort_by_key(|pending| std::cmp::Reverse(pending.published.ledger_offset));
        Self {
            ledger: Arc::clone(ledger),
            state: LedgerState::new(),
            pending,
            checked: Vec::new(),
            violations: Violations::default(),
            records: 0,
        }
    }

    /// Applies the record at `offset`.
    pub fn record(&mut self, offset: i64, record: &Record) {
        self.reach(offset);
        self.records += 1;
        let applied: Result<bool, LedgerError> = self.state.apply(record, &mut Vec::new());
        if let Err(error) = applied {
            self.unreadable(offset, &error.to_string());
        }
    }

    /// Adds a record that cannot be decoded or applied.
    pub fn unreadable(&mut self, offset: i64, why: &str) {
        let at = Place::new(&self.ledger, 0, offset);
        self.violations.add(ViolationKind::Unreadable, at, || why.to_owned());
    }

    /// Verifies the predictors that reflect the ledger up to `offset` or less.
    fn reach(&mut self, offset: i64) {
        while let Some(pending) = self.pending.pop_if(|pending| pending.published.ledger_offset <= offset) {
            self.check(&pending);
        }
    }

    /// Verifies the remaining predictors. `end` is the next offset of the topic. Returns the outcomes, the number of records
    /// read, and the violations.
    #[must_use]
    pub fn finish(mut self, end: i64) -> (Vec<PredictorCheck>, u64, Violations) {
        self.reach(end);
        for pending in std::mem::take(&mut self.pending) {
            let named = pending.published.ledger_offset;
            let ledger = Arc::clone(&self.ledger);
            self.fail(&pending, ViolationKind::Hash, None, &|| {
                format!("reflects {ledger} up to offset {named}, and that ends at {end}")
            });
        }
        self.checked.sort_by(|one, other| one.policy.cmp(&other.policy));
        (self.checked, self.records, self.violations)
    }

    fn check(&mut self, pending: &PendingCheck) {
        let published = &pending.published;
        // A predictor does not carry its learner's seed.
        let seedless = |learner: &LearnerSpec| LearnerSpec { seed: None, ..learner.clone() }.canonical();
        let policy = pending.policy.as_ref().filter(|policy| {
            seedless(&policy.learner) == seedless(&published.learner)
                && policy.mapping.canonical() == published.mapping
        });
        let Some(policy) = policy else {
            self.fail(pending, ViolationKind::Policy, None, &|| {
                "was made with a learner or mapping that the configuration does not have: verify with the \
                 running learner's"
                    .to_owned()
            });
            return;
        };
        let carried = hash_of_state(published, &policy.learner);
        if carried != published.state_hash {
            self.fail(pending, ViolationKind::Hash, None, &|| {
                format!(
                    "has the hash {}, and the state that it carries has {}",
                    hex(&published.state_hash),
                    hex(&carried)
                )
            });
            return;
        }
        match fold(&self.state, policy) {
            Ok(Some(hash)) if hash == published.state_hash => self.done(pending, true, Some(&hash)),
            Ok(hash) => {
                let found = hash.as_ref().map_or_else(|| "no rounds".to_owned(), hex);
                self.fail(pending, ViolationKind::Hash, hash.as_ref(), &|| {
                    format!(
                        "has the hash {}, and the ledger up to offset {} folds to {found}",
                        hex(&published.state_hash),
                        published.ledger_offset
                    )
                });
            }
            Err(error) => self
                .fail(pending, ViolationKind::Hash, None, &|| format!("the ledger does not fold: {error}")),
        }
    }

    fn fail(
        &mut self,
        pending: &PendingCheck,
        kind: ViolationKind,
        folded: Option<&StateHash>,
        what: &dyn Fn() -> String,
    ) {
        let policy = &pending.published.policy;
        self.violations
            .add(kind, pending.at.clone(), || format!("the predictor of policy {policy} {}", what()));
        self.done(pending, false, folded);
    }

    fn done(&mut self, pending: &PendingCheck, holds: bool, folded: Option<&StateHash>) {
        let published = &pending.published;
        self.checked.push(PredictorCheck {
            policy: published.policy.clone(),
            holds,
            ledger_offset: published.ledger_offset,
            rounds: published.rounds,
            published: hex(&published.state_hash),
            folded: folded.map(hex),
        });
    }
}

/// The hash of the fold of a policy; `None` if no round counts.
fn fold(state: &LedgerState, policy: &Policy) -> Result<Option<StateHash>, crate::core::fold::FoldError> {
    let mut settings = Settings::new(&policy.name, policy.learner.clone(), policy.mapping.clone());
    // The fold runs once, from the first round to the last, and needs no checkpoints.
    settings.memory = 0;
    settings.tally = false;
    let mut fold = Fold::new(settings);
    fold.mark_all_changed(state);
    fold.catch_up(state)?;
    Ok((fold.progress().rounds > 0).then(|| fold.state_hash(state)))
}

/// The hash of the state that a predictor carries.
pub(super) fn hash_of_state(published: &Published, learner: &LearnerSpec) -> StateHash {
    state_hash(&HashedState {
        learner: &learner.canonical(),
        experts: &published.experts,
        encoder: published.encoder.as_ref(),
        mapping: &published.mapping,
        rounds: published.rounds,
        last_key: published.last_key.as_ref().map(|(time, tenant, event)| (*time, &**tenant, &**event)),
        state: &published.state,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Policies;
    use crate::core::label::Finding;
    use crate::core::ledger::RoundId;

    fn policy() -> Policy {
        Policies::default().get("default").unwrap().clone()
    }

    /// The records of a round and of its label.
    fn round(number: i64, finding: Finding) -> [Record; 2] {
        let id = RoundId { tenant: "t".into(), policy: "default".into(), event: format!("e{number}") };
        Record::examples(id, number, &[("a", 0.9), ("b", 0.2)], finding)
    }

    pub fn ledger(rounds: i64) -> Vec<Record> {
        (0..rounds).flat_map(|number| round(number, Finding::Unsafe)).collect()
    }

    /// The predictor that a learner publishes after these records.
    pub fn published(records: &[Record]) -> Published {
        let mut state = LedgerState::new();
        for record in records {
            state.apply(record, &mut Vec::new()).unwrap();
        }
        let policy = policy();
        let mut fold = Fold::new(Settings::new(&policy.name, policy.learner, policy.mapping));
        fold.mark_all_changed(&state);
        fold.catch_up(&state).unwrap();
        fold.published(&state, i64::try_from(records.len()).unwrap()).unwrap()
    }

    fn check(
        published: Published,
        policy: Option<Policy>,
        records: &[Record],
    ) -> (Vec<PredictorCheck>, Violations) {
        let at = Place::new(&"weights".into(), 0, 7);
        let mut refold = Refold::new(&"ledger".into(), vec![PendingCheck { published, at, policy }]);
        for (offset, record) in (0..).zip(records) {
            refold.record(offset, record);
        }
        let (checked, read, violations) = refold.finish(i64::try_from(records.len()).unwrap());
        assert_eq!(read, records.len() as u64);
        (checked, violations)
    }

    #[test]
    fn a_predictor_is_compared_with_the_ledger_up_to_its_offset() {
        let records = ledger(9);
        for length in [2, 7, 18] {
            let published = published(&records[..length]);
            let (checked, violations) = check(published.clone(), Some(policy()), &records);
            assert!(violations.is_empty() && checked[0].holds, "{violations:?}");
            assert_eq!(checked[0].folded.as_ref(), Some(&hex(&published.state_hash)));
        }
    }

    #[test]
    fn a_wrong_hash_a_wrong_state_and_a_wrong_place_are_found() {
        let records = ledger(5);
        let right = published(&records);
        let of_others = Published { ledger_offset: 10, ..published(&ledger(4)) };
        let mut state = right.clone();
        state.state[0] += 0.5;
        let hash = Published { state_hash: [3; 32], ..right.clone() };
        let later = Published { ledger_offset: 11, ..right.clone() };
        for (wrong, word) in
            [(of_others, "folds to"), (state, "carries"), (hash, "carries"), (later, "ends at 10")]
        {
            let (checked, violations) = check(wrong, Some(policy()), &records);
            assert_eq!((checked[0].holds, violations.count(ViolationKind::Hash)), (false, 1));
            let shown = violations.0[&ViolationKind::Hash].shown[0].to_string();
            assert!(shown.contains(word), "{shown}");
        }
        // The ledger does not have the rounds any more.
        let (_, violations) = check(Published { ledger_offset: 0, ..right }, Some(policy()), &records);
        assert!(violations.0[&ViolationKind::Hash].shown[0].what.contains("no rounds"));
    }

    #[test]
    fn a_predictor_of_another_configuration_is_reported() {
        let records = ledger(2);
        let mut other = policy();
        other.mapping.needs_caution = 0.0;
        for known in [None, Some(other)] {
            let (checked, violations) = check(published(&records), known, &records);
            assert_eq!((checked[0].holds, violations.count(ViolationKind::Policy)), (false, 1));
        }
    }
}
