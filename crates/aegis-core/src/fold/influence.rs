//! The cap on the share of the labels that one annotator may hold.
//!
//! Rounds are visited in the order of the fold. A label of an annotator counts if the labels of this annotator that counted
//! so far are fewer than [`START`] + s/(1-s) times the labels of all others so far, where s is the cap, whether the labels
//! of the others teach or not. The bound is one on each name alone: two names that label much lift each other's limit. The
//! labels above it do not teach: a weight would change with every later label, so that each label would fold the whole
//! ledger again. Which labels count depends on the order of rounds and not on the order of arrival.
//!
//! Gold labels always count. Labels without an annotator are those of one nameless annotator.

use crate::label::{Mapping, Source};
use crate::ledger_state::{Edits, Rounds, Row};

/// The labels that each annotator may give before there are labels of others.
pub const START: u32 = 10;

/// The labels so far by annotator.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Influence {
    /// The factor of the labels of others: s/(1-s).
    factor: f64,
    /// The number of labels so far, gold labels included.
    total: f64,
    /// The labels of each annotator, by number: all of them, and those that counted.
    annotators: Vec<(f64, f64)>,
    /// Scratch space: the live labels of one round.
    live: Vec<LiveLabel>,
}

/// A live label of a round.
#[derive(Debug, Clone, PartialEq)]
struct LiveLabel {
    /// The annotator's number; `None` for a gold label.
    annotator: Option<usize>,
    value: f64,
    counts: bool,
}

impl Influence {
    /// The start of a fold; `None` if the mapping has no cap.
    pub(super) fn new(mapping: &Mapping) -> Option<Self> {
        let share = mapping.max_annotator_share;
        mapping.caps().then(|| Self { factor: share / (1.0 - share), ..Self::default() })
    }

    /// Counts the labels of a round, and returns the mean of those that teach. `None` if none does.
    pub(super) fn target(
        &mut self,
        rounds: &Rounds,
        row: Row,
        mapping: &Mapping,
        edits: &Edits,
    ) -> Option<f64> {
        let mut live = std::mem::take(&mut self.live);
        live.clear();
        rounds.for_each_live(row, mapping, edits, |annotator, source, value| {
            let annotator = (source != Source::Gold).then_some(annotator);
            // Every label of a round is compared with the counts before the round.
            live.push(LiveLabel { annotator, value, counts: self.counts(annotator) });
        });
        let (mut sum, mut teaching) = (0.0, 0u32);
        for label in &live {
            self.add(label);
            if label.counts {
                sum += label.value;
                teaching += 1;
            }
        }
        self.live = live;
        (teaching > 0).then(|| sum / f64::from(teaching))
    }

    fn counts(&self, annotator: Option<usize>) -> bool {
        let Some(annotator) = annotator else { return true };
        let (all, counted) = self.annotators.get(annotator).copied().unwrap_or_default();
        counted < f64::from(START) + self.factor * (self.total - all)
    }

    fn add(&mut self, label: &LiveLabel) {
        self.total += 1.0;
        let Some(annotator) = label.annotator else { return };
        if self.annotators.len() <= annotator {
            self.annotators.resize(annotator + 1, (0.0, 0.0));
        }
        let (all, counted) = &mut self.annotators[annotator];
        *all += 1.0;
        *counted += f64::from(u8::from(label.counts));
    }

    /// Appends the counts, then their number.
    pub(super) fn save(&self, out: &mut Vec<f64>) {
        out.push(self.total);
        out.extend(self.annotators.iter().flat_map(|(all, counted)| [*all, *counted]));
        out.push(self.annotators.len() as f64);
    }

    /// Replaces the counts by those at the end of a state that [`save`](Self::save) appended to. Returns the state before
    /// them.
    ///
    /// # Panics
    /// Panics if the state does not end with counts.
    pub(super) fn load<'a>(&mut self, state: &'a [f64]) -> &'a [f64] {
        let (annotators, rest) = state.split_last().expect("counts were saved");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was the length of a list"
        )]
        let (rest, counts) = rest.split_at(rest.len() - 2 * *annotators as usize);
        let (total, rest) = rest.split_last().expect("counts were saved");
        self.total = *total;
        self.annotators = counts.as_chunks::<2>().0.iter().map(|[all, counted]| (*all, *counted)).collect();
        rest
    }
}
