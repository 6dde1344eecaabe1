//! The learner's store on disk, and the only module that uses sled.
//!
//! It holds the ledger records, the offset of each decision, and the offsets up to which both reflect their topics. It
//! is written after the Kafka commit that it reflects, in one transaction, and is never the only copy. Missing, stale,
//! truncated and changed records are detected (by a checksum over every record, and by tallies over the ledger and the
//! index's catalogue). Then the folder is emptied, and the store is filled again from the topics.
//!
//! The index of decisions is stored in sorted blocks by day, since an entry of its own costs sled some 160 bytes. The
//! ledger is stored in chunks of many records.

mod bytes;
mod catalogue;
mod chunk;
mod database;
mod entry;
mod error;
mod filter;
mod folder;
mod ledger;
mod meta;
mod record;
mod run;
mod thread;
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub use self::entry::{DAY, IndexEntry, MAX_PER_ROUND};
pub use self::error::StoreError;
pub use self::meta::{TopicId, TopicIds};
pub use self::thread::Stop;

use self::catalogue::{Catalogue, Change};
use self::database::Database;
use self::entry::{RoundHash, unpack};
use self::error::corrupt;
use self::folder::{Folder, Mark};
use self::meta::Meta;
use self::record::{Tally, Tree, unseal};
use self::trees::Trees;
use crate::core::event::Millis;
use crate::core::label::DecisionRef;
use crate::core::ledger::RoundId;
use crate::crash;

/// The outcome of opening a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The folder had no store. The store is new and empty.
    Fresh,
    /// The folder had a consistent store.
    Found,
    /// The folder had a store that could not be trusted. It was removed; the store is new and empty.
    Rebuilt {
        /// The reason.
        why: String,
    },
}

/// The changes of the store after one Kafka commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// The ledger records by key. A value of `None` deletes the record. Of several records of one key the last counts.
    pub ledger: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The ledger topic's offset after these records; `None` keeps the offset.
    pub ledger_offset: Option<i64>,
    /// The (partition, next offset) of the decisions topic up to which the index reaches. Other partitions keep theirs.
    pub decisions: Vec<(i32, i64)>,
    /// The (partition, offset) of decisions before these positions that cannot be decoded. The first of each partition is
    /// kept.
    pub skipped: Vec<(i32, i64)>,
    /// The decisions to add to the index, in any order. Entries may be repeated.
    pub indexed: Vec<IndexEntry>,
}

/// The sizes of a store, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The number of ledger records. A record that was written again may count twice.
    pub ledger_records: u64,
    /// The number of entries of the index. An entry that was indexed twice may count twice until its runs are merged.
    pub index_entries: u64,
    /// The number of sorted runs of the index. A lookup reads up to a block of each.
    pub index_runs: usize,
    /// The number of days of the index.
    pub index_days: usize,
    /// The number of bytes on disk.
    pub disk_bytes: u64,
}

/// The store. A folder can be open in one store at a time.
///
/// After an error of the disk sled is abandoned: it is never flushed or dropped, and the folder stays locked until the
/// process ends (`docs/decisions/0010`).
#[derive(Debug)]
pub struct Store {
    database: Database,
    meta: Meta,
    catalogue: Catalogue,
}

fn load(trees: &Trees) -> Result<(Meta, Catalogue), StoreError> {
    let record = trees.get(Tree::Meta, Meta::KEY)?.ok_or_else(|| corrupt("the meta record is missing"))?;
    let meta = Meta::unpack(unseal(Tree::Meta, Meta::KEY, &record)?)?;
    let mut catalogue = Catalogue::starting(meta.next);
    let mut tally = Tally::default();
    for item in trees.iter(Tree::Catalogue) {
        let (key, value) = item?;
        tally.add(&value);
        catalogue.load(&key, unseal(Tree::Catalogue, &key, &value)?)?;
    }
    if tally != meta.catalogue {
        return Err(corrupt("records of the index are missing or stale"));
    }
    Ok((meta, catalogue))
}

impl Store {
    /// Opens the store in the folder `path`, which is created if it is missing. A store that cannot be trusted is removed
    /// and replaced by an empty one.
    ///
    /// # Errors
    /// Returns an error if another process uses the folder, or if the disk returns one.
    pub fn open(path: &Path) -> Result<(Self, Opened), StoreError> {
        Self::open_until(path, Arc::new(|| false))
    }

    /// Opens the store as [`open`](Self::open) does. A call that hangs is given up when `stop` returns `true`.
    ///
    /// # Errors
    /// Returns an error if another process uses the folder, or if the disk returns one or does not respond.
    pub fn open_until(path: &Path, stop: Stop) -> Result<(Self, Opened), StoreError> {
        let mut database = Database::new(Folder::lock(path)?, stop)?;
        let why = match database.folder().mark()? {
            Mark::Missing => return Ok((Self::create(database)?, Opened::Fresh)),
            Mark::Other(text) => format!("it is marked \"{text}\", which this program does not read"),
            Mark::Current => match database.open(load) {
                Ok((meta, catalogue)) => return Ok((Self { database, meta, catalogue }, Opened::Found)),
                Err(StoreError::Corrupt { why }) => why,
                Err(other) => return Err(other),
            },
        };
        Ok((Self::create(database)?, Opened::Rebuilt { why }))
    }

    /// Opens the store in the folder `path` without creating or removing anything. Returns `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if another process uses the folder, if the store cannot be trusted, or if the disk returns one.
    pub fn existing(path: &Path) -> Result<Option<Self>, StoreError> {
        if !Folder::is_marked(path) {
            return Ok(None);
        }
        let mut database = Database::new(Folder::lock(path)?, Arc::new(|| false))?;
        if let Mark::Other(text) = database.folder().mark()? {
            return Err(corrupt(format!("it is marked \"{text}\", which this program does not read")));
        }
        let (meta, catalogue) = database.open(load)?;
        Ok(Some(Self { database, meta, catalogue }))
    }

    fn create(mut database: Database) -> Result<Self, StoreError> {
        database.close()?;
        database.folder().clear()?;
        database.open(|_| Ok(()))?;
        let mut store = Self { database, meta: Meta::default(), catalogue: Catalogue::default() };
        store.write(Vec::new(), true)?;
        store.database.folder().write_mark()?;
        Ok(store)
    }

    /// Replaces the store by an empty one, after [`StoreError::Corrupt`] or if the contents are stale.
    ///
    /// # Errors
    /// Returns an error if the disk returns one.
    pub fn rebuild(self, why: &str) -> Result<(Self, Opened), StoreError> {
        Ok((Self::create(self.database)?, Opened::Rebuilt { why: why.to_owned() }))
    }

    /// Changes records and the meta record in one transaction. With `flush`, waits until they are on disk.
    fn write(&mut self, changes: Vec<Change>, flush: bool) -> Result<(), StoreError> {
        self.meta.next = self.catalogue.next;
        let meta = self.meta.clone();
        self.meta = self.database.write(move |trees| {
            let meta = trees.apply(changes, &meta)?;
            crash::point("store.applied");
            if flush {
                crash::during("store.flush", || trees.flush())?;
            }
            Ok(meta)
        })?;
        Ok(())
    }

    /// Writes the changes of a Kafka commit, all of them or none. They are on disk when this returns.
    ///
    /// # Errors
    /// Returns an error if the disk returns one or sled fails. It is then unknown if the changes were written: drop the
    /// store, open it again, and continue from its offsets.
    pub fn commit(&mut self, batch: WriteBatch) -> Result<(), StoreError> {
        let WriteBatch { ledger, ledger_offset, decisions, skipped, indexed } = batch;
        let mut changes = Vec::new();
        self.ledger_changes(ledger, &mut changes)?;
        self.catalogue.add(&indexed, &mut changes);
        self.meta.ledger_offset = ledger_offset.or(self.meta.ledger_offset);
        self.meta.decisions.extend(decisions);
        for (partition, offset) in skipped {
            let first = self.meta.skipped.entry(partition).or_insert(offset);
            *first = offset.min(*first);
        }
        self.write(changes, true)?;
        crash::point("store.merge");
        self.merge()
    }

    /// Merges loose records, segments and runs if there are many. The changes are not flushed: if a crash undoes a merge, it
    /// is done again.
    fn merge(&mut self) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        self.chunk_loose_records(&mut changes)?;
        self.catalogue.merge_segments(&mut changes);
        if !changes.is_empty() {
            self.write(changes, false)?;
        }
        while let Some(merge) = self.catalogue.next_merge() {
            let mut entries = Vec::new();
            for block in &merge.blocks {
                entries.extend(self.block(block.key())?);
            }
            let mut changes = Vec::new();
            self.catalogue.replace_merged(&merge, entries, &mut changes);
            self.write(changes, false)?;
        }
        Ok(())
    }

    fn block(&self, key: Vec<u8>) -> Result<Vec<entry::BlockEntry>, StoreError> {
        self.database.read(move |trees| {
            let value = trees.get(Tree::Blocks, &key)?;
            let value = value.ok_or_else(|| corrupt("a block of the index is missing"))?;
            unpack(unseal(Tree::Blocks, &key, &value)?)
        })
    }

    /// The offset of the ledger topic before which the store reflects it; `None` before the first commit of an offset.
    #[must_use]
    pub fn ledger_offset(&self) -> Option<i64> {
        self.meta.ledger_offset
    }

    /// The next offset of each partition of the decisions topic, up to which the index reaches.
    #[must_use]
    pub fn decision_positions(&self) -> &BTreeMap<i32, i64> {
        &self.meta.decisions
    }

    /// Sets the reader of decisions, a number that identifies the schemas that it can decode. If another reader has passed
    /// decisions that it could not decode, the positions go back to the first of them. If the store was written by a
    /// version that did not note them, and `waits` says that labels wait for decisions, the positions go back to the
    /// beginning. Returns the (partition, former position) of the partitions that are read again.
    ///
    /// # Errors
    /// Returns an error if the disk returns one or sled fails.
    pub fn set_reader(&mut self, reader: u64, waits: bool) -> Result<Vec<(i32, i64)>, StoreError> {
        let unsure = self.meta.unsure && waits;
        if self.meta.reader == reader && !unsure {
            return Ok(Vec::new());
        }
        let before = self.meta.decisions.clone();
        if self.meta.reader != reader {
            for (partition, first) in std::mem::take(&mut self.meta.skipped) {
                self.meta.decisions.entry(partition).and_modify(|next| *next = first.min(*next));
            }
            self.meta.reader = reader;
        }
        if unsure {
            self.meta.decisions.clear();
            self.meta.unsure = false;
        }
        self.write(Vec::new(), true)?;
        let moved = |(partition, _): &(i32, i64)| self.meta.decisions.get(partition) != before.get(partition);
        Ok(before.iter().map(|(partition, next)| (*partition, *next)).filter(moved).collect())
    }

    /// The ids of the topics that the store was filled from.
    #[must_use]
    pub fn topic_ids(&self) -> &TopicIds {
        &self.meta.topic_ids
    }

    /// Sets the ids of the topics that the store is filled from.
    ///
    /// # Errors
    /// Returns an error if the disk returns one or sled fails.
    pub fn set_topic_ids(&mut self, ids: TopicIds) -> Result<(), StoreError> {
        if self.meta.topic_ids == ids {
            return Ok(());
        }
        self.meta.topic_ids = ids;
        self.write(Vec::new(), true)
    }

    /// Sets the offset from which the ledger topic is read next.
    ///
    /// # Errors
    /// Returns an error if the disk returns one or sled fails.
    pub fn set_ledger_offset(&mut self, offset: i64) -> Result<(), StoreError> {
        self.meta.ledger_offset = Some(offset);
        self.write(Vec::new(), true)
    }

    /// Empties the index of decisions, which is then filled again from the first decision that its topic has.
    ///
    /// # Errors
    /// Returns an error if the disk returns one or sled fails.
    pub fn clear_index(&mut self) -> Result<(), StoreError> {
        // The positions go first, so that an index that is half empty after a crash is filled again as well.
        self.meta.decisions.clear();
        self.meta.skipped.clear();
        self.meta.unsure = false;
        self.write(Vec::new(), true)?;
        self.remove_days_before(Millis::MAX)
    }

    /// The decisions about a round, at most [`MAX_PER_ROUND`], ordered by round time, partition and offset. Rounds are
    /// identified by a hash, so that the caller must compare the id of each decision that it reads.
    ///
    /// # Errors
    /// Returns an error if a block is missing or broken, or if the disk returns one.
    pub fn find(&self, id: &RoundId) -> Result<Vec<(Millis, DecisionRef)>, StoreError> {
        let hash = RoundHash::of(id);
        let mut found: BTreeSet<_> =
            self.catalogue.tail_entries(hash).map(|entry| (entry.round_time, entry.at)).collect();
        for block in self.catalogue.candidates(hash) {
            let entries = self.block(block.key())?;
            let from = entries.partition_point(|entry| entry.hash < hash);
            let same_hash = entries.iter().skip(from).take_while(|entry| entry.hash == hash);
            found.extend(same_hash.map(|entry| (entry.round_time, entry.at)));
        }
        Ok(found.into_iter().take(MAX_PER_ROUND).collect())
    }

    /// Removes the days of the index that end before `time`, by the decisions' broker timestamps.
    ///
    /// # Errors
    /// Returns an error if the disk returns one or sled fails.
    pub fn remove_days_before(&mut self, time: Millis) -> Result<(), StoreError> {
        loop {
            let mut changes = Vec::new();
            if !self.catalogue.remove_first_day(time, &mut changes) {
                return Ok(());
            }
            self.write(changes, false)?;
        }
    }

    /// The sizes, for metrics.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let (index_entries, index_runs, index_days) = self.catalogue.sizes();
        let ledger_records = self.meta.ledger.count + self.meta.chunked;
        let disk_bytes = self.database.trees().map_or(0, Trees::disk_bytes);
        Sizes { ledger_records, index_entries, index_runs, index_days, disk_bytes }
    }
}
