//! The ledger out of sled.

use std::sync::{Mutex, PoisonError};

use super::LearnError;
use crate::codec::{self, RecordPool};
use crate::core::ledger_state::LedgerState;
use crate::store::Store;

/// The book of what sled holds: read and decoded by several threads, since a million rounds take seconds of each.
/// They apply what they have in whatever order: the book is a function of the set.
///
/// # Errors
/// Where sled is corrupt, or holds what is no ledger record.
pub fn kept(store: &Store) -> Result<LedgerState, LearnError> {
    let book = Mutex::new(LedgerState::new());
    store.ledger(|| {
        let (book, mut records, mut pool, mut changes) =
            (&book, Vec::new(), RecordPool::default(), Vec::new());
        move |kept: &[(&[u8], &[u8])]| {
            for (_, value) in kept {
                records.push(codec::decode_record_into_pool(value, &mut pool)?);
            }
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            for record in records.drain(..) {
                book.apply(&record, &mut changes)?;
                changes.clear();
                pool.recycle(record);
            }
            Ok::<_, LearnError>(())
        }
    })?;
    Ok(book.into_inner().unwrap_or_else(PoisonError::into_inner))
}
