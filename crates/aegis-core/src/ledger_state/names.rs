//! Names interned: each (group, text) has one number, found without allocation.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::Full;

/// Numbers from 0 in order of first appearance. About 17 bytes a name beside its text.
///
/// The hash is keyed, for event ids come from outside; its order shows nowhere.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    /// Where each name's text ends; it starts where the one before ends.
    ends: Vec<usize>,
    groups: Vec<u32>,
    /// Open addressing with linear probing; the length is a power of two, at most three quarters full.
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
    /// Whether there is no name.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A name's text; empty for a number that was never given.
    pub(super) fn text(&self, number: u32) -> &str {
        let at = number as usize;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let range = self.ends.get(at).map(|end| start..*end);
        range.and_then(|range| self.text.get(range)).unwrap_or("")
    }

    /// A name's group.
    pub(super) fn group(&self, number: u32) -> u32 {
        self.groups.get(number as usize).copied().unwrap_or(0)
    }

    /// The number of a name that is known.
    pub(super) fn find(&self, group: u32, name: &str) -> Option<u32> {
        self.probe(self.hash(group, name), group, name).ok()
    }

    /// The number of a name, new if need be.
    pub(super) fn intern(&mut self, group: u32, name: &str) -> Result<u32, Full> {
        let hash = self.hash(group, name);
        if let Ok(number) = self.probe(hash, group, name) {
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
        #[expect(clippy::cast_possible_truncation, reason = "32 bits are kept")]
        let short = hasher.finish() as u32;
        short
    }

    /// The number of the name, or the table's free place for it.
    fn probe(&self, hash: u32, group: u32, name: &str) -> Result<u32, usize> {
        let mask = self.table.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.table.get(at) {
            if slot.number == EMPTY.number {
                return Err(at);
            }
            if slot.hash == hash && self.group(slot.number) == group && self.text(slot.number) == name {
                return Ok(slot.number);
            }
            at = (at + 1) & mask;
        }
        Err(0)
    }

    fn place(&mut self, new: Slot) {
        let mask = self.table.len().wrapping_sub(1);
        let mut at = new.hash as usize & mask;
        while let Some(slot) = self.table.get_mut(at) {
            if slot.number == EMPTY.number {
                *slot = new;
                return;
            }
            at = (at + 1) & mask;
        }
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
        assert_eq!(names.text(5_000), "");
    }
}
