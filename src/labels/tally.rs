//! The counts of an import. Their memory is bounded, however many labels and annotators a file has.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;

use serde::Serialize;

use crate::core::label::Label;

/// The number of annotators that are counted by name.
const MAX_ANNOTATORS: usize = 10_000;
/// The number of labels among which repeated ids are noticed, which takes at most 64 MiB.
const MAX_IDS: usize = 4_000_000;

/// The counts of an import.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// The rows of all files.
    pub rows: u64,
    /// The labels in them.
    pub labels: u64,
    /// The labels that the brokers have acknowledged.
    pub sent: u64,
    /// The annotations that were cancelled, skipped, discarded or not submitted.
    pub left_out: u64,
    /// The rows and annotations that are refused.
    pub refused: u64,
    /// The labels whose event and id an earlier one has. The newest of them counts.
    pub repeated: u64,
    /// The labels by verdict, or `severity` or `retraction` without one.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// The labels by source.
    pub sources: BTreeMap<&'static str, u64>,
    /// The labels by annotator; the empty name is that of labels without one.
    pub annotators: BTreeMap<String, u64>,
    /// The labels of further annotators, if there are more than can be counted by name.
    pub further_annotators: u64,
    /// The refusals by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    ids: HashSet<u64>,
    #[serde(skip)]
    hasher: RandomState,
}

impl Tally {
    /// Counts a label.
    pub fn label(&mut self, label: &Label) {
        self.labels += 1;
        let verdict = match (label.verdict, &label.retracts) {
            (_, Some(_)) => "retraction",
            (Some(verdict), None) => verdict.word(),
            (None, None) => "severity",
        };
        *self.verdicts.entry(verdict).or_default() += 1;
        *self.sources.entry(label.source.word()).or_default() += 1;
        let annotator = label.annotator.as_deref().unwrap_or_default();
        let is_room = self.annotators.len() < MAX_ANNOTATORS;
        match self.annotators.get_mut(annotator) {
            Some(count) => *count += 1,
            None if is_room => {
                self.annotators.insert(annotator.to_owned(), 1);
            }
            None => self.further_annotators += 1,
        }
        let id = self.hasher.hash_one((&label.tenant, &label.policy, &label.event, &label.id));
        if self.ids.contains(&id) {
            self.repeated += 1;
        } else if self.ids.len() < MAX_IDS {
            self.ids.insert(id);
        }
    }

    /// Counts a refusal.
    pub fn refusal(&mut self, name: &'static str) {
        self.refused += 1;
        *self.reasons.entry(name).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::label::Finding;
    use crate::core::ledger::RoundId;

    #[test]
    fn labels_are_counted_and_repeated_ids_noticed() {
        let round = |event: &str| RoundId { tenant: "t".into(), policy: "p".into(), event: event.into() };
        let mut tally = Tally::default();
        tally.label(&Label::new(&round("e1"), "a", Finding::Safe));
        tally.label(&Label {
            annotator: Some("ann".into()),
            ..Label::new(&round("e1"), "a", Finding::Unsafe)
        });
        // The same id of another event is another label.
        let severity =
            Label { verdict: None, severity: Some(0.5), ..Label::new(&round("e2"), "a", Finding::Safe) };
        tally.label(&severity);
        assert_eq!((tally.labels, tally.repeated), (3, 1));
        assert_eq!(tally.verdicts, BTreeMap::from([("safe", 1), ("unsafe", 1), ("severity", 1)]));
        assert_eq!(tally.annotators, BTreeMap::from([(String::new(), 2), ("ann".to_owned(), 1)]));
    }

    #[test]
    fn annotators_without_end_are_not_all_kept() {
        let round = RoundId { tenant: "t".into(), policy: "p".into(), event: "e".into() };
        let mut tally = Tally::default();
        for number in 0..MAX_ANNOTATORS + 5 {
            let label = Label::new(&round, "a", Finding::Safe);
            tally.label(&Label { annotator: Some(number.to_string()), ..label });
        }
        assert_eq!((tally.annotators.len(), tally.further_annotators), (MAX_ANNOTATORS, 5));
    }
}
