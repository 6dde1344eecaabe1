//! What a fold shows: its state, its hash.

use super::Fold;
use crate::hash::{HashedState, state_hash};
use crate::ledger_state::{LedgerState, Row};
use crate::predictor::{FORMAT, Published, StateHash};

impl Fold {
    fn last(&self) -> Option<Row> {
        self.at.checked_sub(1).and_then(|at| self.order.row(at))
    }

    /// The hash of the state as it stands; see [`state_hash`].
    #[must_use]
    pub fn state_hash(&self, ledger: &LedgerState) -> StateHash {
        self.hashed(ledger).0
    }

    /// What the hash speaks of, but for the state itself.
    #[must_use]
    pub fn hashed_state<'a>(&'a self, ledger: &'a LedgerState) -> HashedState<'a> {
        let rounds = self.rounds(ledger);
        let key = |row| rounds.map(|rounds| (rounds.round_time(row), rounds.tenant(row), rounds.event(row)));
        HashedState {
            learner: &self.learner_line,
            experts: self.roster.experts(),
            encoder: self.encoder.as_ref(),
            mapping: &self.mapping_line,
            rounds: self.at as u64,
            last_key: self.last().and_then(key),
            state: &[],
        }
    }

    fn hashed(&self, ledger: &LedgerState) -> (StateHash, Vec<f64>) {
        let mut state = Vec::new();
        if let Some(learner) = &self.learner {
            learner.save(&mut state);
        }
        let hash = state_hash(&HashedState { state: &state, ..self.hashed_state(ledger) });
        (hash, state)
    }

    /// The state for [`Predictor`](super::predictor::Predictor); `None` before the first round. To be
    /// taken when [`Fold::is_current`].
    #[must_use]
    pub fn published(&self, ledger: &LedgerState, ledger_offset: i64) -> Option<Published> {
        let learner = self.learner.as_deref()?;
        let rounds = self.rounds(ledger)?;
        let last = self.last()?;
        let (state_hash, state) = self.hashed(ledger);
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
