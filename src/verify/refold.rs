//! The ledger folded anew, as far as each published predictor says that it reflects it.
//!
//! Pure: fed with the ledger's records in their order. It holds the ledger, like the learner, and one fold
//! at a time.

use std::sync::Arc;

use serde::Serialize;

use super::violations::{Place, ViolationKind, Violations};
use crate::core::fold::{Fold, Settings};
use crate::core::hash::{Stated, hex, state_hash};
use crate::core::learners::LearnerSpec;
use crate::core::ledger::Record;
use crate::core::ledger_state::{LedgerError, LedgerState};
use crate::core::policy::Policy;
use crate::core::predictor::{Published, StateHash};

/// A predictor to check: what was published, and where.
#[derive(Debug, Clone)]
pub struct PendingCheck {
    /// The predictor.
    pub published: Published,
    /// Where it lies.
    pub at: Place,
    /// The configuration's policy of that name.
    pub policy: Option<Policy>,
}

/// What became of a policy's predictor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PredictorCheck {
    /// The policy.
    pub policy: String,
    /// Whether the fold has the published hash.
    pub holds: bool,
    /// The ledger offset that the predictor names.
    pub ledger_offset: i64,
    /// Rounds that the predictor was made of.
    pub rounds: u64,
    /// The published hash.
    pub published: String,
    /// The fold's hash; none where there was nothing to compare with.
    pub folded: Option<String>,
}

/// The ledger as read so far, and the predictors whose place in it has not come yet.
#[derive(Debug)]
pub struct Refold {
    ledger: Arc<str>,
    book: LedgerState,
    /// By ledger offset, the next last.
    due: Vec<PendingCheck>,
    checked: Vec<PredictorCheck>,
    faults: Violations,
    records: u64,
}

impl Refold {
    /// Begins with an empty ledger. `ledger` is its topic.
    #[must_use]
    pub fn new(ledger: &Arc<str>, mut due: Vec<PendingCheck>) -> Self {
        due.sort_by_key(|due| std::cmp::Reverse(due.published.ledger_offset));
        Self {
            ledger: Arc::clone(ledger),
            book: LedgerState::new(),
            due,
            checked: Vec::new(),
            faults: Violations::default(),
            records: 0,
        }
    }

    /// The ledger's record at `offset`.
    pub fn record(&mut self, offset: i64, record: &Record) {
        self.reach(offset);
        self.records += 1;
        let applied: Result<bool, LedgerError> = self.book.apply(record, &mut Vec::new());
        if let Err(error) = applied {
            self.unreadable(offset, &error.to_string());
        }
    }

    /// The record at `offset` cannot be read.
    pub fn unreadable(&mut self, offset: i64, why: &str) {
        let at = Place::new(&self.ledger, 0, offset);
        self.faults.add(ViolationKind::Unreadable, at, || why.to_owned());
    }

    /// Checks the predictors that reflect the ledger up to `offset` or less.
    fn reach(&mut self, offset: i64) {
        while let Some(due) = self.due.pop_if(|due| due.published.ledger_offset <= offset) {
            self.check(&due);
        }
    }

    /// The topic's next offset is `end`: checks what is left.
    #[must_use]
    pub fn finish(mut self, end: i64) -> (Vec<PredictorCheck>, u64, Violations) {
        self.reach(end);
        for due in std::mem::take(&mut self.due) {
            let named = due.published.ledger_offset;
            let ledger = Arc::clone(&self.ledger);
            self.fault(&due, ViolationKind::Hash, None, &|| {
                format!("reflects {ledger} up to offset {named}, and that ends at {end}")
            });
        }
        self.checked.sort_by(|one, other| one.policy.cmp(&other.policy));
        (self.checked, self.records, self.faults)
    }

    fn check(&mut self, due: &PendingCheck) {
        let published = &due.published;
        // A predictor does not carry its learner's seed.
        let seedless = |learner: &LearnerSpec| LearnerSpec { seed: None, ..learner.clone() }.canonical();
        let policy = due.policy.as_ref().filter(|policy| {
            seedless(&policy.learner) == seedless(&published.learner)
                && policy.mapping.canonical() == published.mapping
        });
        let Some(policy) = policy else {
            self.fault(due, ViolationKind::Policy, None, &|| {
                "was made with a learner or mapping that the configuration does not have: verify with the \
                 running learner's"
                    .to_owned()
            });
            return;
        };
        let own = of_its_own_state(published, &policy.learner);
        if own != published.state_hash {
            self.fault(due, ViolationKind::Hash, None, &|| {
                format!(
                    "has the hash {}, and the state that it carries has {}",
                    hex(&published.state_hash),
                    hex(&own)
                )
            });
            return;
        }
        match fold(&self.book, policy) {
            Ok(Some(hash)) if hash == published.state_hash => self.done(due, true, Some(&hash)),
            Ok(hash) => {
                let found = hash.as_ref().map_or_else(|| "no rounds".to_owned(), hex);
                self.fault(due, ViolationKind::Hash, hash.as_ref(), &|| {
                    format!(
                        "has the hash {}, and the ledger up to offset {} folds to {found}",
                        hex(&published.state_hash),
                        published.ledger_offset
                    )
                });
            }
            Err(error) => {
                self.fault(due, ViolationKind::Hash, None, &|| format!("the ledger does not fold: {error}"))
            }
        }
    }

    fn fault(
        &mut self,
        due: &PendingCheck,
        kind: ViolationKind,
        folded: Option<&StateHash>,
        what: &dyn Fn() -> String,
    ) {
        let policy = &due.published.policy;
        self.faults.add(kind, due.at.clone(), || format!("the predictor of policy {policy} {}", what()));
        self.done(due, false, folded);
    }

    fn done(&mut self, due: &PendingCheck, holds: bool, folded: Option<&StateHash>) {
        let published = &due.published;
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

/// The hash of what the ledger holds of a policy; none where no round counts.
fn fold(book: &LedgerState, policy: &Policy) -> Result<Option<StateHash>, crate::core::fold::FoldError> {
    let mut settings = Settings::new(&policy.name, policy.learner.clone(), policy.mapping.clone());
    // It is folded once, from the first round to the last.
    settings.memory = 0;
    settings.tally = false;
    let mut fold = Fold::new(settings);
    fold.all(book);
    fold.catch_up(book)?;
    Ok((fold.progress().rounds > 0).then(|| fold.state_hash(book)))
}

/// The hash of the state that a predictor carries.
fn of_its_own_state(published: &Published, learner: &LearnerSpec) -> StateHash {
    state_hash(&Stated {
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
mod tests {
    use super::*;
    use crate::config::Policies;
    use crate::core::label::{DecisionRef, Finding, Label};
    use crate::core::ledger::{LabelRecord, LabelStatus, RoundId, RoundRecord, RoundVote};

    fn policy() -> Policy {
        Policies::default().get("default").unwrap().clone()
    }

    /// Two records: a round, and its label.
    fn round(number: i64, finding: Finding) -> [Record; 2] {
        let id = RoundId { tenant: "t".into(), policy: "default".into(), event: format!("e{number}") };
        let label = Label::example(&id, number, Some(finding));
        let votes = [("a", 0.9), ("b", 0.2)].map(|(expert, score)| RoundVote {
            expert: expert.into(),
            score: Some(score),
            shadow: false,
        });
        let judged = RoundRecord {
            id,
            subject: None,
            round_time: number,
            decision: DecisionRef { partition: 0, offset: number },
            votes: votes.into(),
            reading: None,
        };
        [
            Record::Round(judged),
            Record::Label(LabelRecord { label, received: number, standing: LabelStatus::Accepted }),
        ]
    }

    fn ledger(rounds: i64) -> Vec<Record> {
        (0..rounds).flat_map(|number| round(number, Finding::Unsafe)).collect()
    }

    /// What the learner publishes after these records.
    fn published(records: &[Record]) -> Published {
        let mut book = LedgerState::new();
        for record in records {
            book.apply(record, &mut Vec::new()).unwrap();
        }
        let policy = policy();
        let mut fold = Fold::new(Settings::new(&policy.name, policy.learner, policy.mapping));
        fold.all(&book);
        fold.catch_up(&book).unwrap();
        fold.published(&book, i64::try_from(records.len()).unwrap()).unwrap()
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
        let (checked, read, faults) = refold.finish(i64::try_from(records.len()).unwrap());
        assert_eq!(read, records.len() as u64);
        (checked, faults)
    }

    #[test]
    fn a_predictor_is_compared_with_the_ledger_that_it_names_and_no_more() {
        let records = ledger(9);
        for length in [2, 7, 18] {
            let published = published(&records[..length]);
            let (checked, faults) = check(published.clone(), Some(policy()), &records);
            assert!(faults.is_empty() && checked[0].holds, "{faults:?}");
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
            let (checked, faults) = check(wrong, Some(policy()), &records);
            assert_eq!((checked[0].holds, faults.count(ViolationKind::Hash)), (false, 1));
            let shown = faults.0[&ViolationKind::Hash].shown[0].to_string();
            assert!(shown.contains(word), "{shown}");
        }
        // Rounds that are no longer in the ledger.
        let (_, faults) = check(Published { ledger_offset: 0, ..right }, Some(policy()), &records);
        assert!(faults.0[&ViolationKind::Hash].shown[0].what.contains("no rounds"));
    }

    #[test]
    fn another_configuration_is_said_to_be_another() {
        let records = ledger(2);
        let mut other = policy();
        other.mapping.needs_caution = 0.0;
        for known in [None, Some(other)] {
            let (checked, faults) = check(published(&records), known, &records);
            assert_eq!((checked[0].holds, faults.count(ViolationKind::Policy)), (false, 1));
        }
    }
}
