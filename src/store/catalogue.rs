//! The index of decisions in memory: per day a tail of entries and the fences of its sorted runs.
//!
//! On disk a tail is a few *chunks*, one per commit; a tail of [`SEAL`] entries becomes a *run*: sorted
//! entries in blocks of [`BLOCK`]. [`FAN`] runs of one size are merged into one of the next, so that a day of
//! 10^7 decisions has some thirty runs, each written about four times. A lookup reads one block per run,
//! found by the run's *fences*: the leading bits of each block's first hash.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::{Reader, put_varint};
use super::entry::{Day, IndexEntry, Placed, RoundHash, day_of, pack, tidy};
use super::error::{StoreError, corrupt};
use super::record::Tree;
use crate::core::event::Millis;

/// Entries of a tail that becomes a run.
const SEAL: usize = 1_024;
/// Entries of a block.
const BLOCK: usize = 256;
/// Runs of one size that are merged.
const FAN: usize = 8;
/// Runs of 8^3 tails are not merged further: a merge holds all its entries in memory and one transaction.
const TOP: u32 = 3;
/// Chunks of a tail that are rewritten as one.
const CHUNKS: usize = 32;

/// A change of one record; no payload: it is removed.
pub(super) struct Change {
    pub(super) tree: Tree,
    pub(super) key: Vec<u8>,
    pub(super) payload: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct DayIndex {
    tail: BTreeSet<Placed>,
    chunks: Vec<u64>,
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    id: u64,
    entries: u64,
    fences: Vec<u64>,
}

impl Run {
    fn level(&self) -> u32 {
        (self.entries / SEAL as u64).checked_ilog(FAN as u64).unwrap_or(0).min(TOP)
    }
}

/// A block of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockId {
    pub(super) run: u64,
    pub(super) ordinal: u32,
}

impl BlockId {
    pub(super) fn key(self) -> Vec<u8> {
        [&self.run.to_be_bytes()[..], &self.ordinal.to_be_bytes()].concat()
    }
}

/// Runs of one size and day that are due to be merged.
pub(super) struct Merge {
    pub(super) day: Day,
    pub(super) runs: BTreeSet<u64>,
    pub(super) blocks: Vec<BlockId>,
}

/// The whole index, but for the blocks.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// The number of the next chunk or run.
    pub(super) next: u64,
    days: BTreeMap<Day, DayIndex>,
}

const CHUNK: u8 = b'c';
const RUN: u8 = b'r';

fn key(kind: u8, day: Day, id: u64) -> Vec<u8> {
    [&[kind][..], &day.to_be_bytes(), &id.to_be_bytes()].concat()
}

fn read_key(bytes: &[u8]) -> Option<(u8, Day, u64)> {
    let mut reader = Reader(bytes);
    let read = (reader.byte()?, u32::from_be_bytes(reader.array()?), u64::from_be_bytes(reader.array()?));
    reader.is_empty().then_some(read)
}

fn read_run(id: u64, payload: &[u8]) -> Option<Run> {
    let mut reader = Reader(payload);
    let entries = reader.varint()?;
    let blocks = reader.count(8)?;
    let fences = (0..blocks).map(|_| reader.array().map(u64::from_be_bytes)).collect::<Option<Vec<_>>>()?;
    (reader.is_empty() && fences.is_sorted()).then_some(Run { id, entries, fences })
}

fn removed(tree: Tree, key: Vec<u8>) -> Change {
    Change { tree, key, payload: None }
}

fn blocks(run: &Run) -> impl Iterator<Item = BlockId> + use<> {
    let id = run.id;
    (0u32..).zip(0..run.fences.len()).map(move |(ordinal, _)| BlockId { run: id, ordinal })
}

impl Catalogue {
    /// An empty one whose next chunk or run has this number.
    pub(super) fn starting(next: u64) -> Self {
        Self { next, days: BTreeMap::new() }
    }

    /// Takes in a record of the catalogue, read from disk.
    pub(super) fn load(&mut self, key: &[u8], payload: &[u8]) -> Result<(), StoreError> {
        let unreadable = || corrupt("a record of the catalogue cannot be read");
        let (kind, day, id) = read_key(key).ok_or_else(unreadable)?;
        let index = self.days.entry(day).or_default();
        match kind {
            CHUNK => {
                index.tail.extend(super::entry::unpack(payload)?);
                index.chunks.push(id);
            }
            RUN => index.runs.push(read_run(id, payload).ok_or_else(unreadable)?),
            _ => return Err(unreadable()),
        }
        Ok(())
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn write_run(&mut self, day: Day, entries: &[Placed], changes: &mut Vec<Change>) {
        if entries.is_empty() {
            return;
        }
        let id = self.number();
        let mut fences = Vec::with_capacity(entries.len() / BLOCK + 1);
        for (ordinal, block) in (0u32..).zip(entries.chunks(BLOCK)) {
            fences.push(block.first().map_or(0, |first| first.hash.lead()));
            let key = BlockId { run: id, ordinal }.key();
            changes.push(Change { tree: Tree::Blocks, key, payload: Some(pack(block)) });
        }
        let mut payload = Vec::with_capacity(16 + fences.len() * 8);
        put_varint(&mut payload, entries.len() as u64);
        put_varint(&mut payload, fences.len() as u64);
        fences.iter().for_each(|fence| payload.extend_from_slice(&fence.to_be_bytes()));
        changes.push(Change { tree: Tree::Catalogue, key: key(RUN, day, id), payload: Some(payload) });
        self.days.entry(day).or_default().runs.push(Run { id, entries: entries.len() as u64, fences });
    }

    fn write_chunk(&mut self, day: Day, entries: &[Placed], changes: &mut Vec<Change>) {
        let id = self.number();
        changes.push(Change { tree: Tree::Catalogue, key: key(CHUNK, day, id), payload: Some(pack(entries)) });
        self.days.entry(day).or_default().chunks.push(id);
    }

    /// Adds entries; those that a tail already has change nothing.
    pub(super) fn add(&mut self, entries: &[IndexEntry], changes: &mut Vec<Change>) {
        let mut fresh: BTreeMap<Day, Vec<Placed>> = BTreeMap::new();
        for entry in entries {
            let (day, placed) = (entry.day(), entry.placed());
            if self.days.entry(day).or_default().tail.insert(placed) {
                fresh.entry(day).or_default().push(placed);
            }
        }
        for (day, mut fresh) in fresh {
            let index = self.days.entry(day).or_default();
            if index.tail.len() < SEAL {
                fresh.sort();
                self.write_chunk(day, &fresh, changes);
                continue;
            }
            let mut all: Vec<_> = std::mem::take(&mut index.tail).into_iter().collect();
            changes.extend(index.chunks.drain(..).map(|id| removed(Tree::Catalogue, key(CHUNK, day, id))));
            tidy(&mut all);
            self.write_run(day, &all, changes);
        }
    }

    /// Writes the chunks of tails that have many as one each.
    pub(super) fn rechunk(&mut self, changes: &mut Vec<Change>) {
        let many = |index: &DayIndex| index.chunks.len() >= CHUNKS;
        let days: Vec<_> = self.days.iter().filter(|(_, index)| many(index)).map(|(day, _)| *day).collect();
        for day in days {
            let index = self.days.entry(day).or_default();
            changes.extend(index.chunks.drain(..).map(|id| removed(Tree::Catalogue, key(CHUNK, day, id))));
            let tail: Vec<_> = index.tail.iter().copied().collect();
            self.write_chunk(day, &tail, changes);
        }
    }

    /// The next merge that is due, small runs first.
    pub(super) fn due(&self) -> Option<Merge> {
        (0..TOP).find_map(|level| {
            self.days.iter().find_map(|(&day, index)| {
                let alike = || index.runs.iter().filter(|run| run.level() == level);
                (alike().count() >= FAN).then(|| Merge {
                    day,
                    runs: alike().map(|run| run.id).collect(),
                    blocks: alike().flat_map(blocks).collect(),
                })
            })
        })
    }

    /// Puts one run in the place of those merged.
    pub(super) fn merged(&mut self, merge: &Merge, mut entries: Vec<Placed>, changes: &mut Vec<Change>) {
        tidy(&mut entries);
        let index = self.days.entry(merge.day).or_default();
        index.runs.retain(|run| !merge.runs.contains(&run.id));
        let runs = merge.runs.iter().map(|id| removed(Tree::Catalogue, key(RUN, merge.day, *id)));
        changes.extend(runs.chain(merge.blocks.iter().map(|block| removed(Tree::Blocks, block.key()))));
        self.write_run(merge.day, &entries, changes);
    }

    /// Forgets the earliest day that ends before `time`; false where there is none.
    pub(super) fn forget(&mut self, time: Millis, changes: &mut Vec<Change>) -> bool {
        let Some(first) = self.days.first_entry() else { return false };
        if *first.key() >= day_of(time) {
            return false;
        }
        let (day, index) = first.remove_entry();
        changes.extend(index.chunks.iter().map(|id| removed(Tree::Catalogue, key(CHUNK, day, *id))));
        for run in &index.runs {
            changes.push(removed(Tree::Catalogue, key(RUN, day, run.id)));
            changes.extend(blocks(run).map(|block| removed(Tree::Blocks, block.key())));
        }
        true
    }

    /// The tails' entries of a round.
    pub(super) fn in_tails(&self, hash: RoundHash) -> impl Iterator<Item = Placed> {
        let least = crate::core::label::DecisionRef { partition: i32::MIN, offset: i64::MIN };
        let from = Placed { hash, round_time: i64::MIN, at: least };
        self.days
            .values()
            .flat_map(move |index| index.tail.range(from..).take_while(move |entry| entry.hash == hash).copied())
    }

    /// The blocks that may hold entries of a round.
    pub(super) fn candidates(&self, hash: RoundHash) -> impl Iterator<Item = BlockId> {
        let lead = hash.lead();
        self.days.values().flat_map(|index| &index.runs).flat_map(move |run| {
            // The block before the first fence that is not lower may end with the round.
            let from = run.fences.partition_point(|fence| *fence < lead).saturating_sub(1);
            let to = run.fences.partition_point(|fence| *fence <= lead);
            blocks(run).skip(from).take(to.saturating_sub(from))
        })
    }

    /// (entries, runs, days) of the index; an entry indexed twice counts twice until its runs are merged.
    pub(super) fn sizes(&self) -> (u64, usize, usize) {
        let runs = || self.days.values().flat_map(|index| &index.runs);
        let tails: u64 = self.days.values().map(|index| index.tail.len() as u64).sum();
        (tails + runs().map(|run| run.entries).sum::<u64>(), runs().count(), self.days.len())
    }
}
