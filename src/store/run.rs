//! A run of the index: sorted entries in blocks, and the fences and filters in memory that select a block. `catalogue`
//! defines tails, runs and fences.

use super::bytes::{ByteReader, put_varint};
use super::entry::{BlockEntry, RoundHash, pack};
use super::filter::Filter;

/// The number of entries from which on a tail becomes a run.
pub(super) const TAIL_LIMIT: usize = 1_024;
/// The number of entries of a block.
const BLOCK_ENTRIES: usize = 256;
/// The number of runs of one size that are merged.
pub(super) const FAN_IN: usize = 8;
/// The level of the largest runs, which have 8^3 tails and are not merged further: a merge holds all its entries in
/// memory and in one transaction.
pub(super) const MAX_LEVEL: u32 = 3;
/// The number of blocks whose fences and filters are one record of some six kilobytes, so that sled's pages stay small.
const PAGE_BLOCKS: usize = 16;

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

/// A run without its blocks.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) level: u32,
    pub(super) entries: u64,
    fences: Vec<u64>,
    filters: Vec<Filter>,
}

impl Run {
    /// A run whose pages have not been loaded yet.
    pub(super) fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }

    /// The level of a tail that becomes a run. A tail of a large batch starts at a higher level.
    pub(super) fn level_of(entries: usize) -> u32 {
        (entries / TAIL_LIMIT).checked_ilog(FAN_IN).unwrap_or(0).min(MAX_LEVEL)
    }

    pub(super) fn pages(&self) -> impl Iterator<Item = u32> + use<> {
        (0..).zip(0..self.fences.len().div_ceil(PAGE_BLOCKS)).map(|(page, _)| page)
    }

    /// Encodes a page: level, number of entries, and fence and filter of each block.
    pub(super) fn pack(&self, page: u32) -> Vec<u8> {
        let blocks =
            self.fences.iter().zip(&self.filters).skip(page as usize * PAGE_BLOCKS).take(PAGE_BLOCKS);
        let mut payload = Vec::with_capacity(16 + PAGE_BLOCKS * (8 + Filter::SIZE));
        put_varint(&mut payload, self.level.into());
        put_varint(&mut payload, self.entries);
        put_varint(&mut payload, blocks.len() as u64);
        for (fence, filter) in blocks {
            payload.extend_from_slice(&fence.to_be_bytes());
            filter.put(&mut payload);
        }
        payload
    }

    /// Loads the next page; `None` if it cannot be decoded.
    pub(super) fn load(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = ByteReader(payload);
        self.level = u32::try_from(reader.varint()?).ok()?;
        self.entries = reader.varint()?;
        for _ in 0..reader.count(8 + Filter::SIZE)? {
            self.fences.push(u64::from_be_bytes(reader.array()?));
            self.filters.push(Filter::read(reader.array()?));
        }
        (reader.is_empty() && self.fences.is_sorted()).then_some(())
    }

    /// Returns `true` if `page` is the next page to load.
    pub(super) fn continues(&self, page: u32) -> bool {
        self.pages().count() == page as usize
    }

    /// A run of sorted entries, and its encoded blocks.
    pub(super) fn of(id: u64, level: u32, entries: &[BlockEntry]) -> (Self, Vec<(BlockId, Vec<u8>)>) {
        let mut run = Self { id, level, entries: entries.len() as u64, ..Self::default() };
        let mut blocks = Vec::with_capacity(entries.len().div_ceil(BLOCK_ENTRIES));
        for (ordinal, block) in (0u32..).zip(entries.chunks(BLOCK_ENTRIES)) {
            run.fences.push(block.first().expect("chunks are not empty").hash.lead());
            run.filters.push(Filter::of(block));
            blocks.push((BlockId { run: id, ordinal }, pack(block)));
        }
        (run, blocks)
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = BlockId> + use<> {
        let run = self.id;
        (0u32..).zip(0..self.fences.len()).map(move |(ordinal, _)| BlockId { run, ordinal })
    }

    /// The blocks that may hold a round: one, or two if its entries cross their border.
    pub(super) fn candidates(&self, hash: RoundHash) -> impl Iterator<Item = BlockId> {
        let lead = hash.lead();
        // The block before the first fence that is not lower may end with the round.
        let from = self.fences.partition_point(|fence| *fence < lead).saturating_sub(1);
        let to = self.fences.partition_point(|fence| *fence <= lead);
        let near = self.blocks().zip(&self.filters).skip(from).take(to.saturating_sub(from));
        near.filter(move |(_, filter)| filter.may_hold(hash)).map(|(block, _)| block)
    }
}
