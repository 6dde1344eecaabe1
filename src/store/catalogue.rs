//! The index of decisions in memory: per day a tail of entries and the fences of its sorted runs.
//!
//! On disk a tail is a few *chunks*, one per commit; a tail of [`SEAL`] entries becomes a *run*: sorted
//! entries in blocks of 256. [`FAN`] runs of one size are merged into one of the next, so that a day of
//! 10^7 decisions has some thirty runs, each entry written about four times. Of each run one block may hold a
//! round: the run's *fences*, the leading bits of each block's first hash, say which, and the block's filter
//! says whether to read it. Both are in memory, some two bytes an entry.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::Reader;
use super::entry::{Day, IndexEntry, Placed, RoundHash, day_of, pack, tidy};
use super::error::{StoreError, corrupt};
use super::record::Tree;
use super::run::{BlockId, FAN, Run, SEAL, TOP};
use crate::core::event::Millis;

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

/// Runs of one size and day that are due to be merged.
pub(super) struct Merge {
    day: Day,
    level: u32,
    runs: BTreeSet<u64>,
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

fn key(kind: u8, day: Day, id: u64, page: u32) -> Vec<u8> {
    [&[kind][..], &day.to_be_bytes(), &id.to_be_bytes(), &page.to_be_bytes()].concat()
}

fn read_key(bytes: &[u8]) -> Option<(u8, Day, u64, u32)> {
    let mut reader = Reader(bytes);
    let (kind, day) = (reader.byte()?, u32::from_be_bytes(reader.array()?));
    let (id, page) = (u64::from_be_bytes(reader.array()?), u32::from_be_bytes(reader.array()?));
    reader.is_empty().then_some((kind, day, id, page))
}

fn removed(tree: Tree, key: Vec<u8>) -> Change {
    Change { tree, key, payload: None }
}

fn drop_run(day: Day, run: &Run, changes: &mut Vec<Change>) {
    changes.extend(run.pages().map(|page| removed(Tree::Catalogue, key(RUN, day, run.id, page))));
    changes.extend(run.blocks().map(|block| removed(Tree::Blocks, block.key())));
}

impl Catalogue {
    /// An empty one whose next chunk or run has this number.
    pub(super) fn starting(next: u64) -> Self {
        Self { next, days: BTreeMap::new() }
    }

    /// Takes in a record of the catalogue, read from disk.
    pub(super) fn load(&mut self, key: &[u8], payload: &[u8]) -> Result<(), StoreError> {
        let unreadable = || corrupt("a record of the catalogue cannot be read");
        let (kind, day, id, page) = read_key(key).ok_or_else(unreadable)?;
        let index = self.days.entry(day).or_default();
        match kind {
            CHUNK => {
                index.tail.extend(super::entry::unpack(payload)?);
                index.chunks.push(id);
            }
            RUN => {
                if page == 0 {
                    index.runs.push(Run::new(id));
                }
                let run = index.runs.last_mut().filter(|run| run.id == id && run.continues(page));
                run.and_then(|run| run.load(payload)).ok_or_else(unreadable)?;
            }
            _ => return Err(unreadable()),
        }
        Ok(())
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn write_run(&mut self, day: Day, level: u32, entries: &[Placed], changes: &mut Vec<Change>) {
        let id = self.number();
        let (run, blocks) = Run::of(id, level, entries);
        changes.extend(blocks.into_iter().map(|(block, payload)| Change {
            tree: Tree::Blocks,
            key: block.key(),
            payload: Some(payload),
        }));
        changes.extend(run.pages().map(|page| {
            let payload = Some(run.pack(page));
            Change { tree: Tree::Catalogue, key: key(RUN, day, id, page), payload }
        }));
        self.days.entry(day).or_default().runs.push(run);
    }

    fn write_chunk(&mut self, day: Day, entries: &[Placed], changes: &mut Vec<Change>) {
        let id = self.number();
        changes.push(Change {
            tree: Tree::Catalogue,
            key: key(CHUNK, day, id, 0),
            payload: Some(pack(entries)),
        });
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
            changes.extend(index.chunks.drain(..).map(|id| removed(Tree::Catalogue, key(CHUNK, day, id, 0))));
            tidy(&mut all);
            self.write_run(day, Run::level_of(all.len()), &all, changes);
        }
    }

    /// Writes the chunks of tails that have many as one each.
    pub(super) fn rechunk(&mut self, changes: &mut Vec<Change>) {
        let many = |index: &DayIndex| index.chunks.len() >= CHUNKS;
        let days: Vec<_> = self.days.iter().filter(|(_, index)| many(index)).map(|(day, _)| *day).collect();
        for day in days {
            let index = self.days.entry(day).or_default();
            changes.extend(index.chunks.drain(..).map(|id| removed(Tree::Catalogue, key(CHUNK, day, id, 0))));
            let tail: Vec<_> = index.tail.iter().copied().collect();
            self.write_chunk(day, &tail, changes);
        }
    }

    /// The next merge that is due, small runs first.
    pub(super) fn due(&self) -> Option<Merge> {
        (0..TOP).find_map(|level| {
            self.days.iter().find_map(|(&day, index)| {
                let alike = || index.runs.iter().filter(|run| run.level == level);
                (alike().count() >= FAN).then(|| Merge {
                    day,
                    level,
                    runs: alike().map(|run| run.id).collect(),
                    blocks: alike().flat_map(Run::blocks).collect(),
                })
            })
        })
    }

    /// Puts one run in the place of those merged.
    pub(super) fn merged(&mut self, merge: &Merge, mut entries: Vec<Placed>, changes: &mut Vec<Change>) {
        tidy(&mut entries);
        let index = self.days.entry(merge.day).or_default();
        for run in index.runs.extract_if(.., |run| merge.runs.contains(&run.id)) {
            drop_run(merge.day, &run, changes);
        }
        self.write_run(merge.day, merge.level + 1, &entries, changes);
    }

    /// Forgets the earliest day that ends before `time`; false where there is none.
    pub(super) fn forget(&mut self, time: Millis, changes: &mut Vec<Change>) -> bool {
        let Some(first) = self.days.first_entry() else { return false };
        if *first.key() >= day_of(time) {
            return false;
        }
        let (day, index) = first.remove_entry();
        changes.extend(index.chunks.iter().map(|id| removed(Tree::Catalogue, key(CHUNK, day, *id, 0))));
        index.runs.iter().for_each(|run| drop_run(day, run, changes));
        true
    }

    /// The tails' entries of a round.
    pub(super) fn in_tails(&self, hash: RoundHash) -> impl Iterator<Item = Placed> {
        let least = crate::core::label::DecisionRef { partition: i32::MIN, offset: i64::MIN };
        let from = Placed { hash, round_time: i64::MIN, at: least };
        self.days.values().flat_map(move |index| {
            index.tail.range(from..).take_while(move |entry| entry.hash == hash).copied()
        })
    }

    /// The blocks that may hold entries of a round.
    pub(super) fn candidates(&self, hash: RoundHash) -> impl Iterator<Item = BlockId> {
        self.days.values().flat_map(|index| &index.runs).flat_map(move |run| run.candidates(hash))
    }

    /// (entries, runs, days) of the index; an entry indexed twice counts twice until its runs are merged.
    pub(super) fn sizes(&self) -> (u64, usize, usize) {
        let runs = || self.days.values().flat_map(|index| &index.runs);
        let tails: u64 = self.days.values().map(|index| index.tail.len() as u64).sum();
        (tails + runs().map(|run| run.entries).sum::<u64>(), runs().count(), self.days.len())
    }
}
