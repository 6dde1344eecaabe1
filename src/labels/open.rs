//! The review requests that are open: those whose event has no answer in the ledger.
//!
//! Events and labels are kept as 64-bit hashes with a key of this process, so that a million of them take a few dozen
//! megabytes. Two of ten million events have the same hash with a probability of three in a million.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use crate::core::label::{Label, Source};
use crate::core::ledger::{Record, RoundId};

/// The labels of a ledger while it is read.
#[derive(Default)]
pub struct Answered {
    hasher: RandomState,
    /// The round of each label.
    labels: HashMap<u64, u64>,
    /// The labels that were retracted.
    retracted: HashSet<u64>,
}

/// The events that need no further review, and those that were passed on already.
pub struct Open {
    hasher: RandomState,
    done: HashSet<u64>,
}

impl Answered {
    /// Adds a record of the ledger. A report of a user is no answer to a request.
    pub fn add(&mut self, record: &Record) {
        let Record::Label(record) = record else { return };
        let label = &record.label;
        let round = hash(&self.hasher, &label.round());
        let of = |id: &str| self.hasher.hash_one((round, id));
        if let Some(id) = &label.retracts {
            self.retracted.insert(of(id));
        } else if is_answer(label) && record.status.counts() {
            self.labels.insert(of(&label.id), round);
        }
    }

    /// Returns the events without an answer.
    #[must_use]
    pub fn open(self) -> Open {
        let kept = self.labels.into_iter().filter(|(label, _)| !self.retracted.contains(label));
        Open { done: kept.map(|(_, round)| round).collect(), hasher: self.hasher }
    }
}

impl Open {
    /// Returns `true` if the event has no answer and was not passed on before. It counts as passed on then.
    pub fn take(&mut self, round: &RoundId) -> bool {
        self.done.insert(hash(&self.hasher, round))
    }
}

fn hash(hasher: &RandomState, round: &RoundId) -> u64 {
    hasher.hash_one((&round.tenant, &round.policy, &round.event))
}

fn is_answer(label: &Label) -> bool {
    match label.source {
        Source::Review | Source::Gold | Source::Calibration => true,
        Source::Report | Source::Appeal => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::label::Finding;
    use crate::core::ledger::{LabelRecord, LabelStatus};

    fn round(event: &str) -> RoundId {
        RoundId { tenant: "t".into(), policy: "p".into(), event: event.into() }
    }

    #[test]
    fn an_event_is_open_until_it_has_an_answer_that_stands() {
        let mut answered = Answered::default();
        let mut add = |label: Label, status| {
            answered.add(&Record::Label(LabelRecord { label, received: 0, status }));
        };
        let label = |event: &str, id: &str| Label::new(&round(event), id, Finding::Safe);
        add(label("answered", "a"), LabelStatus::Accepted);
        add(label("waits", "a"), LabelStatus::Waiting);
        add(label("late", "a"), LabelStatus::TooLate);
        add(Label { source: Source::Report, ..label("reported", "a") }, LabelStatus::Accepted);
        add(Label { retracts: Some("a".into()), ..label("retracted", "b") }, LabelStatus::Accepted);
        add(label("retracted", "a"), LabelStatus::Accepted);
        let mut open = answered.open();
        let taken = |event: &str, open: &mut Open| open.take(&round(event));
        for (event, is_open) in [
            ("answered", false),
            ("waits", false),
            ("late", true),
            ("reported", true),
            ("retracted", true),
            ("new", true),
        ] {
            assert_eq!(taken(event, &mut open), is_open, "{event}");
            // An event that was decided twice has one request.
            assert!(!taken(event, &mut open), "{event}");
        }
        assert!(open.take(&RoundId { tenant: "other".into(), ..round("answered") }));
    }
}
