//! Keys of fixed size for names of any length, so that a million requests fit in memory.

use std::hash::{BuildHasher, RandomState};

use crate::core::ledger::RoundId;

/// The key of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RoundKey(u64, u64);

/// Makes keys with secrets of its own: equal names have equal keys, and no sender of events can choose two names with one key.
#[derive(Debug, Default)]
pub(super) struct Keys(RandomState, RandomState);

impl Keys {
    /// The key of a round of one policy.
    pub(super) fn round(&self, tenant: &str, event: &str) -> RoundKey {
        RoundKey(self.0.hash_one((tenant, event)), self.1.hash_one((tenant, event)))
    }

    /// The key of a round.
    pub(super) fn of(&self, id: &RoundId) -> RoundKey {
        self.round(&id.tenant, &id.event)
    }

    /// The key of a name.
    pub(super) fn name(&self, name: &str) -> u64 {
        self.0.hash_one(name)
    }
}
