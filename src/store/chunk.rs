//! Chunks of ledger records.
//!
//! sled takes a microsecond or two for each value that it returns, and a start reads millions of records. Therefore
//! records that are written in great numbers, or that have been stored for a while, are grouped in *chunks*: values of
//! some sixteen kilobytes that hold keys and records one after the other, unsorted and rarely changed.

use super::bytes::{ByteReader, put_varint};
use super::error::{StoreError, corrupt};

/// The number of loose records from which on they are moved to chunks. A commit of as many records writes chunks at once.
pub(super) const LOOSE_LIMIT: usize = 1_024;
/// The greatest number of loose records that are moved to chunks at a time.
pub(super) const MOVED_PER_COMMIT: usize = 8 * LOOSE_LIMIT;
/// The size in bytes from which on a chunk is full.
const CHUNK_BYTES: usize = 16 << 10;

/// A record's key and its value.
pub(super) type KeyValue<'a> = (&'a [u8], &'a [u8]);

/// Groups records in chunks.
#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl ChunkBuilder {
    pub(super) fn put(&mut self, (key, payload): KeyValue<'_>) {
        for part in [key, payload] {
            put_varint(&mut self.open, part.len() as u64);
            self.open.extend_from_slice(part);
        }
        if self.open.len() >= CHUNK_BYTES {
            self.full.push(std::mem::take(&mut self.open));
        }
    }

    /// The chunks. None of them is empty.
    pub(super) fn chunks(mut self) -> Vec<Vec<u8>> {
        if !self.open.is_empty() {
            self.full.push(self.open);
        }
        self.full
    }
}

/// The records in a chunk.
pub(super) fn records(chunk: &[u8]) -> Result<Vec<KeyValue<'_>>, StoreError> {
    let mut reader = ByteReader(chunk);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let record = reader.slice().and_then(|key| Some((key, reader.slice()?)));
        found.push(record.ok_or_else(|| corrupt("a chunk of the ledger cannot be decoded"))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_round_trip(
            put in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9),
                prop::collection::vec(any::<u8>(), 0..4_000)), 0..40)
        ) {
            let mut builder = ChunkBuilder::default();
            put.iter().for_each(|(key, payload)| builder.put((key, payload)));
            let chunks = builder.chunks();
            prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() < CHUNK_BYTES + 4_020));
            let found: Vec<_> = chunks.iter().flat_map(|chunk| records(chunk).unwrap()).collect();
            let put: Vec<_> = put.iter().map(|(key, payload)| (&key[..], &payload[..])).collect();
            prop_assert_eq!(found, put);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = records(&bytes);
        }
    }
}
