//! The errors that stop learning.

use crate::codec::{DecodeError, EncodeError};
use crate::core::fold::FoldError;
use crate::core::ledger_state::LedgerError;
use crate::kafka::{CommitError, SourceError};
use crate::ops::TracesError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// An error that stops learning.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A topic cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A batch cannot be committed. A fenced learner stops: to continue, it would have to take over from the learner
    /// that has just taken over from it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The schema registry cannot be used, or does not provide a schema.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A ledger record cannot be decoded.
    #[error(
        "a record of the ledger topic cannot be read: {0}. Was it written by another program or version?"
    )]
    Decode(#[from] DecodeError),
    /// A record cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A number in a ledger record is out of range.
    #[error("a record of the ledger topic is invalid: {0}")]
    LedgerState(#[from] LedgerError),
    /// A learner does not accept its experts.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The configured delivery of spans cannot be set up.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The ledger topic delivers no records although it has more.
    #[error(
        "the ledger topic has been silent for a minute before its end, at offset {next}: are its brokers up?"
    )]
    Silent {
        /// The offset of the record that was not delivered.
        next: i64,
    },
    /// The ledger topic has lost records.
    #[error(
        "the ledger topic has lost its records from offset {asked} to {from}: it must be compacted and never \
         deleted (cleanup.policy=compact). The learner cannot restore these records: replay what you have, or \
         start a new ledger topic and accept it with `aegis ledger adopt`"
    )]
    Lost {
        /// The first offset lost.
        asked: i64,
        /// The first offset kept.
        from: i64,
    },
    /// The ledger topic is not the one that the store was filled from.
    #[error(
        "the ledger topic {topic} {why}: the store {store}, or another learner's, may hold the only copy of what was \
         learned, so nothing is read or written. `aegis ledger restore` writes the store's records to the topic; \
         `aegis ledger adopt` drops them and goes on with what the topic holds. Then start again"
    )]
    OtherLedger {
        /// The topic's name.
        topic: String,
        /// The difference that was found.
        why: String,
        /// The path of the store's folder.
        store: String,
    },
    /// A topic that must have one partition has more.
    #[error(
        "{topic} has {count} partitions and must have 1: its records would be read in no order, or by two learners \
         at once. Kafka cannot remove a partition: stop the learner, save what you need of the topic, delete \
         it, create it again with `aegis topics --create`, and start again"
    )]
    Partitions {
        /// The topic's name.
        topic: String,
        /// The number of its partitions.
        count: i32,
    },
    /// Too many labels became dead letters.
    #[error(
        "more than {limit} dead letters within a minute, the last one for {reason}, and more than \
         learn.max_dead_letter_share of what was read: something upstream is wrong. What was read before is \
         committed, so `aegis dlq list` shows it: fix the producer, or raise learn.max_dead_letters_per_minute or \
         learn.max_dead_letter_share, and start again"
    )]
    Surge {
        /// The greatest number of dead letters within a minute.
        limit: u64,
        /// The name of the last reason.
        reason: &'static str,
    },
}

impl LearnError {
    /// Returns `true` if the learner can continue from its last commit once the brokers are reachable.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable(),
            Self::Commit(error) => error.is_retryable(),
            Self::Silent { .. } => true,
            _ => false,
        }
    }
}
