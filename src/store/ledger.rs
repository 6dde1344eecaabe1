//! The ledger: written as loose records and in chunks, and read by several threads.
//!
//! If a record is written again, its former version may remain in a chunk, and both versions are read. This is correct,
//! because the state is a function of the set of all records that were ever written under a key. A record that was
//! deleted is removed from its chunk, so that nothing is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::catalogue::Change;
use super::chunk::{ChunkBuilder, KeyValue, LOOSE_LIMIT, MOVED_PER_COMMIT, records};
use super::error::{StoreError, corrupt, guarded};
use super::meta::Meta;
use super::record::{Tally, Tree, unseal};
use super::trees::Trees;
use super::{Folder, Store};

/// The number of chunks that a thread takes at a time.
const CHUNKS_PER_READ: u64 = 8;
/// The number of loose records that are passed on together.
const LOOSE_PER_READ: usize = 128;
/// The greatest number of threads. More of them only compete for sled's pages and for the state.
const MAX_THREADS: usize = 8;

/// Writes records to new chunks.
fn write_chunks<'a>(meta: &mut Meta, records: impl Iterator<Item = KeyValue<'a>>, changes: &mut Vec<Change>) {
    let mut builder = ChunkBuilder::default();
    for record in records {
        builder.put(record);
        meta.chunked += 1;
    }
    for chunk in builder.chunks() {
        let key = meta.next_chunk.to_be_bytes().to_vec();
        changes.push(Change { tree: Tree::Chunks, key, payload: Some(chunk) });
        meta.next_chunk += 1;
    }
}

impl Store {
    /// The changes for a batch of records. A few records are written as loose records, many in new chunks.
    pub(super) fn ledger_changes(
        &mut self,
        ledger: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let loose = |key, payload| Change { tree: Tree::Ledger, key, payload };
        let deleted =
            ledger.iter().filter(|(_, payload)| payload.is_none()).map(|(key, _)| &key[..]).collect();
        self.remove_from_chunks(&deleted, changes)?;
        // Of several records of one key the last counts.
        let last: BTreeMap<_, _> = ledger.into_iter().collect();
        if last.len() < LOOSE_LIMIT {
            changes.extend(last.into_iter().map(|(key, payload)| loose(key, payload)));
            return Ok(());
        }
        let records = last.iter().filter_map(|(key, payload)| Some((&key[..], payload.as_deref()?)));
        write_chunks(&mut self.meta, records, changes);
        // The loose records that they replace are removed.
        if self.meta.ledger.count > 0 {
            changes.extend(last.into_keys().map(|key| loose(key, None)));
        }
        Ok(())
    }

    /// Moves loose records to chunks if there are many.
    pub(super) fn chunk_loose_records(&mut self, changes: &mut Vec<Change>) -> Result<(), StoreError> {
        if self.meta.ledger.count < LOOSE_LIMIT as u64 {
            return Ok(());
        }
        let loose: Vec<_> = self
            .database
            .read(|trees| trees.iter(Tree::Ledger).take(MOVED_PER_COMMIT).collect::<Result<_, _>>())?;
        let mut records: Vec<KeyValue<'_>> = Vec::with_capacity(loose.len());
        for (key, value) in &loose {
            records.push((key, unseal(Tree::Ledger, key, value)?));
        }
        write_chunks(&mut self.meta, records.into_iter(), changes);
        changes.extend(loose.iter().map(|(key, _)| Change {
            tree: Tree::Ledger,
            key: key.to_vec(),
            payload: None,
        }));
        Ok(())
    }

    /// Removes records from the chunks. Every chunk is read, since they are not sorted.
    fn remove_from_chunks(
        &mut self,
        deleted: &BTreeSet<&[u8]>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        if deleted.is_empty() {
            return Ok(());
        }
        for number in 0..self.meta.next_chunk {
            let key = number.to_be_bytes();
            let found = self.database.read(move |trees| trees.get(Tree::Chunks, &key))?;
            // A chunk whose records were all deleted was removed.
            let Some(value) = found else { continue };
            let all = records(unseal(Tree::Chunks, &key, &value)?)?;
            let mut builder = ChunkBuilder::default();
            let kept = all.iter().filter(|(key, _)| !deleted.contains(key));
            let left = kept.map(|record| builder.put(*record)).count();
            if left == all.len() {
                continue;
            }
            self.meta.chunked = self.meta.chunked.saturating_sub((all.len() - left) as u64);
            let payload = (left > 0).then(|| builder.chunks().concat());
            changes.push(Change { tree: Tree::Chunks, key: key.to_vec(), payload });
        }
        Ok(())
    }

    /// Reads all ledger records with their keys, several at a time, on several threads and in no order. `visitor` is
    /// called once on each thread and returns the function that receives the records of that thread. Older versions of a
    /// record that was written again may be read as well; a record that was deleted is not. Each record's checksum is
    /// verified. The tally of all records is verified at the end, so that the records are complete and current only if
    /// this returns `Ok`.
    ///
    /// # Errors
    /// Returns an error if a record is broken, missing or stale, if the disk returns an error, or if a visitor fails.
    pub fn read_ledger<E: From<StoreError> + Send, T: FnMut(&[(&[u8], &[u8])]) -> Result<(), E>>(
        &self,
        visitor: impl Fn() -> T + Sync,
    ) -> Result<(), E> {
        let (trees, folder) = (self.database.trees()?, self.database.folder());
        let (next, end) = (AtomicU64::new(0), self.meta.next_chunk);
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let (loose, chunks) = thread::scope(|scope| {
            let spawned: Vec<_> = (0..threads)
                .map(|thread| {
                    let (next, visitor) = (&next, &visitor);
                    scope.spawn(move || {
                        let mut visit = visitor();
                        let mut tallies = (Tally::default(), Tally::default());
                        let mut read = || {
                            if thread == 0 {
                                tallies.0 = read_loose(trees, folder, &mut visit)?;
                            }
                            tallies.1 = read_chunks(trees, folder, next, end, &mut visit)?;
                            Ok::<_, E>(())
                        };
                        let read = read();
                        if read.is_err() {
                            // The other threads stop early.
                            next.store(end, Ordering::Relaxed);
                        }
                        read.map(|()| tallies)
                    })
                })
                .collect();
            let mut total = (Tally::default(), Tally::default());
            for thread in spawned {
                let part = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                total.0.add_tally(part.0);
                total.1.add_tally(part.1);
            }
            Ok::<_, E>(total)
        })?;
        if (loose, chunks) == (self.meta.ledger, self.meta.chunks) {
            Ok(())
        } else {
            Err(folder.named(corrupt("ledger records are missing or stale")).into())
        }
    }
}

fn read_loose<E: From<StoreError>>(
    trees: &Trees,
    folder: &Folder,
    visit: &mut impl FnMut(&[KeyValue<'_>]) -> Result<(), E>,
) -> Result<Tally, E> {
    let mut tally = Tally::default();
    let mut items = trees.iter(Tree::Ledger);
    loop {
        let group = guarded(|| items.by_ref().take(LOOSE_PER_READ).collect::<Result<Vec<_>, _>>());
        let group = group.map_err(|error| folder.named(error))?;
        if group.is_empty() {
            return Ok(tally);
        }
        let mut records = Vec::with_capacity(group.len());
        for (key, value) in &group {
            tally.add(value);
            records.push((&key[..], unseal(Tree::Ledger, key, value)?));
        }
        visit(&records)?;
    }
}

/// Reads chunks on one of several threads. `next` is the number of the first chunk that no thread has taken.
fn read_chunks<E: From<StoreError>>(
    trees: &Trees,
    folder: &Folder,
    next: &AtomicU64,
    end: u64,
    visit: &mut impl FnMut(&[KeyValue<'_>]) -> Result<(), E>,
) -> Result<Tally, E> {
    let mut tally = Tally::default();
    loop {
        let first = next.fetch_add(CHUNKS_PER_READ, Ordering::Relaxed);
        if first >= end {
            return Ok(tally);
        }
        let mut chunks = trees.chunks(first..first.saturating_add(CHUNKS_PER_READ));
        while let Some((key, chunk)) =
            guarded(|| chunks.next().transpose()).map_err(|error| folder.named(error))?
        {
            tally.add(&chunk);
            visit(&records(unseal(Tree::Chunks, &key, &chunk)?)?)?;
        }
    }
}
