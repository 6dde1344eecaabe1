//! The ledger read side by side: its keys cut into ranges that threads take one after the other.
//!
//! sled gives a record in some two microseconds, most of them spent on its pages; a start reads millions.

use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sled::IVec;

use super::error::{StoreError, corrupt, guarded};
use super::record::{Tally, Tree, unseal};
use super::trees::Trees;
use super::{Folder, Store};

/// Halvings of the keys' space. It is halved, not the number of keys: with so many ranges one that is greater
/// than others holds nobody up for long.
const HALVINGS: u32 = 6;
/// Tries to find a key to halve at: each looks at half of the space of the one before.
const TRIES: usize = 48;
/// Records that are handed on together.
const TOGETHER: usize = 100;
/// Threads at most: beyond a few sled's pages and what is made of them stand in each other's way.
const MOST: usize = 8;

/// A key between two, not necessarily one that exists.
fn between(low: &[u8], high: &[u8]) -> Vec<u8> {
    let alike = low.iter().zip(high).take_while(|(low, high)| low == high).count();
    let lead = |key: &[u8]| {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(key.iter().skip(alike)).for_each(|(slot, byte)| *slot = *byte);
        u64::from_be_bytes(bytes)
    };
    let middle = u64::midpoint(lead(low), lead(high));
    low.iter().take(alike).copied().chain(middle.to_be_bytes()).collect()
}

/// Adds keys between two to `cuts`, in order.
fn cut(
    trees: &Trees,
    (low, high): (&[u8], &[u8]),
    halvings: u32,
    cuts: &mut Vec<IVec>,
) -> Result<(), StoreError> {
    if halvings == 0 {
        return Ok(());
    }
    let mut above = high.to_vec();
    for _ in 0..TRIES {
        above = between(low, &above);
        match trees.after(Tree::Ledger, &above)? {
            Some(key) if *key > *low && *key < *high => {
                cut(trees, (low, &key), halvings - 1, cuts)?;
                cuts.push(key.clone());
                return cut(trees, (&key, high), halvings - 1, cuts);
            }
            // All keys are below: look at the lower half.
            _ => {}
        }
    }
    Ok(())
}

/// Ranges of keys, from each to the next.
struct Ranges {
    bounds: Vec<Bound<IVec>>,
    taken: AtomicUsize,
}

impl Ranges {
    fn of(trees: &Trees) -> Result<Self, StoreError> {
        let mut cuts = Vec::new();
        if let Some((first, last)) = trees.ends(Tree::Ledger)? {
            cut(trees, (&first, &last), HALVINGS, &mut cuts)?;
        }
        let inner = cuts.into_iter().map(Bound::Included);
        // The ends are open: nothing can lie outside.
        let bounds = [Bound::Unbounded].into_iter().chain(inner).chain([Bound::Unbounded]).collect();
        Ok(Self { bounds, taken: AtomicUsize::new(0) })
    }

    fn next(&self) -> Option<(Bound<IVec>, Bound<IVec>)> {
        let at = self.taken.fetch_add(1, Ordering::Relaxed);
        let low = self.bounds.get(at)?.clone();
        let high = match self.bounds.get(at.checked_add(1)?)?.clone() {
            Bound::Included(key) => Bound::Excluded(key),
            open => open,
        };
        Some((low, high))
    }

    /// No more: another thread has failed.
    fn stop(&self) {
        self.taken.store(self.bounds.len(), Ordering::Relaxed);
    }
}

impl Store {
    /// Hands all ledger records on, some at a time, each checked, from several threads and in no order; `taker`
    /// makes what takes them in each thread. After the last the whole is checked: only where this is `Ok` were
    /// they all, and none of them stale.
    ///
    /// # Errors
    /// Where a record is broken, missing or stale, the disk refuses, or a taker fails.
    pub fn ledger_apart<E: From<StoreError> + Send, T: FnMut(&[&[u8]]) -> Result<(), E>>(
        &self,
        taker: impl Fn() -> T + Sync,
    ) -> Result<(), E> {
        let (trees, folder) = (&self.trees, &self.folder);
        let ranges = guarded(|| Ranges::of(trees)).map_err(|error| folder.named(error))?;
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let read = thread::scope(|scope| {
            let spawned: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        let read = read(trees, folder, &ranges, taker());
                        if read.is_err() {
                            ranges.stop();
                        }
                        read
                    })
                })
                .collect();
            let mut whole = Tally::default();
            for thread in spawned {
                whole.join(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok::<_, E>(whole)
        })?;
        if read == self.meta.ledger {
            Ok(())
        } else {
            Err(folder.named(corrupt("ledger records are missing or stale")).into())
        }
    }
}

/// One thread's part.
fn read<E: From<StoreError>>(
    trees: &Trees,
    folder: &Folder,
    ranges: &Ranges,
    mut take: impl FnMut(&[&[u8]]) -> Result<(), E>,
) -> Result<Tally, E> {
    let mut tally = Tally::default();
    while let Some(range) = ranges.next() {
        let mut items = trees.range(Tree::Ledger, range);
        loop {
            let some = guarded(|| items.by_ref().take(TOGETHER).collect::<Result<Vec<_>, _>>());
            let some = some.map_err(|error| folder.named(error))?;
            if some.is_empty() {
                break;
            }
            let mut payloads = Vec::with_capacity(some.len());
            for (key, value) in &some {
                tally.add(value);
                payloads.push(unseal(Tree::Ledger, key, value)?);
            }
            take(&payloads)?;
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn between_is_between(keys in proptest::collection::btree_set(
            proptest::collection::vec(97u8..100, 0..6), 2..3)) {
            let keys: Vec<_> = keys.into_iter().collect();
            let middle = between(&keys[0], &keys[1]);
            prop_assert!(keys[0] <= middle || middle.starts_with(&keys[0]));
            prop_assert!(middle <= [&keys[1][..], &[0; 8]].concat());
        }
    }
}
