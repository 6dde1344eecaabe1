//! The decision about an appeal, as labels.
//!
//! An appeal has an id. A tool may file the user's claim as a label of source `appeal` with this id; it does not teach
//! unless the policy says so. The decision about the appeal is the label `ID/decision`:
//!
//! * **Upheld**: a label of source `review` with the corrected verdict, which `corrects` the newest live label of the other
//!   side. Further live labels of that side are retracted, each by a label `ID/retracts/…`. The corrected verdict teaches,
//!   and the labels that it overturns no longer do, those of any annotator. Without a label to overturn it is the label of a
//!   review.
//! * **Rejected**: a label of source `appeal` that `retracts` the claim. It has no value, so that it teaches nothing under
//!   any policy, and the labels of the event stay as they are.
//!
//! A label of source `appeal` would drop the label that it corrects and teach nothing in its place, since the algebra
//! ([`crate::core::label::live`]) drops corrected labels before it asks which sources teach. That is why an upheld appeal is
//! a review. All ids follow from the appeal: deciding it twice is deciding it once, and a later decision replaces the
//! earlier one.

use std::collections::BTreeMap;

use super::Refusal;
use crate::codec::default_label_id;
use crate::core::event::Millis;
use crate::core::label::{APPEAL_DECISION, DecisionRef, Finding, Label, Mapping, Source, live};
use crate::core::ledger::{LabelRecord, RoundId};

/// The side of a value from which on it is unsafe.
const HALF: f64 = 0.5;

/// The outcome of an appeal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The appeal is right: the verdict about the event is this one.
    Upheld(Finding),
    /// The appeal is wrong: what holds about the event holds further.
    Rejected,
}

/// An appeal that is decided.
#[derive(Debug, Clone)]
pub struct Appeal {
    /// The round that the appeal is about.
    pub round: RoundId,
    /// The id of the appeal, unique within the event.
    pub id: String,
    /// The person who decided.
    pub annotator: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The time of the decision, if not that of the command.
    pub time: Millis,
}

impl Appeal {
    /// The id of the label with the decision.
    fn decision_id(&self) -> String {
        default_label_id(&self.id, Some(APPEAL_DECISION))
    }

    /// The id of the label that retracts another one.
    fn retraction_id(&self, label: &str) -> String {
        default_label_id(&default_label_id(&self.id, Some("retracts")), Some(label))
    }

    /// Returns the labels that express the decision, given all labels of the event. There are none if the ledger has them
    /// already. `decision` is the position of the decision about the event, if it is known.
    ///
    /// # Errors
    /// Returns a [`Refusal`] if the policy learns neither from reviews nor from appeals.
    pub fn labels(
        &self,
        known: &[LabelRecord],
        decision: Option<DecisionRef>,
        mapping: &Mapping,
        quarantined: impl Fn(&str) -> bool,
    ) -> Result<Vec<Label>, Refusal> {
        let known: Vec<&Label> =
            known.iter().filter(|record| record.status.counts()).map(|record| &record.label).collect();
        let (all_own, others): (Vec<&Label>, Vec<&Label>) =
            known.iter().copied().partition(|label| self.is_own(label, &known));
        // Another person's older label with the same id is replaced.
        let mut own: BTreeMap<&str, &Label> = BTreeMap::new();
        for label in all_own {
            let newest = own.entry(&label.id).or_insert(label);
            if label.newer(newest).is_gt() {
                *newest = label;
            }
        }
        let mut labels = match self.outcome {
            Outcome::Rejected => vec![self.rejection(self.decision_id())],
            Outcome::Upheld(verdict) => {
                let live = live(others.iter().copied(), mapping, quarantined);
                self.correction(verdict, &live, mapping)?
            }
        };
        // Other labels of an earlier decision about this appeal are undone: a label with the same id replaces each.
        let ids: Vec<String> = labels.iter().map(|label| label.id.clone()).collect();
        let undone = own.keys().filter(|id| !ids.iter().any(|new| new == *id));
        labels.extend(undone.map(|id| self.rejection((*id).to_owned())));
        for label in &mut labels {
            label.decision = label.decision.or(decision);
        }
        labels.retain(|label| !own.values().any(|known| same(known, label)));
        let newest = own.values().map(|label| label.time).max();
        let time = newest.map_or(self.time, |newest| self.time.max(newest.saturating_add(1)));
        labels.iter_mut().for_each(|label| label.time = time);
        Ok(labels)
    }

    /// Returns `true` for a label of an earlier decision about this appeal: the decision itself, or the retraction of a label
    /// of the event, which may be undone since.
    fn is_own(&self, label: &Label, known: &[&Label]) -> bool {
        label.id == self.decision_id() || known.iter().any(|other| label.id == self.retraction_id(&other.id))
    }

    fn label(&self, id: String) -> Label {
        Label {
            annotator: Some(self.annotator.clone()),
            source: Source::Appeal,
            verdict: None,
            ..Label::new(&self.round, id, Finding::Safe)
        }
    }

    fn rejection(&self, id: String) -> Label {
        Label { retracts: Some(self.id.clone()), ..self.label(id) }
    }

    /// Returns the corrected verdict, and the retractions of further labels of the other side.
    fn correction(
        &self,
        verdict: Finding,
        live: &[(&Label, f64)],
        mapping: &Mapping,
    ) -> Result<Vec<Label>, Refusal> {
        let source =
            [Source::Review, Source::Appeal].into_iter().find(|source| mapping.teaches.contains(source));
        let source = source.ok_or_else(|| {
            let message = "the policy learns neither from reviews nor from appeals, so that an upheld appeal would teach \
                           nothing: add one of them to its teaches";
            Refusal::new("NotTaught", message)
        })?;
        let harmful = mapping.verdict_value(Some(verdict), None).is_some_and(|value| value >= HALF);
        let mut overturned: Vec<&Label> =
            live.iter().filter(|(_, value)| (*value >= HALF) != harmful).map(|(label, _)| *label).collect();
        overturned.sort_by(|one, other| other.newer(one));
        let mut labels = vec![Label { source, verdict: Some(verdict), ..self.label(self.decision_id()) }];
        let mut rest = overturned.into_iter();
        if let (Some(first), Some(label)) = (rest.next(), labels.first_mut()) {
            label.corrects = Some(first.id.clone());
            label.inclusion_probability = first.inclusion_probability;
            label.decision = first.decision;
        }
        labels.extend(rest.map(|other| Label {
            retracts: Some(other.id.clone()),
            decision: other.decision,
            ..self.label(self.retraction_id(&other.id))
        }));
        Ok(labels)
    }
}

/// Returns `true` if two labels say the same, whatever their times.
fn same(known: &Label, new: &Label) -> bool {
    Label { time: known.time, ..new.clone() } == *known
}

#[cfg(test)]
mod tests;
