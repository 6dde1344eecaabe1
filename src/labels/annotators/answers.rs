//! The answers of reviewers about one event.

use std::collections::{BTreeMap, BTreeSet};

use super::{is_answer, side};
use crate::core::label::{Label, Mapping};

/// The answers about one event: `true` for unsafe, by annotator.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers(BTreeMap<Option<String>, bool>);

impl Answers {
    /// Returns the newest answer of each annotator that the annotator has not taken back.
    pub(super) fn of<'a>(labels: impl Iterator<Item = &'a Label> + Clone, mapping: &Mapping) -> Self {
        let mut taken_back: BTreeSet<(Option<&str>, &str)> = BTreeSet::new();
        for label in labels.clone() {
            let replaced = [label.corrects.as_deref(), label.retracts.as_deref()].into_iter().flatten();
            taken_back.extend(replaced.map(|id| (label.annotator.as_deref(), id)));
        }
        let mut newest: BTreeMap<Option<&str>, (&Label, bool)> = BTreeMap::new();
        for label in labels.filter(|label| is_answer(label.source)) {
            let annotator = label.annotator.as_deref();
            let Some(side) = side(label, mapping) else { continue };
            if taken_back.contains(&(annotator, label.id.as_str())) {
                continue;
            }
            let best = newest.entry(annotator).or_insert((label, side));
            if label.newer(best.0).is_gt() {
                *best = (label, side);
            }
        }
        Self(newest.into_iter().map(|(annotator, (_, side))| (annotator.map(str::to_owned), side)).collect())
    }

    /// The answers in the order of the annotators' names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&str>, bool)> {
        self.0.iter().map(|(annotator, side)| (annotator.as_deref(), *side))
    }
}
