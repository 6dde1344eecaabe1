//! The experts and the encoder of a learner, as a function of the rounds that count.

use crate::features::EncoderId;
use crate::ledger_state::{Panel, Rounds, Score};

/// The index of an expert that is not in the roster, because its panel is not in use.
const NOT_IN_ROSTER: u32 = u32::MAX;
/// The encoder number of a round without features.
pub(super) const NO_ENCODER: u32 = u32::MAX;

/// Counts the panels and encoders of the rounds that count, and derives the experts.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// The number of rounds that count, by panel.
    by_panel: Vec<u64>,
    /// The number of rounds that count and have features, by encoder.
    by_encoder: Vec<u64>,
    experts: Vec<String>,
    /// By panel, the index of each of its experts in `experts`.
    places: Vec<Vec<u32>>,
    /// `true` if a panel came into use or went out of use since the last [`refresh`](Self::refresh).
    stale: bool,
}

impl Roster {
    pub(super) fn add(&mut self, panel: Panel, encoder: u32) {
        self.stale |= bump(&mut self.by_panel, panel.number(), true);
        if encoder != NO_ENCODER {
            bump(&mut self.by_encoder, encoder as usize, true);
        }
    }

    pub(super) fn remove(&mut self, panel: Panel, encoder: u32) {
        self.stale |= bump(&mut self.by_panel, panel.number(), false);
        if encoder != NO_ENCODER {
            bump(&mut self.by_encoder, encoder as usize, false);
        }
    }

    /// The ids of the experts, in the order of their UTF-8 bytes.
    pub(super) fn experts(&self) -> &[String] {
        &self.experts
    }

    /// Updates the experts. Returns `true` if they changed.
    pub(super) fn refresh(&mut self, rounds: &Rounds) -> bool {
        if !std::mem::take(&mut self.stale) {
            return false;
        }
        let used = || rounds.panels().iter().zip(&self.by_panel).filter(|(_, count)| **count > 0);
        let mut experts: Vec<String> = used().flat_map(|(names, _)| names).cloned().collect();
        experts.sort_unstable();
        experts.dedup();
        let changed = experts != self.experts;
        self.experts = experts;
        #[expect(clippy::cast_possible_truncation, reason = "experts are numbered in 32 bits")]
        let place = |name: &String| self.experts.binary_search(name).map_or(NOT_IN_ROSTER, |at| at as u32);
        self.places = rounds.panels().iter().map(|names| names.iter().map(place).collect()).collect();
        changed
    }

    /// The encoder of most rounds; of several encoders, the one with the least id.
    pub(super) fn encoder(&self, rounds: &Rounds) -> Option<EncoderId> {
        let carried = rounds.encoders().iter().zip(&self.by_encoder).filter(|(_, count)| **count > 0);
        carried
            .max_by(|(a, rounds_a), (b, rounds_b)| rounds_a.cmp(rounds_b).then(b.cmp(a)))
            .map(|(id, _)| *id)
    }

    /// Writes the votes of a panel to `out` in the order of the experts, NaN for sleepers. Votes of experts that are not
    /// in the roster are left out: a round may have got its panel since the last [`refresh`](Self::refresh).
    #[inline]
    pub(super) fn arrange(&self, panel: Panel, scores: &[Score], out: &mut [f64]) {
        let places = self.places.get(panel.number()).map_or(&[][..], Vec::as_slice);
        if places.len() < out.len() || places.contains(&NOT_IN_ROSTER) {
            out.fill(f64::NAN);
        }
        for (place, score) in places.iter().zip(scores) {
            if let Some(vote) = out.get_mut(*place as usize) {
                *vote = score.awake();
            }
        }
    }
}

/// Increments or decrements a count. Returns `true` if it left zero or became zero.
fn bump(counts: &mut Vec<u64>, at: usize, more: bool) -> bool {
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    let count = &mut counts[at];
    if more {
        *count += 1;
        *count == 1
    } else {
        *count -= 1;
        *count == 0
    }
}
