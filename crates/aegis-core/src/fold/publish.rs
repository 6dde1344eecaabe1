//! The state of a fold as published, and its hash.

use super::Fold;
use crate::hash::{HashedState, state_hash};
use crate::ledger_state::{LedgerState, Row};
use crate::predictor::{FORMAT, Published, StateHash};

impl Fold {
    /// The last round folded; `None` if there is none, or if [`Fold::reorder`] removed it and the fold has not advanced.
    fn last(&self) -> Option<Row> {
        self.at.checked_sub(1).and_then(|at| self.order.row(at))
    }

    /// The hash of the current state; see [`state_hash`]. `ledger` is the one that was folded.
    ///
    /// # Panics
    /// Panics as [`Fold::hashed_state`] does.
    #[must_use]
    pub fn state_hash(&self, ledger: &LedgerState) -> StateHash {
        self.hash_and_state(ledger).0
    }

    /// The input of the state hash, without the state itself. `ledger` is the one that was folded.
    ///
    /// # Panics
    /// Panics if `ledger` is another one, without the last round that was folded.
    #[must_use]
    pub fn hashed_state<'a>(&'a self, ledger: &'a LedgerState) -> HashedState<'a> {
        let key = |row| {
            let rounds = self.rounds(ledger).expect("the ledger holds the rounds that were folded");
            (rounds.round_time(row), rounds.tenant(row), rounds.event(row))
        };
        HashedState {
            learner: &self.learner_line,
            experts: self.roster.experts(),
            encoder: self.encoder.as_ref(),
            mapping: &self.mapping_line,
            rounds: self.at as u64,
            last_key: self.last().map(key),
            state: &[],
        }
    }

    fn hash_and_state(&self, ledger: &LedgerState) -> (StateHash, Vec<f64>) {
        let mut state = Vec::new();
        if let Some(learner) = &self.learner {
            learner.save(&mut state);
        }
        let hash = state_hash(&HashedState { state: &state, ..self.hashed_state(ledger) });
        (hash, state)
    }

    /// The state for a [`Predictor`](crate::predictor::Predictor); `None` before the first round, and if the
    /// last round was removed and the fold has not advanced since. It reflects the whole ledger if
    /// [`Fold::is_current`]. `ledger` is the one that was folded, and `ledger_offset` is its offset that the
    /// state reflects.
    ///
    /// # Panics
    /// Panics if `ledger` is another one, without the last round that was folded.
    #[must_use]
    pub fn published(&self, ledger: &LedgerState, ledger_offset: i64) -> Option<Published> {
        let last = self.last()?;
        let learner = self.learner.as_deref().expect("folded rounds have experts");
        let rounds = self.rounds(ledger).expect("the ledger holds the rounds that were folded");
        let (state_hash, state) = self.hash_and_state(ledger);
        Some(Published {
            policy: self.settings.policy.clone(),
            format: FORMAT,
            learner: self.settings.learner.clone(),
            mapping: self.mapping_line.clone(),
            experts: self.roster.experts().to_vec(),
            encoder: self.encoder,
            rounds: self.at as u64,
            last_key: Some((
                rounds.round_time(last),
                rounds.tenant(last).to_owned(),
                rounds.event(last).to_owned(),
            )),
            ledger_offset,
            state_hash,
            state,
            masses: learner.masses(),
        })
    }
}
