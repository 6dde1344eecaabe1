//! Ledger records by the dozen: sled takes a microsecond or two for each value that it gives, and a start reads
//! millions of records. What comes in great numbers, and what has been lying about for a while, is put on *shelves*:
//! values of some sixteen kilobytes that hold keys and records one after the other, never sorted and seldom changed.

use super::bytes::{Reader, put_varint};
use super::error::{StoreError, corrupt};

/// Records outside of shelves before they are put on some, and so many at once that they go there directly.
pub(super) const LOOSE: usize = 1_024;
/// Records put on shelves in one go.
pub(super) const TOGETHER: usize = 8 * LOOSE;
/// Bytes after which a shelf is full.
const FULL: usize = 16 << 10;

/// A record's key and what it says.
pub(super) type Kept<'a> = (&'a [u8], &'a [u8]);

/// A shelf that is being filled.
#[derive(Debug, Default)]
pub(super) struct Filling {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Filling {
    pub(super) fn put(&mut self, (key, payload): Kept<'_>) {
        for part in [key, payload] {
            put_varint(&mut self.open, part.len() as u64);
            self.open.extend_from_slice(part);
        }
        if self.open.len() >= FULL {
            self.full.push(std::mem::take(&mut self.open));
        }
    }

    /// The shelves; none of them is empty.
    pub(super) fn shelves(mut self) -> Vec<Vec<u8>> {
        if !self.open.is_empty() {
            self.full.push(self.open);
        }
        self.full
    }
}

/// The records of a shelf.
pub(super) fn records(shelf: &[u8]) -> Result<Vec<Kept<'_>>, StoreError> {
    let mut reader = Reader(shelf);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let record = reader.slice().and_then(|key| Some((key, reader.slice()?)));
        found.push(record.ok_or_else(|| corrupt("a shelf of the ledger cannot be read"))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_on_shelves_is_there(
            put in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9),
                prop::collection::vec(any::<u8>(), 0..4_000)), 0..40)
        ) {
            let mut filling = Filling::default();
            put.iter().for_each(|(key, payload)| filling.put((key, payload)));
            let shelves = filling.shelves();
            prop_assert!(shelves.iter().all(|shelf| !shelf.is_empty() && shelf.len() < FULL + 4_020));
            let found: Vec<_> = shelves.iter().flat_map(|shelf| records(shelf).unwrap()).collect();
            let put: Vec<_> = put.iter().map(|(key, payload)| (&key[..], &payload[..])).collect();
            prop_assert_eq!(found, put);
        }

        #[test]
        fn hostile_shelves_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = records(&bytes);
        }
    }
}
