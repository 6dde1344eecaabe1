//! Plain majority: every awake expert has one vote, and a tie is unsafe. It learns nothing. The learners
//! are measured against it.

use super::{BadState, Learner, LossKind, Mass, RoundInput, check, flagged, owned, shares};

/// The majority of the awake experts.
#[derive(Debug, Clone)]
pub struct Majority {
    names: Vec<String>,
}

impl Majority {
    /// The majority over these experts.
    #[must_use]
    pub fn new(experts: &[&str]) -> Self {
        Self { names: owned(experts) }
    }
}

/// The share of the awake experts that vote unsafe, in \[0,1\]; 0 if all sleep. It is at least .5 if and only
/// if at least half of them do.
#[inline(always)]
#[must_use]
pub fn majority(votes: &[f64]) -> f64 {
    let (mut flags, mut awake) = (0u32, 0u32);
    for vote in votes {
        flags += u32::from(flagged(*vote));
        awake += u32::from(!vote.is_nan());
    }
    f64::from(flags) / f64::from(awake.max(1))
}

impl Learner for Majority {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        majority(round.votes)
    }

    fn step(&mut self, round: &RoundInput<'_>, _: f64) -> f64 {
        majority(round.votes)
    }

    fn weights(&self, round: &RoundInput<'_>, out: &mut [f64]) -> bool {
        let awake = round.votes.iter().filter(|vote| !vote.is_nan()).count().max(1);
        for (out, vote) in out.iter_mut().zip(round.votes) {
            *out = if vote.is_nan() { 0.0 } else { 1.0 / awake as f64 };
        }
        true
    }

    fn masses(&self) -> Vec<Mass> {
        shares(&self.names, &vec![1.0; self.names.len()])
    }

    fn save(&self, _: &mut Vec<f64>) {}

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        check(state, 0, 0.0..=0.0)
    }

    fn loss_kind(&self) -> LossKind {
        LossKind::Mistakes
    }
}
