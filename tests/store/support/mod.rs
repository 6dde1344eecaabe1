//! Reads the ledger of a store.

use std::sync::Mutex;

use aegis::store::{Store, StoreError};

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Returns the ledger records of a store, sorted. Older versions of a record that was written again may be among them.
pub fn read(store: &Store) -> Result<Vec<KeyValue>, StoreError> {
    let read = Mutex::new(Vec::new());
    store.read_ledger(|| {
        |records: &[(&[u8], &[u8])]| {
            read.lock().unwrap().extend(records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
            Ok::<_, StoreError>(())
        }
    })?;
    let mut read = read.into_inner().unwrap();
    read.sort();
    Ok(read)
}
