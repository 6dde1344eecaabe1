//! Encodes the numbers in records: fixed-width integers, and variable-length ones (LEB128, as in protocol buffers).

/// Reads from the front of a slice. Every method returns `None` if the slice is too short.
pub(super) struct ByteReader<'a>(pub(super) &'a [u8]);

impl<'a> ByteReader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// The number of items that take at least `min_bytes` each. Returns `None` if the slice is too short for them.
    pub(super) fn count(&mut self, min_bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count.checked_mul(min_bytes)? <= self.0.len()).then_some(count)
    }

    /// A length, followed by that number of bytes.
    pub(super) fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than 0x80")]
    to.push(value as u8);
}

/// Writes a signed number in zigzag encoding, which is short for small numbers of either sign.
pub(super) fn put_signed(to: &mut Vec<u8>, value: i64) {
    put_varint(to, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(numbers in proptest::collection::vec(any::<i64>(), 0..20)) {
            let mut bytes = Vec::new();
            for &number in &numbers {
                put_signed(&mut bytes, number);
                put_varint(&mut bytes, number.cast_unsigned() >> 5);
            }
            let mut reader = ByteReader(&bytes);
            for &number in &numbers {
                prop_assert_eq!(reader.signed(), Some(number));
                prop_assert_eq!(reader.varint(), Some(number.cast_unsigned() >> 5));
            }
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut reader = ByteReader(&bytes);
            while reader.signed().is_some() {}
            let mut reader = ByteReader(&bytes);
            if let Some(count) = reader.count(3) {
                prop_assert!(count * 3 <= bytes.len());
            }
        }
    }
}
