//! Checkpoints: saved states, so that a late label does not require folding all rounds again.
//!
//! Checkpoints are denser near the end. A round at distance d from the end has a checkpoint at most
//! `max(base, d/2^shift)` rounds before it, so a label k rounds late costs at most
//! `k + max(base, k/2^shift)` steps. With base 128 and shift 5, the finest, a label 100,000 rounds late
//! costs at most 103,125 steps, and ten million rounds keep about 300 checkpoints. If these exceed the
//! given memory, the shift is decremented, then the base doubled, until they fit.

use crate::learners::Tally;

const BASE: usize = 128;
const SHIFT: u32 = 5;
/// The number of checkpoints that are kept whatever the memory. With fewer, a late label would fold almost all
/// rounds again.
const MIN_CHECKPOINTS: usize = 8;

/// A saved state.
#[derive(Debug)]
struct Checkpoint {
    /// The number of rounds folded into it.
    at: usize,
    state: Vec<f64>,
    tally: Option<Tally>,
}

/// The saved states, oldest first. The first is the one before any round.
#[derive(Debug)]
pub(super) struct Checkpoints {
    saved: Vec<Checkpoint>,
    /// Dropped checkpoints, whose memory is used again.
    free: Vec<Checkpoint>,
    /// The memory for states, in bytes.
    memory: usize,
    base: usize,
    shift: u32,
    /// The number of checkpoints above which they are thinned out.
    limit: usize,
}

impl Checkpoints {
    /// No checkpoints, with `memory` bytes for states.
    pub(super) fn new(memory: usize) -> Self {
        Self { saved: Vec::new(), free: Vec::new(), memory, base: BASE, shift: SHIFT, limit: 64 }
    }

    /// Drops all checkpoints, for a learner of another shape.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.memory);
    }

    /// The number of checkpoints, and the size of their states in bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let numbers: usize = self.saved.iter().map(|checkpoint| checkpoint.state.capacity()).sum();
        (self.saved.len(), numbers * size_of::<f64>())
    }

    /// The greatest number of rounds between a checkpoint at this distance from the end and the one before it.
    fn gap(&self, distance: usize) -> usize {
        self.base.max(distance >> self.shift)
    }

    /// The number of folded rounds at which the next checkpoint is due, if `end` rounds will be folded.
    pub(super) fn next(&self, end: usize) -> usize {
        let last = self.saved.last().map_or(0, |checkpoint| checkpoint.at);
        last + self.gap(end.saturating_sub(last))
    }

    /// Returns the newest checkpoint at or before `at`, and drops all after it.
    ///
    /// # Panics
    /// Panics if no checkpoint was saved.
    pub(super) fn rewind(&mut self, at: usize) -> (usize, &[f64], Option<&Tally>) {
        while self.saved.len() > 1 && self.saved.last().is_some_and(|last| last.at > at) {
            self.free.extend(self.saved.pop());
        }
        let last = self.saved.last().expect("the state before any round is saved");
        (last.at, &last.state, last.tally.as_ref())
    }

    /// Saves a state after `at` of `end` rounds, and thins the checkpoints out if there are too many.
    pub(super) fn save(
        &mut self,
        at: usize,
        end: usize,
        tally: Option<&Tally>,
        write: impl FnOnce(&mut Vec<f64>),
    ) {
        let mut new = self.free.pop().unwrap_or(Checkpoint { at, state: Vec::new(), tally: None });
        new.at = at;
        new.state.clear();
        new.state.reserve_exact(self.saved.last().map_or(0, |last| last.state.len()));
        write(&mut new.state);
        match (&mut new.tally, tally) {
            (Some(old), Some(tally)) => old.clone_from(tally),
            (slot, tally) => *slot = tally.cloned(),
        }
        let bytes = size_of::<Checkpoint>() + new.state.len() * size_of::<f64>();
        self.saved.push(new);
        let room = (self.memory / bytes).max(MIN_CHECKPOINTS);
        if self.saved.len() <= self.limit.min(room) {
            return;
        }
        loop {
            self.thin(end);
            // With a quarter of the room free, the next thinning is not due soon.
            if self.saved.len() * 4 <= room * 3 || self.base > end {
                break;
            }
            if self.shift > 0 {
                self.shift -= 1;
            } else {
                self.base *= 2;
            }
        }
        self.limit = self.saved.len() * 2 + 16;
        self.free.truncate(room.saturating_sub(self.saved.len()).min(64));
    }

    /// Drops the checkpoints that lie denser than [`gap`](Self::gap) requires.
    fn thin(&mut self, end: usize) {
        let mut kept: Vec<Checkpoint> = Vec::with_capacity(self.saved.len());
        let mut saved = std::mem::take(&mut self.saved).into_iter().peekable();
        while let Some(checkpoint) = saved.next() {
            let spare = match (kept.last(), saved.peek()) {
                (Some(before), Some(after)) => after.at - before.at <= self.gap(end.saturating_sub(after.at)),
                _ => false,
            };
            if spare {
                self.free.push(checkpoint);
            } else {
                kept.push(checkpoint);
            }
        }
        self.saved = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(rounds: usize, memory: usize) -> Checkpoints {
        let mut kept = Checkpoints::new(memory);
        kept.save(0, 0, None, |state| state.extend([0.0; 100]));
        for at in 1..=rounds {
            if at >= kept.next(at) {
                kept.save(at, at, None, |state| state.extend([at as f64; 100]));
            }
        }
        kept
    }

    fn overhead(kept: &Checkpoints, rounds: usize, late: usize) -> usize {
        let at = rounds - late;
        at - kept.saved.iter().map(|checkpoint| checkpoint.at).filter(|found| *found <= at).max().unwrap()
    }

    #[test]
    fn a_late_label_finds_a_checkpoint_near() {
        let rounds = 1_000_000;
        let kept = appended(rounds, 64 << 20);
        for late in (1..rounds).step_by(997) {
            let steps = overhead(&kept, rounds, late);
            assert!(steps <= BASE.max(late >> SHIFT), "{steps} more for {late}");
        }
        assert!(kept.saved.len() < 600, "{}", kept.saved.len());
    }

    #[test]
    fn a_pass_over_known_rounds_saves_few() {
        let mut kept = Checkpoints::new(64 << 20);
        kept.save(0, 0, None, |state| state.push(0.0));
        let end = 10_000_000;
        while kept.next(end) <= end {
            let at = kept.next(end);
            kept.save(at, end, None, |state| state.push(0.0));
        }
        assert!(kept.saved.len() < 400, "{}", kept.saved.len());
    }

    #[test]
    fn memory_is_bounded() {
        for memory in [0, 20_000, 100_000] {
            let kept = appended(300_000, memory);
            let (count, bytes) = kept.size();
            assert!(bytes <= memory.max(MIN_CHECKPOINTS * 800), "{bytes} of {memory}");
            assert!(count >= 4);
            assert!(overhead(&kept, 300_000, 150_000) <= 160_000);
        }
    }

    #[test]
    fn rewinding_keeps_what_is_before() {
        let mut kept = appended(1_000, 64 << 20);
        let (at, state, _) = kept.rewind(700);
        assert_eq!((at, state.first()), (640, Some(&640.0)));
        assert_eq!(kept.rewind(0).0, 0);
        assert_eq!(kept.next(0), 128);
    }
}
