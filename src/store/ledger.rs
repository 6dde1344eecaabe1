//! The ledger: written to shelves and beside them, read side by side.
//!
//! A record that is written again may lie on a shelf as it was before as well: both are read. That is well, because
//! what is made of the ledger is a function of the set of all records that were ever written under a key. One that was
//! deleted is taken off its shelf: nothing may be left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::catalogue::Change;
use super::error::{StoreError, corrupt, guarded};
use super::meta::Meta;
use super::record::{Tally, Tree, unseal};
use super::shelf::{Filling, Kept, LOOSE, TOGETHER, records};
use super::trees::Trees;
use super::{Folder, Store};

/// Shelves that a thread reads before it looks for more.
const SHELVES: u64 = 8;
/// Loose records that are handed on together.
const GROUP: usize = 128;
/// Threads at most: beyond a few sled's pages and what is made of them stand in each other's way.
const MOST: usize = 8;

/// Puts records on new shelves.
fn shelve<'a>(meta: &mut Meta, kept: impl Iterator<Item = Kept<'a>>, changes: &mut Vec<Change>) {
    let mut filling = Filling::default();
    for record in kept {
        filling.put(record);
        meta.shelved += 1;
    }
    for shelf in filling.shelves() {
        let key = meta.next_shelf.to_be_bytes().to_vec();
        changes.push(Change { tree: Tree::Shelves, key, payload: Some(shelf) });
        meta.next_shelf += 1;
    }
}

impl Store {
    /// The changes that a batch's records make. Few are written beside the shelves, many on new ones.
    pub(super) fn written(
        &mut self,
        ledger: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let loose = |key, payload| Change { tree: Tree::Ledger, key, payload };
        let gone = ledger.iter().filter(|(_, payload)| payload.is_none()).map(|(key, _)| &key[..]).collect();
        self.take_off(&gone, changes)?;
        // Of several for one key the last holds.
        let last: BTreeMap<_, _> = ledger.into_iter().collect();
        if last.len() < LOOSE {
            changes.extend(last.into_iter().map(|(key, payload)| loose(key, payload)));
            return Ok(());
        }
        let kept = last.iter().filter_map(|(key, payload)| Some((&key[..], payload.as_deref()?)));
        shelve(&mut self.meta, kept, changes);
        // What they replace need not stay.
        if self.meta.ledger.count > 0 {
            changes.extend(last.into_keys().map(|key| loose(key, None)));
        }
        Ok(())
    }

    /// Puts loose records on shelves, where there are many.
    pub(super) fn tidy(&mut self, changes: &mut Vec<Change>) -> Result<(), StoreError> {
        if self.meta.ledger.count < LOOSE as u64 {
            return Ok(());
        }
        let loose: Vec<_> =
            self.database.read(|trees| trees.iter(Tree::Ledger).take(TOGETHER).collect::<Result<_, _>>())?;
        let mut kept: Vec<Kept<'_>> = Vec::with_capacity(loose.len());
        for (key, value) in &loose {
            kept.push((key, unseal(Tree::Ledger, key, value)?));
        }
        shelve(&mut self.meta, kept.into_iter(), changes);
        changes.extend(loose.iter().map(|(key, _)| Change {
            tree: Tree::Ledger,
            key: key.to_vec(),
            payload: None,
        }));
        Ok(())
    }

    /// Takes records off the shelves, wherever they lie there: every shelf is looked at.
    fn take_off(&mut self, gone: &BTreeSet<&[u8]>, changes: &mut Vec<Change>) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        for number in 0..self.meta.next_shelf {
            let key = number.to_be_bytes();
            let found = self.database.read(move |trees| trees.get(Tree::Shelves, &key))?;
            // One that had nothing else on it is gone.
            let Some(value) = found else { continue };
            let all = records(unseal(Tree::Shelves, &key, &value)?)?;
            let mut stay = Filling::default();
            let staying = all.iter().filter(|(key, _)| !gone.contains(key));
            let left = staying.map(|record| stay.put(*record)).count();
            if left == all.len() {
                continue;
            }
            self.meta.shelved = self.meta.shelved.saturating_sub((all.len() - left) as u64);
            let payload = (left > 0).then(|| stay.shelves().concat());
            changes.push(Change { tree: Tree::Shelves, key: key.to_vec(), payload });
        }
        Ok(())
    }

    /// Hands all ledger records on with their keys, some at a time, each checked, from several threads and in no order;
    /// `taker` makes what takes them in each thread. Of one that was written again older versions may come as well, none
    /// of one that was deleted. After the last the whole is checked: only where this is `Ok` were they all, and none of
    /// them stale.
    ///
    /// # Errors
    /// Where a record is broken, missing or stale, the disk refuses, or a taker fails.
    pub fn read_ledger<E: From<StoreError> + Send, T: FnMut(&[(&[u8], &[u8])]) -> Result<(), E>>(
        &self,
        taker: impl Fn() -> T + Sync,
    ) -> Result<(), E> {
        let (trees, folder) = (self.database.trees()?, self.database.folder());
        let (next, end) = (AtomicU64::new(0), self.meta.next_shelf);
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let (loose, shelves) = thread::scope(|scope| {
            let spawned: Vec<_> = (0..threads)
                .map(|thread| {
                    let (next, taker) = (&next, &taker);
                    scope.spawn(move || {
                        let mut take = taker();
                        let mut both = (Tally::default(), Tally::default());
                        let mut read = || {
                            if thread == 0 {
                                both.0 = read_loose(trees, folder, &mut take)?;
                            }
                            both.1 = read_shelves(trees, folder, next, end, &mut take)?;
                            Ok::<_, E>(())
                        };
                        let read = read();
                        if read.is_err() {
                            // No more: the others need not go on.
                            next.store(end, Ordering::Relaxed);
                        }
                        read.map(|()| both)
                    })
                })
                .collect();
            let mut whole = (Tally::default(), Tally::default());
            for thread in spawned {
                let part = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                whole.0.join(part.0);
                whole.1.join(part.1);
            }
            Ok::<_, E>(whole)
        })?;
        if (loose, shelves) == (self.meta.ledger, self.meta.shelves) {
            Ok(())
        } else {
            Err(folder.named(corrupt("ledger records are missing or stale")).into())
        }
    }
}

fn read_loose<E: From<StoreError>>(
    trees: &Trees,
    folder: &Folder,
    take: &mut impl FnMut(&[Kept<'_>]) -> Result<(), E>,
) -> Result<Tally, E> {
    let mut tally = Tally::default();
    let mut items = trees.iter(Tree::Ledger);
    loop {
        let some = guarded(|| items.by_ref().take(GROUP).collect::<Result<Vec<_>, _>>());
        let some = some.map_err(|error| folder.named(error))?;
        if some.is_empty() {
            return Ok(tally);
        }
        let mut kept = Vec::with_capacity(some.len());
        for (key, value) in &some {
            tally.add(value);
            kept.push((&key[..], unseal(Tree::Ledger, key, value)?));
        }
        take(&kept)?;
    }
}

/// One thread's part.
fn read_shelves<E: From<StoreError>>(
    trees: &Trees,
    folder: &Folder,
    next: &AtomicU64,
    end: u64,
    take: &mut impl FnMut(&[Kept<'_>]) -> Result<(), E>,
) -> Result<Tally, E> {
    let mut tally = Tally::default();
    loop {
        let first = next.fetch_add(SHELVES, Ordering::Relaxed);
        if first >= end {
            return Ok(tally);
        }
        let mut shelves = trees.shelves(first..first.saturating_add(SHELVES));
        while let Some((key, shelf)) =
            guarded(|| shelves.next().transpose()).map_err(|error| folder.named(error))?
        {
            tally.add(&shelf);
            take(&records(unseal(Tree::Shelves, &key, &shelf)?)?)?;
        }
    }
}
