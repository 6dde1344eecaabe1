//! The index of decisions in memory: for each day a tail of entries and the fences of its sorted runs.
//!
//! On disk a tail is a few *segments*, one per commit; a tail of [`TAIL_LIMIT`] entries becomes a *run*: sorted
//! entries in blocks of 256. [`FAN_IN`] runs of one size are merged into one of the next, so that a day of
//! 10^7 decisions has some thirty runs, and each entry is written about four times. In each run one block may hold a
//! round: the run's *fences*, the leading bits of each block's first hash, select the block, and the block's filter
//! decides if it is read. Both are in memory and take some two bytes per entry.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::ByteReader;
use super::entry::{BlockEntry, Day, IndexEntry, RoundHash, day_of, normalize, pack};
use super::error::{StoreError, corrupt};
use super::record::Tree;
use super::run::{BlockId, FAN_IN, MAX_LEVEL, Run, TAIL_LIMIT};
use crate::core::event::Millis;

/// The number of segments of a tail that are rewritten as one.
const MAX_SEGMENTS: usize = 32;

/// A change of one record. A payload of `None` removes it.
pub(super) struct Change {
    pub(super) tree: Tree,
    pub(super) key: Vec<u8>,
    pub(super) payload: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct DayIndex {
    tail: BTreeSet<BlockEntry>,
    segments: Vec<u64>,
    runs: Vec<Run>,
}

/// A merge of the runs of one size and day.
pub(super) struct Merge {
    day: Day,
    level: u32,
    runs: BTreeSet<u64>,
    pub(super) blocks: Vec<BlockId>,
}

/// The index without its blocks, which are only on disk.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// The id of the next segment or run.
    pub(super) next: u64,
    days: BTreeMap<Day, DayIndex>,
}

const SEGMENT: u8 = b'c';
const RUN: u8 = b'r';

fn key(kind: u8, day: Day, id: u64, page: u32) -> Vec<u8> {
    [&[kind][..], &day.to_be_bytes(), &id.to_be_bytes(), &page.to_be_bytes()].concat()
}

fn read_key(bytes: &[u8]) -> Option<(u8, Day, u64, u32)> {
    let mut reader = ByteReader(bytes);
    let (kind, day) = (reader.byte()?, u32::from_be_bytes(reader.array()?));
    let (id, page) = (u64::from_be_bytes(reader.array()?), u32::from_be_bytes(reader.array()?));
    reader.is_empty().then_some((kind, day, id, page))
}

fn removed(tree: Tree, key: Vec<u8>) -> Change {
    Change { tree, key, payload: None }
}

fn remove_run(day: Day, run: &Run, changes: &mut Vec<Change>) {
    changes.extend(run.pages().map(|page| removed(Tree::Catalogue, key(RUN, day, run.id, page))));
    changes.extend(run.blocks().map(|block| removed(Tree::Blocks, block.key())));
}

impl Catalogue {
    /// An empty catalogue whose next segment or run has the id `next`.
    pub(super) fn starting(next: u64) -> Self {
        Self { next, days: BTreeMap::new() }
    }

    /// Adds a record of the catalogue that was read from disk.
    pub(super) fn load(&mut self, key: &[u8], payload: &[u8]) -> Result<(), StoreError> {
        let unreadable = || corrupt("a record of the catalogue cannot be read");
        let (kind, day, id, page) = read_key(key).ok_or_else(unreadable)?;
        let index = self.days.entry(day).or_default();
        match kind {
            SEGMENT => {
                index.tail.extend(super::entry::unpack(payload)?);
                index.segments.push(id);
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

    fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn write_run(&mut self, day: Day, level: u32, entries: &[BlockEntry], changes: &mut Vec<Change>) {
        let id = self.take_number();
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

    fn write_segment(&mut self, day: Day, entries: &[BlockEntry], changes: &mut Vec<Change>) {
        let id = self.take_number();
        changes.push(Change {
            tree: Tree::Catalogue,
            key: key(SEGMENT, day, id, 0),
            payload: Some(pack(entries)),
        });
        self.days.entry(day).or_default().segments.push(id);
    }

    /// Adds entries. Entries that are in the tail already are ignored.
    pub(super) fn add(&mut self, entries: &[IndexEntry], changes: &mut Vec<Change>) {
        let mut added: BTreeMap<Day, Vec<BlockEntry>> = BTreeMap::new();
        for entry in entries {
            let (day, placed) = (entry.day(), entry.block_entry());
            if self.days.entry(day).or_default().tail.insert(placed) {
                added.entry(day).or_default().push(placed);
            }
        }
        for (day, mut added) in added {
            let index = self.days.entry(day).or_default();
            if index.tail.len() < TAIL_LIMIT {
                added.sort();
                self.write_segment(day, &added, changes);
                continue;
            }
            let mut all: Vec<_> = std::mem::take(&mut index.tail).into_iter().collect();
            changes.extend(
                index.segments.drain(..).map(|id| removed(Tree::Catalogue, key(SEGMENT, day, id, 0))),
            );
            normalize(&mut all);
            self.write_run(day, Run::level_of(all.len()), &all, changes);
        }
    }

    /// Rewrites the segments of each tail that has many as one segment.
    pub(super) fn merge_segments(&mut self, changes: &mut Vec<Change>) {
        let many = |index: &DayIndex| index.segments.len() >= MAX_SEGMENTS;
        let days: Vec<_> = self.days.iter().filter(|(_, index)| many(index)).map(|(day, _)| *day).collect();
        for day in days {
            let index = self.days.entry(day).or_default();
            changes.extend(
                index.segments.drain(..).map(|id| removed(Tree::Catalogue, key(SEGMENT, day, id, 0))),
            );
            let tail: Vec<_> = index.tail.iter().copied().collect();
            self.write_segment(day, &tail, changes);
        }
    }

    /// The next merge. Small runs are merged first.
    pub(super) fn next_merge(&self) -> Option<Merge> {
        (0..MAX_LEVEL).find_map(|level| {
            self.days.iter().find_map(|(&day, index)| {
                let same_level = || index.runs.iter().filter(|run| run.level == level);
                (same_level().count() >= FAN_IN).then(|| Merge {
                    day,
                    level,
                    runs: same_level().map(|run| run.id).collect(),
                    blocks: same_level().flat_map(Run::blocks).collect(),
                })
            })
        })
    }

    /// Replaces the merged runs by one run of `entries`.
    pub(super) fn replace_merged(
        &mut self,
        merge: &Merge,
        mut entries: Vec<BlockEntry>,
        changes: &mut Vec<Change>,
    ) {
        normalize(&mut entries);
        let index = self.days.entry(merge.day).or_default();
        for run in index.runs.extract_if(.., |run| merge.runs.contains(&run.id)) {
            remove_run(merge.day, &run, changes);
        }
        self.write_run(merge.day, merge.level + 1, &entries, changes);
    }

    /// Removes the earliest day that ends before `time`. Returns `false` if there is none.
    pub(super) fn remove_first_day(&mut self, time: Millis, changes: &mut Vec<Change>) -> bool {
        let Some(first) = self.days.first_entry() else { return false };
        if *first.key() >= day_of(time) {
            return false;
        }
        let (day, index) = first.remove_entry();
        changes.extend(index.segments.iter().map(|id| removed(Tree::Catalogue, key(SEGMENT, day, *id, 0))));
        index.runs.iter().for_each(|run| remove_run(day, run, changes));
        true
    }

    /// The entries of a round in the tails.
    pub(super) fn tail_entries(&self, hash: RoundHash) -> impl Iterator<Item = BlockEntry> {
        let least = crate::core::label::DecisionRef { partition: i32::MIN, offset: i64::MIN };
        let from = BlockEntry { hash, round_time: i64::MIN, at: least };
        self.days.values().flat_map(move |index| {
            index.tail.range(from..).take_while(move |entry| entry.hash == hash).copied()
        })
    }

    /// The blocks that may hold entries of a round.
    pub(super) fn candidates(&self, hash: RoundHash) -> impl Iterator<Item = BlockId> {
        self.days.values().flat_map(|index| &index.runs).flat_map(move |run| run.candidates(hash))
    }

    /// The number of (entries, runs, days). An entry that was indexed twice counts twice until its runs are merged.
    pub(super) fn sizes(&self) -> (u64, usize, usize) {
        let runs = || self.days.values().flat_map(|index| &index.runs);
        let tails: u64 = self.days.values().map(|index| index.tail.len() as u64).sum();
        (tails + runs().map(|run| run.entries).sum::<u64>(), runs().count(), self.days.len())
    }
}
