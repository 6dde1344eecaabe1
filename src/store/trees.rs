//! The calls into sled, and the trees of the store.

use std::path::Path;
use std::time::Duration;

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional, TransactionalTree};
use sled::{Db, IVec};

use super::catalogue::Change;
use super::error::{StoreError, classify};
use super::meta::Meta;
use super::record::{Tally, Tree, seal};

/// The size of sled's cache, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// sled with its trees.
#[derive(Debug)]
pub(super) struct Trees {
    db: Db,
    meta: sled::Tree,
    ledger: sled::Tree,
    catalogue: sled::Tree,
    blocks: sled::Tree,
    chunks: sled::Tree,
}

impl Trees {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None) // each commit flushes
            .open()
            .map_err(classify)?;
        let [meta, ledger, catalogue, blocks, chunks] =
            Tree::ALL.map(|tree| db.open_tree(tree.name()).map_err(classify));
        let (blocks, chunks) = (blocks?, chunks?);
        Ok(Self { meta: meta?, ledger: ledger?, catalogue: catalogue?, blocks, chunks, db })
    }

    fn tree(&self, tree: Tree) -> &sled::Tree {
        match tree {
            Tree::Meta => &self.meta,
            Tree::Ledger => &self.ledger,
            Tree::Catalogue => &self.catalogue,
            Tree::Blocks => &self.blocks,
            Tree::Chunks => &self.chunks,
        }
    }

    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.tree(tree).get(key).map_err(classify)
    }

    pub(super) fn iter(&self, tree: Tree) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> + use<> {
        self.tree(tree).iter().map(|item| item.map_err(classify))
    }

    /// The chunks with these numbers.
    pub(super) fn chunks(
        &self,
        numbers: std::ops::Range<u64>,
    ) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> + use<> {
        let keys = numbers.start.to_be_bytes()..numbers.end.to_be_bytes();
        self.chunks.range(keys).map(|item| item.map_err(classify))
    }

    /// Makes the changes and writes `meta` with updated tallies, in one transaction. Returns `meta` as written.
    pub(super) fn apply(&self, changes: Vec<Change>, meta: &Meta) -> Result<Meta, StoreError> {
        let changes: Vec<(Tree, Vec<u8>, Option<IVec>)> = changes
            .into_iter()
            .map(|Change { tree, key, payload }| {
                let value = payload.map(|payload| IVec::from(seal(tree, &key, &payload)));
                (tree, key, value)
            })
            .collect();
        let trees = (&self.meta, &self.ledger, &self.catalogue, &self.blocks, &self.chunks);
        let written = trees.transaction(|(meta_tree, ledger, catalogue, blocks, chunks)| {
            let mut meta = meta.clone();
            for (tree, key, value) in &changes {
                match tree {
                    Tree::Meta => {}
                    Tree::Ledger => change(ledger, key, value.as_ref(), Some(&mut meta.ledger))?,
                    Tree::Catalogue => change(catalogue, key, value.as_ref(), Some(&mut meta.catalogue))?,
                    Tree::Blocks => change(blocks, key, value.as_ref(), None)?,
                    Tree::Chunks => change(chunks, key, value.as_ref(), Some(&mut meta.chunks))?,
                }
            }
            meta_tree.insert(Meta::KEY, seal(Tree::Meta, Meta::KEY, &meta.pack()))?;
            Ok::<_, ConflictableTransactionError<std::convert::Infallible>>(meta)
        });
        written.map_err(|error| match error {
            TransactionError::Storage(error) => classify(error),
            TransactionError::Abort(never) => match never {},
        })
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map(drop).map_err(classify)
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// Retries `open` while sled's own lock is held. Since this process holds the lock of the folder, sled's lock can only be
/// held by a database that this process has just closed: sled's threads release it a moment later, without a notice.
pub(super) fn retry_locked<T>(mut open: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..250 {
        match open() {
            Err(StoreError::Locked { .. }) => std::thread::sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
    open()
}

fn change(
    tree: &TransactionalTree,
    key: &[u8],
    value: Option<&IVec>,
    tally: Option<&mut Tally>,
) -> Result<(), sled::transaction::UnabortableTransactionError> {
    let old = match value {
        Some(value) => tree.insert(key, value)?,
        None => tree.remove(key)?,
    };
    if let Some(tally) = tally {
        if let Some(old) = old {
            tally.remove(&old);
        }
        if let Some(value) = value {
            tally.add(value);
        }
    }
    Ok(())
}
