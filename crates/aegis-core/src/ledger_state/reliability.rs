//! The agreement of annotators with each other. It is reported, and does not affect the learner.

use std::collections::BTreeMap;

use super::{Edits, Rounds};
use crate::label::{Mapping, Source, live};

/// The agreement of one annotator with others. Two labels agree if both are unsafe (.5 or more) or both safe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reliability {
    /// The rounds with a live label of this annotator.
    pub labels: u64,
    /// The pairs of a label of this annotator and a label of another on the same round.
    pub compared: u64,
    /// The pairs of these that agree.
    pub agreed: u64,
    /// The pairs of a label of this annotator that is not gold and a gold label on the same round.
    pub gold: u64,
    /// The pairs of these that agree.
    pub gold_agreed: u64,
}

impl Rounds {
    /// Returns `true` if any label names its annotator.
    #[must_use]
    pub fn names_annotators(&self) -> bool {
        !self.annotators.is_empty()
    }

    /// The agreement of each annotator, by name. Labels without an annotator count under the empty name.
    #[must_use]
    pub fn reliability(&self, mapping: &Mapping, edits: &Edits) -> BTreeMap<String, Reliability> {
        let mut found: BTreeMap<String, Reliability> = BTreeMap::new();
        for row in self.rows().filter(|row| !self.stored(*row).is_empty()) {
            let labels = self.accepted(row);
            let tenant = self.tenant(row);
            let live = live(&labels, mapping, |annotator| edits.quarantines(tenant, annotator));
            let verdicts: Vec<(bool, bool)> =
                live.iter().map(|(label, value)| (*value >= 0.5, label.source == Source::Gold)).collect();
            let count =
                |of: fn(&(bool, bool)) -> bool| verdicts.iter().filter(|verdict| of(verdict)).count() as u64;
            let (all, all_unsafe) = (verdicts.len() as u64, count(|verdict| verdict.0));
            let (gold, gold_unsafe) = (count(|verdict| verdict.1), count(|verdict| verdict.0 && verdict.1));
            for ((label, _), (is_unsafe, is_gold)) in live.iter().zip(&verdicts) {
                let mine = found.entry(label.annotator.clone().unwrap_or_default()).or_default();
                let same = if *is_unsafe { all_unsafe } else { all - all_unsafe };
                mine.labels += 1;
                mine.compared += all - 1;
                mine.agreed += same - 1;
                if !is_gold {
                    mine.gold += gold;
                    mine.gold_agreed += if *is_unsafe { gold_unsafe } else { gold - gold_unsafe };
                }
            }
        }
        found
    }
}
