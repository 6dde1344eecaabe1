//! Votes in columns: panels, which are lists of experts, apart from their scores.

use std::collections::HashMap;

use super::{Full, LedgerError};
use crate::ledger::RoundVote;

/// The greatest number of votes in one round.
pub const MAX_VOTES: usize = 256;

/// The number of a panel, which is the list of the expert ids of a round's votes, within its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Panel(u32);

impl Panel {
    /// The panel of a round whose votes are not known.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// The number, from 0.
    #[must_use]
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

/// All panels of one policy.
#[derive(Debug, Default)]
pub(super) struct Panels {
    experts: Vec<Vec<String>>,
    by_experts: HashMap<Vec<String>, u32>,
    last: u32,
}

impl Panels {
    /// The expert ids of a panel.
    ///
    /// # Panics
    /// Panics if the panel is `NONE` or of another policy.
    pub(super) fn experts(&self, panel: Panel) -> &[String] {
        &self.experts[panel.number()]
    }

    pub(super) fn all(&self) -> &[Vec<String>] {
        &self.experts
    }

    /// The panel of these experts, which must be in the order of their ids, each once.
    pub(super) fn intern<'a>(
        &mut self,
        experts: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Result<Panel, LedgerError> {
        if let Some(last) = self.experts.get(self.last as usize)
            && last.len() == experts.len()
            && last.iter().zip(experts.clone()).all(|(known, asked)| known == asked)
        {
            return Ok(Panel(self.last));
        }
        if experts.len() > MAX_VOTES {
            return Err(LedgerError::TooManyVotes { votes: experts.len() });
        }
        let names: Vec<String> = experts.map(str::to_owned).collect();
        if !names.is_sorted_by(|a, b| a < b) {
            return Err(LedgerError::Unordered);
        }
        if let Some(known) = self.by_experts.get(&names) {
            self.last = *known;
            return Ok(Panel(*known));
        }
        let number = u32::try_from(self.experts.len()).ok().filter(|new| *new < u32::MAX).ok_or(Full)?;
        self.experts.push(names.clone());
        self.by_experts.insert(names, number);
        self.last = number;
        Ok(Panel(number))
    }
}

/// A vote in one number: NaN for an abstention, negative for a shadow vote. A decisive vote has a bit that no score has,
/// since scores are below 2: the second highest, or in an abstention the lowest.
#[derive(Debug, Clone, Copy)]
pub struct Score(f64);

const DECISIVE_VOTE: u64 = 1 << 62;
const DECISIVE_ABSTENTION: u64 = 1;

impl Score {
    /// The vote with this score, `None` for an abstention.
    ///
    /// # Errors
    /// Returns [`LedgerError::Score`] if the score is not in \[0,1\].
    pub fn new(score: Option<f64>, shadow: bool) -> Result<Self, LedgerError> {
        let magnitude = match score {
            None => f64::NAN,
            // `abs` removes the sign of -0.0, which would mark a shadow vote.
            Some(score) if (0.0..=1.0).contains(&score) => score.abs(),
            Some(_) => return Err(LedgerError::Score),
        };
        Ok(Self(magnitude.copysign(if shadow { -1.0 } else { 1.0 })))
    }

    /// The vote of an expert.
    ///
    /// # Errors
    /// Returns [`LedgerError::Score`] if the score is not in \[0,1\].
    pub fn of(vote: &RoundVote) -> Result<Self, LedgerError> {
        let score = Self::new(vote.score, vote.shadow)?;
        Ok(if vote.decisive { score.decisive() } else { score })
    }

    /// The vote of an expert that was asked only because its vote could change the decision.
    #[must_use]
    pub fn decisive(self) -> Self {
        let bit = if self.0.is_nan() { DECISIVE_ABSTENTION } else { DECISIVE_VOTE };
        Self(f64::from_bits(self.0.to_bits() | bit))
    }

    fn is_decisive(self) -> bool {
        let bit = if self.0.is_nan() { DECISIVE_ABSTENTION } else { DECISIVE_VOTE };
        self.0.to_bits() & bit != 0
    }

    /// The score of a number that is no abstention.
    #[inline]
    fn magnitude(self) -> f64 {
        f64::from_bits(self.0.to_bits() & !DECISIVE_VOTE).abs()
    }

    /// The vote as the learner's input: NaN for abstentions and shadow votes.
    #[inline]
    #[must_use]
    pub fn awake(self) -> f64 {
        if self.0.is_sign_negative() || self.0.is_nan() { f64::NAN } else { self.magnitude() }
    }

    /// The score, of a shadow vote too; `None` for an abstention.
    fn value(self) -> Option<f64> {
        (!self.0.is_nan()).then_some(self.magnitude())
    }

    /// The score that counts for the expert's quality; `None` for an abstention or a decisive vote.
    pub(super) fn measured(self) -> Option<f64> {
        self.value().filter(|_| !self.is_decisive())
    }

    pub(super) fn vote(self, expert: &str) -> RoundVote {
        let (score, shadow, decisive) = (self.value(), self.0.is_sign_negative(), self.is_decisive());
        RoundVote { expert: expert.to_owned(), score, shadow, decisive }
    }

    /// The vote that replaces the votes of an erased round.
    pub(super) const ERASED: Self = Self(f64::NAN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_comes_back() {
        for score in [None, Some(0.0), Some(-0.0), Some(f64::MIN_POSITIVE / 8.0), Some(0.1), Some(1.0)] {
            for (shadow, decisive) in [(false, false), (true, false), (false, true), (true, true)] {
                let vote = RoundVote { expert: "a".to_owned(), score, shadow, decisive };
                let stored = Score::of(&vote).unwrap();
                assert_eq!(stored.vote("a"), vote);
                assert_eq!(stored.awake().is_nan(), shadow || score.is_none());
                assert!(shadow || score.is_none_or(|score| stored.awake() == score));
                assert_eq!(stored.measured(), score.filter(|_| !decisive));
            }
        }
        for score in [f64::NAN, f64::INFINITY, -0.1, 1.0 + f64::EPSILON] {
            assert!(Score::new(Some(score), false).is_err());
        }
    }

    #[test]
    fn a_panel_has_one_number() {
        let mut panels = Panels::default();
        let mut intern = |names: &[&str]| panels.intern(names.iter().copied());
        let first = intern(&["a", "b"]).unwrap();
        let second = intern(&["a"]).unwrap();
        assert_ne!(first, second);
        assert_eq!(intern(&["a", "b"]).unwrap(), first);
        assert_eq!(intern(&["a"]).unwrap(), second);
        assert!(matches!(intern(&["b", "a"]), Err(LedgerError::Unordered)));
        assert!(matches!(intern(&["a", "a"]), Err(LedgerError::Unordered)));
    }
}
