//! What every value in sled is wrapped in: a version byte and a checksum over its place and contents.
//!
//! sled 0.34 can lose or mix up pages after an abrupt stop. The checksum covers tree and key, so that a
//! value under another key is found; a [`Tally`] over all records finds those that are missing or stale.

use super::error::{StoreError, corrupt};

/// Version of everything that is written here. Another one on disk: the store is built again.
pub(super) const FORMAT: u8 = 1;

const HEAD: usize = 5;

/// The trees of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tree {
    /// Offset, positions, tallies: one record.
    Meta = 0,
    /// Ledger records that are on no shelf yet.
    Ledger = 1,
    /// The index's chunks and runs.
    Catalogue = 2,
    /// The blocks of runs.
    Blocks = 3,
    /// Shelves of ledger records, by number.
    Shelves = 4,
}

impl Tree {
    pub(super) const ALL: [Self; 5] =
        [Self::Meta, Self::Ledger, Self::Catalogue, Self::Blocks, Self::Shelves];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Ledger => "ledger",
            Self::Catalogue => "catalogue",
            Self::Blocks => "blocks",
            Self::Shelves => "shelves",
        }
    }
}

fn checksum(tree: Tree, key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[FORMAT, tree as u8]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

/// Wraps a payload that will stand under `key`.
pub(super) fn seal(tree: Tree, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + payload.len());
    value.push(FORMAT);
    value.extend_from_slice(&checksum(tree, key, payload).to_le_bytes());
    value.extend_from_slice(payload);
    value
}

fn split(value: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (head, payload) = value.split_first_chunk::<HEAD>()?;
    let [version, sum @ ..] = *head;
    Some((version, u32::from_le_bytes(sum), payload))
}

/// The payload of a value, if it is whole and stands where it was put.
pub(super) fn unseal<'a>(tree: Tree, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let Some((version, sum, payload)) = split(value) else {
        return Err(corrupt(format!("a record of {} is cut short", tree.name())));
    };
    if version != FORMAT {
        return Err(corrupt(format!(
            "a record of {} has version {version}, this program writes {FORMAT}",
            tree.name()
        )));
    }
    if sum != checksum(tree, key, payload) {
        return Err(corrupt(format!("a record of {} has a wrong checksum", tree.name())));
    }
    Ok(payload)
}

/// Number and sum of a set of records: a record that is missing, stale or too many changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) sum: u64,
}

impl Tally {
    /// What a sealed value adds to the sum: its checksum, spread over 64 bits (the finaliser of
    /// MurmurHash3), because sums of plain CRCs cancel out too easily.
    fn weight(value: &[u8]) -> u64 {
        let sum = split(value).map_or(0, |(_, sum, _)| u64::from(sum)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (sum ^ (sum >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^ (mixed >> 33)
    }

    pub(super) fn add(&mut self, value: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(Self::weight(value));
    }

    /// Adds what another has counted.
    pub(super) fn join(&mut self, other: Self) {
        self.count = self.count.wrapping_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    pub(super) fn remove(&mut self, value: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(Self::weight(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let value = seal(Tree::Ledger, b"key", b"payload");
        assert_eq!(unseal(Tree::Ledger, b"key", &value).ok(), Some(&b"payload"[..]));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let value = seal(Tree::Ledger, b"key", b"payload");
        for bit in 0..value.len() * 8 {
            let mut broken = value.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(Tree::Ledger, b"key", &broken).is_err(), "bit {bit}");
        }
        for end in 0..value.len() {
            assert!(unseal(Tree::Ledger, b"key", &value[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_value_elsewhere_is_found() {
        let value = seal(Tree::Ledger, b"key", b"payload");
        assert!(unseal(Tree::Ledger, b"kez", &value).is_err());
        assert!(unseal(Tree::Blocks, b"key", &value).is_err());
    }

    #[test]
    fn a_tally_does_not_depend_on_order_and_sees_a_stale_record() {
        let [one, two, stale] =
            ["one", "two", "stale"].map(|text| seal(Tree::Ledger, b"key", text.as_bytes()));
        let tally = |values: &[&Vec<u8>]| {
            let mut tally = Tally::default();
            values.iter().for_each(|value| tally.add(value));
            tally
        };
        assert_eq!(tally(&[&one, &two]), tally(&[&two, &one]));
        assert_ne!(tally(&[&one, &two]), tally(&[&one, &stale]));
        let mut less = tally(&[&one, &two]);
        less.remove(&two);
        assert_eq!(less, tally(&[&one]));
    }
}
