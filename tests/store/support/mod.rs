//! TextFeatures a store's ledger in one piece.

use std::sync::Mutex;

use aegis::store::{Store, StoreError};

/// A key, and what is under it.
pub type Kept = (Vec<u8>, Vec<u8>);

/// What a store holds of the ledger, sorted; of a record that was written again perhaps older versions as well.
pub fn read(store: &Store) -> Result<Vec<Kept>, StoreError> {
    let read = Mutex::new(Vec::new());
    store.ledger(|| {
        |kept: &[(&[u8], &[u8])]| {
            read.lock().unwrap().extend(kept.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
            Ok::<_, StoreError>(())
        }
    })?;
    let mut read = read.into_inner().unwrap();
    read.sort();
    Ok(read)
}
