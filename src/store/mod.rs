//! sled, through one door.
//!
//! The learner's memory on disk: ledger records, where each decision lies, and up to where both reflect
//! their topics. It is written after the Kafka commit that it reflects, in one transaction, and is never the
//! only copy: what is missing, stale, cut or flipped is found (by checksums over every record, and by tallies
//! over the ledger and the index's catalogue) and the folder is made anew, to be filled from the topics.
//!
//! The index of decisions is kept in sorted blocks by day (one entry each costs sled some 160 bytes), the ledger on
//! shelves of many records.

mod bytes;
mod catalogue;
mod database;
mod entry;
mod error;
mod filter;
mod folder;
mod ledger;
mod meta;
mod record;
mod run;
mod shelf;
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

/// What was found where the store was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: the store is new and empty.
    Fresh,
    /// A whole store.
    Found,
    /// Something that could not be trusted. It was removed; the store is new and empty.
    Rebuilt {
        /// What was wrong with it.
        why: String,
    },
}

/// What one Kafka commit leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// Ledger records by key; `None` deletes. Of several for one key the last holds.
    pub ledger: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The ledger topic's offset after these records; `None` leaves it as it is.
    pub ledger_offset: Option<i64>,
    /// (partition, next offset) of the decisions topic up to which the index reaches; others stay.
    pub decisions: Vec<(i32, i64)>,
    /// (partition, offset) of decisions before these positions that cannot be read. The first of each partition is kept.
    pub skipped: Vec<(i32, i64)>,
    /// Decisions for the index, in any order, again or not.
    pub indexed: Vec<IndexEntry>,
}

/// Sizes, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Ledger records; one that was written again may count twice.
    pub ledger_records: u64,
    /// Entries of the index; one indexed twice may count twice for a while.
    pub index_entries: u64,
    /// Sorted runs of the index: a lookup reads a block of each.
    pub index_runs: usize,
    /// Days of the index.
    pub index_days: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// The store. One at a time per folder.
///
/// After an error of the disk it is abandoned: never flushed or dropped, and its folder stays locked until the process
/// ends (`docs/decisions/0010`).
#[derive(Debug)]
pub struct Store {
    database: Database,
    meta: Meta,
    catalogue: Catalogue,
}

fn load(trees: &Trees) -> Result<(Meta, Catalogue), StoreError> {
    let record = trees.get(Tree::Meta, Meta::KEY)?.ok_or_else(|| corrupt("its contents are gone"))?;
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
    /// Opens the store in the folder `path`, which is made if it is missing. What cannot be trusted is
    /// removed, and a fresh store made in its place.
    ///
    /// # Errors
    /// Where another process has the folder, or the disk refuses.
    pub fn open(path: &Path) -> Result<(Self, Opened), StoreError> {
        Self::open_until(path, Arc::new(|| false))
    }

    /// As [`open`](Self::open); a call that hangs is given up when `stop` returns `true`.
    ///
    /// # Errors
    /// Where another process has the folder, or the disk refuses or does not answer.
    pub fn open_until(path: &Path, stop: Stop) -> Result<(Self, Opened), StoreError> {
        let mut database = Database::new(Folder::lock(path)?, stop)?;
        let why = match database.folder().mark()? {
            Mark::Missing => return Ok((Self::fresh(database)?, Opened::Fresh)),
            Mark::Other(said) => format!("it is marked \"{said}\", which this program does not read"),
            Mark::Current => match database.open(load) {
                Ok((meta, catalogue)) => return Ok((Self { database, meta, catalogue }, Opened::Found)),
                Err(StoreError::Corrupt { why }) => why,
                Err(other) => return Err(other),
            },
        };
        Ok((Self::fresh(database)?, Opened::Rebuilt { why }))
    }

    /// Opens the store in the folder `path` as it is: nothing is made or removed. `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if another process has the folder, if the store cannot be trusted, or if the disk refuses.
    pub fn existing(path: &Path) -> Result<Option<Self>, StoreError> {
        if !Folder::is_marked(path) {
            return Ok(None);
        }
        let mut database = Database::new(Folder::lock(path)?, Arc::new(|| false))?;
        if let Mark::Other(said) = database.folder().mark()? {
            return Err(corrupt(format!("it is marked \"{said}\", which this program does not read")));
        }
        let (meta, catalogue) = database.open(load)?;
        Ok(Some(Self { database, meta, catalogue }))
    }

    fn fresh(mut database: Database) -> Result<Self, StoreError> {
        database.close()?;
        database.folder().clear()?;
        database.open(|_| Ok(()))?;
        let mut store = Self { database, meta: Meta::default(), catalogue: Catalogue::default() };
        store.write(Vec::new(), true)?;
        store.database.folder().write_mark()?;
        Ok(store)
    }

    /// Throws the contents away, after [`StoreError::Corrupt`] or where they are stale, and starts afresh.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn rebuild(self, why: &str) -> Result<(Self, Opened), StoreError> {
        Ok((Self::fresh(self.database)?, Opened::Rebuilt { why: why.to_owned() }))
    }

    /// Changes records and the meta record in one transaction, and waits for the disk where `flush`.
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

    /// Writes what a Kafka commit left behind: all of it or nothing. On disk when this returns.
    ///
    /// # Errors
    /// Where the disk refuses or sled fails. Whether the batch was written is then unknown: drop the store,
    /// open it again, and go on from the offsets that it names.
    pub fn commit(&mut self, batch: WriteBatch) -> Result<(), StoreError> {
        let WriteBatch { ledger, ledger_offset, decisions, skipped, indexed } = batch;
        let mut changes = Vec::new();
        self.written(ledger, &mut changes)?;
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

    /// Merges what is due. Not waited for: what a crash undoes is merged again.
    fn merge(&mut self) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        self.tidy(&mut changes)?;
        self.catalogue.rechunk(&mut changes);
        if !changes.is_empty() {
            self.write(changes, false)?;
        }
        while let Some(merge) = self.catalogue.due() {
            let mut entries = Vec::new();
            for block in &merge.blocks {
                entries.extend(self.block(block.key())?);
            }
            let mut changes = Vec::new();
            self.catalogue.merged(&merge, entries, &mut changes);
            self.write(changes, false)?;
        }
        Ok(())
    }

    fn block(&self, key: Vec<u8>) -> Result<Vec<entry::Placed>, StoreError> {
        self.database.read(move |trees| {
            let value = trees.get(Tree::Blocks, &key)?;
            let value = value.ok_or_else(|| corrupt("a block of the index is missing"))?;
            unpack(unseal(Tree::Blocks, &key, &value)?)
        })
    }

    /// The ledger topic's offset that the ledger reflects; `None` before the first commit with one.
    #[must_use]
    pub fn ledger_offset(&self) -> Option<i64> {
        self.meta.ledger_offset
    }

    /// Next offsets of the decisions topic, by partition, up to which the index reaches.
    #[must_use]
    pub fn decision_positions(&self) -> &BTreeMap<i32, i64> {
        &self.meta.decisions
    }

    /// Notes that decisions are read by `reader` from now on, a number that stands for the schemas that it reads. If another
    /// reader has passed decisions that it could not read, the positions go back to the first of them. If the store comes
    /// from a version that did not note them, and `waits` says that labels wait for decisions, they go back to the
    /// beginning. Returns the partitions that are read again, with the position of each before.
    ///
    /// # Errors
    /// Returns an error if the disk refuses or sled fails.
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
        let again = |(partition, _): &(i32, i64)| self.meta.decisions.get(partition) != before.get(partition);
        Ok(before.iter().map(|(partition, next)| (*partition, *next)).filter(again).collect())
    }

    /// The topics that the store was filled from.
    #[must_use]
    pub fn topic_ids(&self) -> &TopicIds {
        &self.meta.origins
    }

    /// Notes the topics that the store is filled from.
    ///
    /// # Errors
    /// Returns an error if the disk refuses or sled fails.
    pub fn set_topic_ids(&mut self, origins: TopicIds) -> Result<(), StoreError> {
        if self.meta.origins == origins {
            return Ok(());
        }
        self.meta.origins = origins;
        self.write(Vec::new(), true)
    }

    /// Sets the ledger topic's offset from which the learner reads on.
    ///
    /// # Errors
    /// Returns an error if the disk refuses or sled fails.
    pub fn set_ledger_offset(&mut self, offset: i64) -> Result<(), StoreError> {
        self.meta.ledger_offset = Some(offset);
        self.write(Vec::new(), true)
    }

    /// Empties the index of decisions, which is then filled from the first decision kept.
    ///
    /// # Errors
    /// Returns an error if the disk refuses or sled fails.
    pub fn clear_index(&mut self) -> Result<(), StoreError> {
        // Before its entries: an index that is half gone is filled again, too.
        self.meta.decisions.clear();
        self.meta.skipped.clear();
        self.meta.unsure = false;
        self.write(Vec::new(), true)?;
        self.remove_days_before(Millis::MAX)
    }

    /// The decisions about an event, the lowest by (round time, place) first, at most [`MAX_PER_ROUND`].
    /// Rounds are known by a hash: compare the id of the decision that is read.
    ///
    /// # Errors
    /// Where a block is missing or broken, or the disk refuses.
    pub fn find(&self, id: &RoundId) -> Result<Vec<(Millis, DecisionRef)>, StoreError> {
        let hash = RoundHash::of(id);
        let mut found: BTreeSet<_> =
            self.catalogue.in_tails(hash).map(|entry| (entry.round_time, entry.at)).collect();
        for block in self.catalogue.candidates(hash) {
            let entries = self.block(block.key())?;
            let from = entries.partition_point(|entry| entry.hash < hash);
            let alike = entries.iter().skip(from).take_while(|entry| entry.hash == hash);
            found.extend(alike.map(|entry| (entry.round_time, entry.at)));
        }
        Ok(found.into_iter().take(MAX_PER_ROUND).collect())
    }

    /// Drops the whole days of the index that end before `time`, by the decisions' broker timestamps.
    ///
    /// # Errors
    /// Where the disk refuses or sled fails.
    pub fn remove_days_before(&mut self, time: Millis) -> Result<(), StoreError> {
        loop {
            let mut changes = Vec::new();
            if !self.catalogue.forget(time, &mut changes) {
                return Ok(());
            }
            self.write(changes, false)?;
        }
    }

    /// Sizes, for metrics.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let (index_entries, index_runs, index_days) = self.catalogue.sizes();
        let ledger_records = self.meta.ledger.count + self.meta.shelved;
        let disk_bytes = self.database.trees().map_or(0, Trees::disk_bytes);
        Sizes { ledger_records, index_entries, index_runs, index_days, disk_bytes }
    }
}
