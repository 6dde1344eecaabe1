//! The start of an active time: the ledger from sled and its topic.

use super::ledger::Ledger;
use super::{Learn, LearnError};
use crate::config::Policies;
use crate::kafka::SourceError;
use crate::ops::metrics;
use crate::store::{Opened, Store, StoreError};

impl Learn {
    /// sled and the rest from the ledger topic; where sled cannot be trusted, all of it from the topic. None: it
    /// was to stop before that.
    ///
    /// # Errors
    /// Where neither can be had.
    pub(super) fn restore(&self, policies: &Policies) -> Result<Option<(Store, Ledger)>, LearnError> {
        let (topics, settings) = (&self.config.topics, &self.config.learn);
        let (mut store, opened) = Store::open(&settings.store)?;
        if let Opened::Rebuilt { why } = &opened {
            tracing::warn!(why, "the store is rebuilt from the ledger topic");
            metrics::STORE_REBUILDS.with([]).increment(1);
        }
        let memory = settings.checkpoint_mib << 20;
        let attempt = |store: &mut Store| -> Result<Option<Ledger>, LearnError> {
            let mut ledger = Ledger::restore(&self.connection, &topics.rounds, store, policies, memory)?;
            let whole = ledger.read_to_end(store, |read| {
                self.health.note("ledger restored", false, read);
                self.shutdown.requested()
            })?;
            Ok(whole.then_some(ledger))
        };
        let why = match attempt(&mut store) {
            Ok(ledger) => return Ok(ledger.map(|ledger| (store, ledger))),
            Err(LearnError::Store(error @ StoreError::Corrupt { .. })) => {
                metrics::STORE_ERRORS.with([error.name()]).increment(1);
                error.to_string()
            }
            // The topic is shorter than what sled reflects: it was made anew.
            Err(LearnError::Source(error @ SourceError::Truncated { .. })) => error.to_string(),
            Err(error) => return Err(error),
        };
        tracing::warn!(why, "the store is rebuilt from the ledger topic");
        metrics::STORE_REBUILDS.with([]).increment(1);
        let (mut store, _) = store.rebuild(&why)?;
        let ledger = attempt(&mut store)?;
        Ok(ledger.map(|ledger| (store, ledger)))
    }
}
