//! Why learning stops.

use crate::codec::{DecodeError, EncodeError};
use crate::core::fold::FoldError;
use crate::core::ledger_state::LedgerError;
use crate::kafka::{CommitError, SourceError};
use crate::ops::TracesError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why learning stopped.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// TextFeatures failed in a way that waiting does not mend.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A unit cannot be committed, now or later. One that is fenced stops: to go on, it would have to take
    /// over from the one that has just taken over from it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The schema registry is of no help.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// sled failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A ledger record cannot be read.
    #[error(
        "a record of the ledger topic cannot be read: {0}. Was it written by another program or version?"
    )]
    Decode(#[from] DecodeError),
    /// A record cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A ledger record's numbers are out of range.
    #[error("a record of the ledger topic cannot be: {0}")]
    LedgerState(#[from] LedgerError),
    /// A learner refuses its experts.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// Spans cannot be sent as the configuration says.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The ledger topic says nothing although it holds more.
    #[error(
        "the ledger topic has been silent for a minute before its end, at offset {next}: are its brokers up?"
    )]
    Silent {
        /// Offset of the record that does not come.
        next: i64,
    },
    /// The ledger topic has lost records.
    #[error(
        "the ledger topic has lost its records from offset {asked} to {from}: it must be compacted and never \
         deleted (cleanup.policy=compact). What is lost there is lost to the learner: replay what you have, or \
         start a new ledger topic and say so with `aegis ledger adopt`"
    )]
    Lost {
        /// First offset lost.
        asked: i64,
        /// First offset kept.
        from: i64,
    },
    /// The ledger topic is not the one that the store was filled from.
    #[error(
        "the ledger topic {topic} {why}: the store {store}, or another learner's, may hold the only copy of what was \
         learned, so nothing is read or written. `aegis ledger restore` writes the store's records to the topic; \
         `aegis ledger adopt` drops them and goes on with what the topic holds. Then start again"
    )]
    OtherLedger {
        /// The topic.
        topic: String,
        /// What was found.
        why: String,
        /// The store's folder.
        store: String,
    },
    /// A topic of which everything reads or writes one partition has more.
    #[error(
        "{topic} has {count} partitions and must have 1: its records would be read in no order, or by two learners \
         at once. Kafka takes no partition away: stop the learner, keep what the topic holds that you need, delete \
         it, make it anew with `aegis topics --create`, and start again"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// How many partitions it has.
        count: i32,
    },
    /// Too many dead letters.
    #[error(
        "more than {limit} dead letters within a minute, the last one for {reason}, and more than \
         learn.max_dead_letter_share of what was read: something upstream is wrong. What was read before is \
         committed, so `aegis dlq list` shows it: fix the producer, or raise learn.max_dead_letters_per_minute or \
         learn.max_dead_letter_share, and start again"
    )]
    Surge {
        /// The limit.
        limit: u64,
        /// Name of the last reason.
        reason: &'static str,
    },
}

impl LearnError {
    /// Whether brokers that come back mend it: what was in hand is void, and begins again from what is committed.
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
