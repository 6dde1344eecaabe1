//! The envelope of every value in sled: a version byte, and a checksum over the place and the contents.
//!
//! sled 0.34 can lose or exchange pages after an abrupt stop. The checksum covers tree and key, so that it detects a
//! value under another key. A [`Tally`] over all records detects missing and stale ones.

use super::error::{StoreError, corrupt};

/// The version of all records. A store with another version is replaced by an empty one.
pub(super) const FORMAT: u8 = 1;

/// The number of bytes before the payload.
const HEADER_BYTES: usize = 5;

/// The trees of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tree {
    /// The meta record: offsets, positions and tallies.
    Meta = 0,
    /// The loose ledger records, which are not in a chunk yet.
    Ledger = 1,
    /// The index's segments and runs.
    Catalogue = 2,
    /// The blocks of runs.
    Blocks = 3,
    /// The chunks of ledger records, by number. On disk the tree is called `shelves`.
    Chunks = 4,
}

impl Tree {
    pub(super) const ALL: [Self; 5] = [Self::Meta, Self::Ledger, Self::Catalogue, Self::Blocks, Self::Chunks];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Ledger => "ledger",
            Self::Catalogue => "catalogue",
            Self::Blocks => "blocks",
            Self::Chunks => "shelves",
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

/// Wraps the payload of the record with the key `key`.
pub(super) fn seal(tree: Tree, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + payload.len());
    value.push(FORMAT);
    value.extend_from_slice(&checksum(tree, key, payload).to_le_bytes());
    value.extend_from_slice(payload);
    value
}

fn split(value: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (head, payload) = value.split_first_chunk::<HEADER_BYTES>()?;
    let [version, sum @ ..] = *head;
    Some((version, u32::from_le_bytes(sum), payload))
}

/// The payload of a value. Returns an error if the value is damaged or was written under another key.
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

/// The number and the sum of the weights of a set of records. A missing, stale or additional record changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) sum: u64,
}

impl Tally {
    /// The weight of a sealed value: its checksum, mixed to 64 bits (the finaliser of MurmurHash3), because sums of plain
    /// CRCs cancel out too easily.
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

    /// Adds the records of another tally.
    pub(super) fn add_tally(&mut self, other: Self) {
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
    fn a_record_round_trips() {
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
    fn a_value_under_another_key_or_tree_is_found() {
        let value = seal(Tree::Ledger, b"key", b"payload");
        assert!(unseal(Tree::Ledger, b"kez", &value).is_err());
        assert!(unseal(Tree::Blocks, b"key", &value).is_err());
    }

    #[test]
    fn a_tally_is_independent_of_order_and_detects_a_stale_record() {
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
