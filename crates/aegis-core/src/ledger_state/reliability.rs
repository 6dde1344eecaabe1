//! How far an annotator can be trusted: shown to people, weighing nothing.

use std::collections::BTreeMap;

use super::{Edits, Rounds};
use crate::label::{Mapping, Source, live};

/// One annotator's agreement with others. Two labels agree when both say unsafe (.5 or more) or both safe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reliability {
    /// Rounds with a live label of theirs.
    pub labels: u64,
    /// Pairs of a label of theirs and another annotator's on the same round.
    pub compared: u64,
    /// Of these, pairs that agree.
    pub agreed: u64,
    /// Pairs of a label of theirs that is no gold label and a gold label on the same round.
    pub gold: u64,
    /// Of these, pairs that agree.
    pub gold_agreed: u64,
}

impl Rounds {
    /// Whether any label names its annotator.
    #[must_use]
    pub fn names_annotators(&self) -> bool {
        !self.annotators.is_empty()
    }

    /// Each annotator's agreement, by name; labels without an annotator count as the nameless one's.
    #[must_use]
    pub fn reliability(&self, mapping: &Mapping, edits: &Edits) -> BTreeMap<String, Reliability> {
        let mut found: BTreeMap<String, Reliability> = BTreeMap::new();
        for row in self.rows().filter(|row| !self.stored(*row).is_empty()) {
            let labels = self.accepted(row);
            let tenant = self.tenant(row);
            let live = live(&labels, mapping, |annotator| edits.quarantines(tenant, annotator));
            let says: Vec<(bool, bool)> =
                live.iter().map(|(label, value)| (*value >= 0.5, label.source == Source::Gold)).collect();
            let count =
                |of: &dyn Fn(&(bool, bool)) -> bool| says.iter().filter(|said| of(said)).count() as u64;
            let (all, all_unsafe) = (says.len() as u64, count(&|said| said.0));
            let (gold, gold_unsafe) = (count(&|said| said.1), count(&|said| said.0 && said.1));
            for ((label, _), (flags, is_gold)) in live.iter().zip(&says) {
                let name = label.annotator.as_deref().unwrap_or("");
                if !found.contains_key(name) {
                    found.insert(name.to_owned(), Reliability::default());
                }
                let Some(mine) = found.get_mut(name) else {
                    continue;
                };
                let same = if *flags { all_unsafe } else { all - all_unsafe };
                mine.labels += 1;
                mine.compared += all - 1;
                mine.agreed += same - 1;
                if !is_gold {
                    mine.gold += gold;
                    mine.gold_agreed += if *flags { gold_unsafe } else { gold - gold_unsafe };
                }
            }
        }
        found
    }
}
