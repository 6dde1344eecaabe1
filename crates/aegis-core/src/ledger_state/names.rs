//! Interned names: each (group, text) has one number, which is found without allocation.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::Full;

/// Names, numbered from 0 in the order of their first appearance. A name takes about 17 bytes beside its text.
///
/// The hash is keyed, because event ids come from outside. Nothing depends on its order.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    /// The end of each name in `text`. It starts at the end of the one before.
    ends: Vec<usize>,
    groups: Vec<u32>,
    /// A hash table with open addressing and linear probing. Its length is a power of two, or zero, and it is at
    /// most three quarters full.
    table: Vec<Slot>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    number: u32,
}

const EMPTY: Slot = Slot { hash: 0, number: u32::MAX };

impl Names {
    /// Returns `true` if there is no name.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text of the name with this number.
    ///
    /// # Panics
    /// Panics if no name has this number.
    pub(super) fn text(&self, number: u32) -> &str {
        let at = number as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    /// The group of the name with this number.
    ///
    /// # Panics
    /// Panics if no name has this number.
    pub(super) fn group(&self, number: u32) -> u32 {
        self.groups[number as usize]
    }

    /// The number of a name, if it is interned.
    pub(super) fn find(&self, group: u32, name: &str) -> Option<u32> {
        self.probe(self.hash(group, name), group, name)
    }

    /// The number of a name, which is interned if it is new.
    pub(super) fn intern(&mut self, group: u32, name: &str) -> Result<u32, Full> {
        let hash = self.hash(group, name);
        if let Some(number) = self.probe(hash, group, name) {
            return Ok(number);
        }
        let number = u32::try_from(self.ends.len()).ok().filter(|new| *new < u32::MAX).ok_or(Full)?;
        self.text.push_str(name);
        self.ends.push(self.text.len());
        self.groups.push(group);
        if self.ends.len() * 4 > self.table.len() * 3 {
            self.grow();
        }
        self.place(Slot { hash, number });
        Ok(number)
    }

    fn hash(&self, group: u32, name: &str) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(group);
        hasher.write(name.as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "the table uses 32 bits")]
        let short = hasher.finish() as u32;
        short
    }

    fn probe(&self, hash: u32, group: u32, name: &str) -> Option<u32> {
        let mask = self.table.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.table[at];
            if slot.number == EMPTY.number {
                return None;
            }
            if slot.hash == hash && self.group(slot.number) == group && self.text(slot.number) == name {
                return Some(slot.number);
            }
            at = (at + 1) & mask;
        }
    }

    /// Writes a slot to the first free place for its hash. The table is not full.
    fn place(&mut self, new: Slot) {
        let mask = self.table.len() - 1;
        let mut at = new.hash as usize & mask;
        while self.table[at].number != EMPTY.number {
            at = (at + 1) & mask;
        }
        self.table[at] = new;
    }

    fn grow(&mut self) {
        let length = (self.table.len() * 2).max(16);
        let old = std::mem::replace(&mut self.table, vec![EMPTY; length]);
        for slot in old.into_iter().filter(|slot| slot.number != EMPTY.number) {
            self.place(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_in_its_group() {
        let mut names = Names::default();
        for round in 0..2 {
            for number in 0..5_000u32 {
                let group = number % 3;
                assert_eq!(names.intern(group, &format!("name {}", number / 3)), Ok(number), "{round}");
            }
        }
        assert_eq!(names.ends.len(), 5_000);
        assert_eq!(names.find(1, "name 7"), Some(22));
        assert_eq!((names.text(22), names.group(22)), ("name 7", 1));
        assert_eq!(names.find(3, "name 7"), None);
        assert_eq!(names.find(0, ""), None);
    }
}
