//! The courses of learners over the rounds, at some hundred places.

use crate::core::fold::{Fold, FoldError, FoldStep};
use crate::core::learners::{Learner, LearnerSpec, Mass, Tally};
use crate::core::ledger_state::LedgerState;

/// Places at which courses are looked at.
const PLACES: usize = 300;
/// Blocks of rounds for errors in passing.
const BLOCKS: usize = 60;

/// One learner's course.
pub(super) struct Course {
    pub(super) spec: LearnerSpec,
    /// Rounds folded at each place.
    pub(super) places: Vec<u64>,
    /// Mistakes so far, at each place.
    pub(super) mistakes: Vec<u64>,
    /// Regret and what is proven of it, at each place.
    pub(super) regret: Vec<(f64, Option<f64>)>,
    /// Masses at each place.
    pub(super) masses: Vec<Vec<Mass>>,
    /// Share of mistakes in each block.
    pub(super) passing: Vec<f64>,
    pub(super) tally: Tally,
    /// The loss in which its regret is measured.
    pub(super) loss: &'static str,
}

/// What the experts did, and plain majority.
pub(super) struct Grounds {
    pub(super) rounds: u64,
    /// Rounds in a block; the last may have fewer.
    pub(super) block: u64,
    /// By expert: mistakes so far at each place, a round slept through counted as one.
    pub(super) alone: Vec<Vec<u64>>,
    /// By expert: mistakes in each block, a round slept through counted as one.
    pub(super) blocks: Vec<Vec<u64>>,
    /// Plain majority's mistakes so far at each place.
    pub(super) majority: Vec<u64>,
}

fn steps(rounds: u64, count: usize) -> u64 {
    rounds.div_ceil(count as u64).max(1)
}

/// Follows one learner.
pub(super) fn course(
    fold: &Fold,
    book: &LedgerState,
    spec: &LearnerSpec,
) -> Result<Option<Course>, FoldError> {
    let rounds = fold.progress().rounds as u64;
    let (step, block) = (steps(rounds, PLACES), steps(rounds, BLOCKS));
    let mut found: Option<Course> = None;
    let mut before = 0;
    fold.walk(book, spec, &mut |round: &FoldStep<'_>, learner: &dyn Learner| {
        let course = found.get_or_insert_with(|| Course {
            spec: spec.clone(),
            places: Vec::new(),
            mistakes: Vec::new(),
            regret: Vec::new(),
            masses: Vec::new(),
            passing: Vec::new(),
            loss: learner.loss_kind().as_str(),
            tally: Tally::new(round.input.votes.len(), learner.loss_kind(), None),
        });
        course.tally.add(round.input.votes, round.weights, round.p, round.target);
        let done = round.at as u64 + 1;
        if done.is_multiple_of(step) || done == rounds {
            course.places.push(done);
            course.mistakes.push(course.tally.mistakes);
            let regret = course.tally.certificate(learner);
            course.regret.push(regret.map_or((0.0, None), |found| (found.regret, found.bound)));
            course.masses.push(learner.masses());
        }
        if done.is_multiple_of(block) || done == rounds {
            let in_block = if done.is_multiple_of(block) { block } else { done % block };
            course.passing.push((course.tally.mistakes - before) as f64 / in_block as f64);
            before = course.tally.mistakes;
        }
    })?;
    Ok(found)
}

/// Follows the experts.
pub(super) fn grounds(fold: &Fold, book: &LedgerState) -> Result<Grounds, FoldError> {
    let rounds = fold.progress().rounds as u64;
    let experts = fold.experts().len();
    let (step, block) = (steps(rounds, PLACES), steps(rounds, BLOCKS));
    let none = || vec![Vec::new(); experts];
    let mut grounds = Grounds { rounds, block, alone: none(), blocks: none(), majority: Vec::new() };
    let mut so_far = vec![0u64; experts];
    let mut at_block = vec![0u64; experts];
    let mut majority = 0u64;
    let spec = LearnerSpec::new(crate::core::learners::Name::Majority);
    fold.walk(book, &spec, &mut |round: &FoldStep<'_>, _: &dyn Learner| {
        let flags = |p: f64| p >= 0.5;
        let unsafe_ = flags(round.target);
        majority += u64::from(flags(round.p) != unsafe_);
        for (mistakes, vote) in so_far.iter_mut().zip(round.input.votes) {
            *mistakes += u64::from(vote.is_nan() || flags(*vote) != unsafe_);
        }
        let done = round.at as u64 + 1;
        if done.is_multiple_of(step) || done == rounds {
            grounds.alone.iter_mut().zip(&so_far).for_each(|(course, now)| course.push(*now));
            grounds.majority.push(majority);
        }
        if done.is_multiple_of(block) || done == rounds {
            for ((course, now), then) in grounds.blocks.iter_mut().zip(&so_far).zip(&mut at_block) {
                course.push(now - *then);
                *then = *now;
            }
        }
    })?;
    Ok(grounds)
}

/// The best sequence of experts over blocks with at most `most` shifts: the expert of each block. A
/// shift must save `worth` mistakes, or it is chance.
pub(super) fn best_sequence(blocks: &[Vec<u64>], most: usize, worth: u64) -> Vec<usize> {
    let experts = blocks.len();
    let length = blocks.first().map_or(0, Vec::len);
    let cost =
        |expert: usize, block: usize| blocks.get(expert).and_then(|of| of.get(block)).copied().unwrap_or(0);
    // best[m][i]: (mistakes, the sequence so far).
    let mut best: Vec<Vec<(u64, Vec<usize>)>> = vec![vec![(0, Vec::new()); experts]; most + 1];
    for block in 0..length {
        let mut next = best.clone();
        for (m, row) in next.iter_mut().enumerate() {
            let fewer = m
                .checked_sub(1)
                .and_then(|m| best.get(m))
                .and_then(|row| row.iter().min_by_key(|found| found.0));
            for (expert, slot) in row.iter_mut().enumerate() {
                if let Some(fewer) = fewer
                    && block > 0
                    && fewer.0 < slot.0
                {
                    slot.clone_from(fewer);
                }
                slot.0 += cost(expert, block);
                slot.1.push(expert);
            }
        }
        best = next;
    }
    let by_shifts = best.iter().filter_map(|row| row.iter().min_by_key(|found| found.0));
    let found = by_shifts.enumerate().min_by_key(|(shifts, found)| found.0 + *shifts as u64 * worth);
    found.map(|(_, found)| found.1.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_of_who_is_right_is_found() {
        let blocks = vec![vec![0, 0, 0, 9, 9, 9], vec![9, 9, 9, 0, 0, 0], vec![4; 6]];
        assert_eq!(best_sequence(&blocks, 0, 1), [2; 6]);
        assert_eq!(best_sequence(&blocks, 1, 1), [0, 0, 0, 1, 1, 1]);
        assert_eq!(best_sequence(&blocks, 4, 0), [0, 0, 0, 1, 1, 1]);
        assert_eq!(best_sequence(&blocks, 4, 100), [2; 6]);
        assert_eq!(best_sequence(&[], 2, 1), [0usize; 0]);
    }
}
