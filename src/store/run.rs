//! A run of the index: sorted entries in blocks, with what is kept in memory to find the right one.

use super::bytes::{Reader, put_varint};
use super::entry::{Placed, RoundHash, pack};
use super::filter::Filter;

/// Entries of a tail that becomes a run.
pub(super) const SEAL: usize = 1_024;
/// Entries of a block.
const BLOCK: usize = 256;
/// Runs of one size that are merged.
pub(super) const FAN: usize = 8;
/// Runs of 8^3 tails are not merged further: a merge holds all its entries in memory and one transaction.
pub(super) const TOP: u32 = 3;
/// Blocks whose fences and filters are one record: some six kilobytes, so that sled's pages stay small.
const PAGE: usize = 16;

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

/// A run, without its blocks.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) level: u32,
    pub(super) entries: u64,
    fences: Vec<u64>,
    filters: Vec<Filter>,
}

impl Run {
    /// One whose pages are still to be read.
    pub(super) fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }

    /// The level of a tail that is sealed: a large batch begins higher.
    pub(super) fn level_of(entries: usize) -> u32 {
        (entries / SEAL).checked_ilog(FAN).unwrap_or(0).min(TOP)
    }

    pub(super) fn pages(&self) -> impl Iterator<Item = u32> + use<> {
        (0..).zip(0..self.fences.len().div_ceil(PAGE)).map(|(page, _)| page)
    }

    /// Level, entries, and fence and filter of each block.
    pub(super) fn pack(&self, page: u32) -> Vec<u8> {
        let blocks = self.fences.iter().zip(&self.filters).skip(page as usize * PAGE).take(PAGE);
        let mut payload = Vec::with_capacity(16 + PAGE * (8 + Filter::SIZE));
        put_varint(&mut payload, self.level.into());
        put_varint(&mut payload, self.entries);
        put_varint(&mut payload, blocks.len() as u64);
        for (fence, filter) in blocks {
            payload.extend_from_slice(&fence.to_be_bytes());
            filter.put(&mut payload);
        }
        payload
    }

    /// Takes in the next page.
    pub(super) fn load(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader(payload);
        self.level = u32::try_from(reader.varint()?).ok()?;
        self.entries = reader.varint()?;
        for _ in 0..reader.count(8 + Filter::SIZE)? {
            self.fences.push(u64::from_be_bytes(reader.array()?));
            self.filters.push(Filter::read(reader.array()?));
        }
        (reader.is_empty() && self.fences.is_sorted()).then_some(())
    }

    /// The next page is this one.
    pub(super) fn continues(&self, page: u32) -> bool {
        self.pages().count() == page as usize
    }

    /// Makes a run of sorted entries, with its blocks.
    pub(super) fn of(id: u64, level: u32, entries: &[Placed]) -> (Self, Vec<(BlockId, Vec<u8>)>) {
        let mut run = Self { id, level, entries: entries.len() as u64, ..Self::default() };
        let mut blocks = Vec::with_capacity(entries.len().div_ceil(BLOCK));
        for (ordinal, block) in (0u32..).zip(entries.chunks(BLOCK)) {
            run.fences.push(block.first().map_or(0, |first| first.hash.lead()));
            run.filters.push(Filter::of(block));
            blocks.push((BlockId { run: id, ordinal }, pack(block)));
        }
        (run, blocks)
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = BlockId> + use<> {
        let run = self.id;
        (0u32..).zip(0..self.fences.len()).map(move |(ordinal, _)| BlockId { run, ordinal })
    }

    /// The blocks that may hold a round: one, or two where it lies on their border.
    pub(super) fn candidates(&self, hash: RoundHash) -> impl Iterator<Item = BlockId> {
        let lead = hash.lead();
        // The block before the first fence that is not lower may end with the round.
        let from = self.fences.partition_point(|fence| *fence < lead).saturating_sub(1);
        let to = self.fences.partition_point(|fence| *fence <= lead);
        let near = self.blocks().zip(&self.filters).skip(from).take(to.saturating_sub(from));
        near.filter(move |(_, filter)| filter.may_hold(hash)).map(|(block, _)| block)
    }
}
