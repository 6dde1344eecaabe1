//! The courses of learners and experts over the rounds, sampled at some hundred points.

use crate::core::fold::{Fold, FoldError, FoldStep};
use crate::core::learners::{Learner, LearnerSpec, Mass, Name, Tally};
use crate::core::ledger_state::LedgerState;

/// Number of points at which courses are sampled.
const SAMPLES: usize = 300;
/// Number of blocks of rounds over which errors are averaged.
const BLOCKS: usize = 60;

/// One learner's course.
pub(super) struct Course {
    pub(super) spec: LearnerSpec,
    /// Rounds folded at each sample.
    pub(super) rounds: Vec<u64>,
    /// Mistakes so far at each sample.
    pub(super) mistakes: Vec<u64>,
    /// The regret and its proven bound at each sample.
    pub(super) regret: Vec<(f64, Option<f64>)>,
    /// The members' masses at each sample.
    pub(super) masses: Vec<Vec<Mass>>,
    /// The share of mistakes in each block.
    pub(super) block_errors: Vec<f64>,
    pub(super) tally: Tally,
    /// The loss in which the regret is measured.
    pub(super) loss: &'static str,
}

/// The courses of the experts alone and of plain majority.
pub(super) struct Baselines {
    pub(super) rounds: u64,
    /// Rounds in a block; the last block may have fewer.
    pub(super) block: u64,
    /// By expert, its mistakes so far at each sample. A round without its vote counts as one.
    pub(super) experts: Vec<Vec<u64>>,
    /// By expert, its mistakes in each block. A round without its vote counts as one.
    pub(super) expert_blocks: Vec<Vec<u64>>,
    /// Plain majority's mistakes so far at each sample.
    pub(super) majority: Vec<u64>,
}

/// The rounds at which samples are taken and blocks end.
#[derive(Clone, Copy)]
struct Sampling {
    rounds: u64,
    sample: u64,
    block: u64,
}

impl Sampling {
    fn new(fold: &Fold) -> Self {
        let rounds = fold.progress().rounds as u64;
        let every = |count: usize| rounds.div_ceil(count as u64).max(1);
        Self { rounds, sample: every(SAMPLES), block: every(BLOCKS) }
    }

    fn samples_at(self, done: u64) -> bool {
        done.is_multiple_of(self.sample) || done == self.rounds
    }

    /// Returns the length of the block that ends at this round, if one does.
    fn block_ending_at(self, done: u64) -> Option<u64> {
        if done.is_multiple_of(self.block) {
            Some(self.block)
        } else {
            (done == self.rounds).then_some(done % self.block)
        }
    }
}

/// Returns a learner's course. `None` if no round counts.
pub(super) fn course(
    fold: &Fold,
    ledger: &LedgerState,
    spec: &LearnerSpec,
) -> Result<Option<Course>, FoldError> {
    let sampling = Sampling::new(fold);
    let mut course: Option<Course> = None;
    let mut mistakes_before = 0;
    fold.walk(ledger, spec, &mut |round: &FoldStep<'_>, learner: &dyn Learner| {
        let course = course.get_or_insert_with(|| Course {
            spec: spec.clone(),
            rounds: Vec::new(),
            mistakes: Vec::new(),
            regret: Vec::new(),
            masses: Vec::new(),
            block_errors: Vec::new(),
            loss: learner.loss_kind().as_str(),
            tally: Tally::new(round.input.votes.len(), learner.loss_kind(), None),
        });
        course.tally.add(round.input.votes, round.weights, round.p, round.target);
        let done = round.at as u64 + 1;
        if sampling.samples_at(done) {
            course.rounds.push(done);
            course.mistakes.push(course.tally.mistakes);
            let certificate = course.tally.certificate(learner);
            course.regret.push(certificate.map_or((0.0, None), |found| (found.regret, found.bound)));
            course.masses.push(learner.masses());
        }
        if let Some(length) = sampling.block_ending_at(done) {
            course.block_errors.push((course.tally.mistakes - mistakes_before) as f64 / length as f64);
            mistakes_before = course.tally.mistakes;
        }
    })?;
    Ok(course)
}

/// Returns the courses of the experts and of plain majority.
pub(super) fn baselines(fold: &Fold, ledger: &LedgerState) -> Result<Baselines, FoldError> {
    let sampling = Sampling::new(fold);
    let experts = fold.experts().len();
    let mut baselines = Baselines {
        rounds: sampling.rounds,
        block: sampling.block,
        experts: vec![Vec::new(); experts],
        expert_blocks: vec![Vec::new(); experts],
        majority: Vec::new(),
    };
    let mut mistakes = vec![0u64; experts];
    let mut mistakes_before = vec![0u64; experts];
    let mut majority = 0u64;
    let spec = LearnerSpec::new(Name::Majority);
    fold.walk(ledger, &spec, &mut |round: &FoldStep<'_>, _: &dyn Learner| {
        let flags = |p: f64| p >= 0.5;
        let is_unsafe = flags(round.target);
        majority += u64::from(flags(round.p) != is_unsafe);
        for (mistakes, vote) in mistakes.iter_mut().zip(round.input.votes) {
            *mistakes += u64::from(vote.is_nan() || flags(*vote) != is_unsafe);
        }
        let done = round.at as u64 + 1;
        if sampling.samples_at(done) {
            baselines.experts.iter_mut().zip(&mistakes).for_each(|(course, now)| course.push(*now));
            baselines.majority.push(majority);
        }
        if sampling.block_ending_at(done).is_some() {
            for ((course, now), before) in
                baselines.expert_blocks.iter_mut().zip(&mistakes).zip(&mut mistakes_before)
            {
                course.push(now - *before);
                *before = *now;
            }
        }
    })?;
    Ok(baselines)
}

/// Returns the expert of each block in the best sequence of experts with at most `max_shifts` shifts. A shift that saves
/// fewer than `min_saved` mistakes is taken for chance.
pub(super) fn best_sequence(blocks: &[Vec<u64>], max_shifts: usize, min_saved: u64) -> Vec<usize> {
    let length = blocks.first().map_or(0, Vec::len);
    // By number of shifts and last expert: the mistakes, and the sequence so far.
    let mut best: Vec<Vec<(u64, Vec<usize>)>> = vec![vec![(0, Vec::new()); blocks.len()]; max_shifts + 1];
    for block in 0..length {
        let mut next = best.clone();
        for (shifts, row) in next.iter_mut().enumerate() {
            let fewer = shifts
                .checked_sub(1)
                .and_then(|shifts| best.get(shifts))
                .and_then(|row| row.iter().min_by_key(|found| found.0));
            for ((expert, slot), mistakes) in row.iter_mut().enumerate().zip(blocks) {
                if let Some(fewer) = fewer
                    && block > 0
                    && fewer.0 < slot.0
                {
                    slot.clone_from(fewer);
                }
                slot.0 += mistakes.get(block).copied().expect("all experts have the same blocks");
                slot.1.push(expert);
            }
        }
        best = next;
    }
    let by_shifts = best.into_iter().filter_map(|row| row.into_iter().min_by_key(|found| found.0));
    let found = by_shifts.enumerate().min_by_key(|(shifts, found)| found.0 + *shifts as u64 * min_saved);
    found.map_or_else(Vec::new, |(_, found)| found.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_best_expert_is_found() {
        let blocks = vec![vec![0, 0, 0, 9, 9, 9], vec![9, 9, 9, 0, 0, 0], vec![4; 6]];
        assert_eq!(best_sequence(&blocks, 0, 1), [2; 6]);
        assert_eq!(best_sequence(&blocks, 1, 1), [0, 0, 0, 1, 1, 1]);
        assert_eq!(best_sequence(&blocks, 4, 0), [0, 0, 0, 1, 1, 1]);
        assert_eq!(best_sequence(&blocks, 4, 100), [2; 6]);
        assert_eq!(best_sequence(&[], 2, 1), [0usize; 0]);
    }
}
