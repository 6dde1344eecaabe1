//! Who and what the learner is over, as a function of the rounds that count: experts and encoder.

use crate::features::EncoderId;
use crate::ledger_state::{Panel, Rounds, Score};

/// Stands for an expert that is not in the roster.
const NOWHERE: u32 = u32::MAX;
/// Stands for a round without features.
pub(super) const NO_ENCODER: u32 = u32::MAX;

/// Counts what the rounds that count carry, and says who the experts are.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Rounds that count, by panel.
    by_panel: Vec<u64>,
    /// Rounds that count and carry features, by encoder.
    by_encoder: Vec<u64>,
    experts: Vec<String>,
    /// By panel: the place of each of its experts in `experts`.
    places: Vec<Vec<u32>>,
    /// A panel came into use or fell out of it.
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

    /// The experts, by the UTF-8 bytes of their ids.
    pub(super) fn experts(&self) -> &[String] {
        &self.experts
    }

    /// Whether the experts are others now.
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
        let place = |name: &String| {
            let found = self.experts.binary_search(name).ok();
            found.and_then(|at| u32::try_from(at).ok()).unwrap_or(NOWHERE)
        };
        self.places = rounds.panels().iter().map(|names| names.iter().map(place).collect()).collect();
        changed
    }

    /// The encoder that most rounds carry; of several the one with the least id.
    pub(super) fn encoder(&self, rounds: &Rounds) -> Option<EncoderId> {
        let carried = rounds.encoders().iter().zip(&self.by_encoder).filter(|(_, count)| **count > 0);
        carried
            .max_by(|(a, rounds_a), (b, rounds_b)| rounds_a.cmp(rounds_b).then(b.cmp(a)))
            .map(|(id, _)| *id)
    }

    /// The round's votes in the experts' order; NaN: asleep.
    #[inline]
    pub(super) fn seat(&self, panel: Panel, scores: &[Score], out: &mut [f64]) {
        let places = self.places.get(panel.number()).map_or(&[][..], Vec::as_slice);
        if places.len() < out.len() {
            out.fill(f64::NAN);
        }
        for (place, score) in places.iter().zip(scores) {
            if let Some(slot) = out.get_mut(*place as usize) {
                *slot = score.awake();
            }
        }
    }
}

/// Counts one more or one less; whether the count left zero or came to it.
fn bump(counts: &mut Vec<u64>, at: usize, more: bool) -> bool {
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    let Some(count) = counts.get_mut(at) else {
        return false;
    };
    if more {
        *count += 1;
        *count == 1
    } else {
        *count -= 1;
        *count == 0
    }
}
