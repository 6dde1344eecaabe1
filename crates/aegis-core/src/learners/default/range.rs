//! The interval of the default learner's prediction over votes that are not known yet.
//!
//! The interval of each member is computed by itself. The aggregation's prediction rises with each member's, so the
//! least predictions of all members bound it from below and the greatest from above.

use super::{Default, HINT, JOINED, JOINT_WIDTH, LINEAR, MAX_LOG_ODDS, STACKINGS};
use crate::learners::RoundInput;
use crate::learners::interval::{InputBox, Interval};
use crate::learners::stacking::{Form, fill, probability, width};

/// The slack of a hint's distance from the middle of its interval. Hints are at most 7.
const HINT_ROUNDING: f64 = 1e-12;

/// The interval of log-odds clipped to ±7.
fn clipped(range: Interval) -> Interval {
    let clip = |x: f64| x.clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS);
    Interval { low: clip(range.low), high: clip(range.high) }
}

/// Space for the computation of ranges.
#[derive(Debug, Clone)]
pub(super) struct RangeScratch {
    signs: InputBox,
    log_odds: InputBox,
    joint: InputBox,
    /// The greatest prediction of each member; the least are in `predictions`.
    pub(super) greatest: Vec<f64>,
}

impl RangeScratch {
    pub(super) fn new(n: usize, members: usize) -> Self {
        let votes = || InputBox::new(width(n));
        let (joint, greatest) = (InputBox::new(JOINT_WIDTH), vec![f64::NAN; members]);
        Self { signs: votes(), log_odds: votes(), joint, greatest }
    }
}

impl Default {
    /// The intervals of the log-odds of the linear members; those of the readers are zero without features.
    fn linear_ranges(&mut self, round: &RoundInput<'_>) -> [Interval; LINEAR] {
        let mut ranges = [Interval::of(0.0, 0.0); LINEAR];
        let (stacked, read) = ranges.split_at_mut(STACKINGS.len());
        let RangeScratch { signs, log_odds, .. } = &self.scratch;
        for ((form, stack), range) in self.stacks.iter_mut().zip(&mut *stacked) {
            *range = stack.range(if *form == Form::Sign { signs } else { log_odds });
        }
        if let Some(features) = round.features {
            let hint = clipped(stacked[HINT]);
            let centre = 0.5 * (hint.low + hint.high);
            self.inputs.fill(features, &signs.centre, centre);
            for (reader, range) in self.readers.iter().zip(read) {
                *range = reader.range(&self.inputs, signs, 0.5 * hint.width() + HINT_ROUNDING);
            }
        }
        ranges
    }

    /// The interval of the joint member's prediction; NaN without features.
    fn joint_range(&mut self, linear: &[Interval; LINEAR], reads: bool) -> Interval {
        if !reads {
            return Interval { low: f64::NAN, high: f64::NAN };
        }
        let write = |phi: &mut [f64], side: fn(Interval) -> f64| {
            phi[JOINED.len()] = 1.0;
            for (phi, (member, _)) in phi.iter_mut().zip(JOINED) {
                *phi = side(clipped(linear[member]));
            }
        };
        let joint = &mut self.scratch.joint;
        joint.fill(|phi| write(phi, |range| range.low), |phi| write(phi, |range| range.high));
        probability(self.joint.range(joint))
    }

    /// Writes the least prediction of each member to `predictions`, and the greatest to the scratch.
    pub(super) fn member_ranges(&mut self, round: &RoundInput<'_>, greatest: &[f64]) {
        fill(Form::Sign, &mut self.scratch.signs, round.votes, greatest);
        fill(Form::LogOdds, &mut self.scratch.log_odds, round.votes, greatest);
        let shares = [round.votes, greatest].map(|votes| self.shares.aggregate(votes).predictions);
        let reads = round.features.is_some();
        let linear = self.linear_ranges(round);
        let joint = self.joint_range(&linear, reads);
        let n = round.votes.len();
        let RangeScratch { log_odds, greatest: highs, .. } = &mut self.scratch;
        self.predictions[..n].copy_from_slice(round.votes);
        highs[..n].copy_from_slice(greatest);
        let asleep = Interval { low: f64::NAN, high: f64::NAN };
        let recalibrated = round.votes.iter().enumerate().map(|(expert, vote)| {
            if vote.is_nan() { asleep } else { self.recalibrated.range(expert, log_odds) }
        });
        let grid = shares[0].iter().zip(&shares[1]).map(|(low, high)| Interval { low: *low, high: *high });
        let linear = linear.iter().enumerate().map(|(at, log_odds)| {
            if at < STACKINGS.len() || reads { probability(*log_odds) } else { asleep }
        });
        let all = recalibrated.chain(grid).chain(linear).chain([joint]);
        let sides = self.predictions[n..].iter_mut().zip(&mut highs[n..]);
        sides.zip(all).for_each(|((low, high), range)| (*low, *high) = (range.low, range.high));
    }
}
