//! Encodes the numbers in records: fixed-width integers, and variable-length ones (LEB128, as in protocol buffers).

use integer_encoding::VarInt;

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
        self.decode()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        self.decode()
    }

    fn decode<T: VarInt>(&mut self) -> Option<T> {
        let (value, length) = T::decode_var(self.0)?;
        self.0 = self.0.get(length..)?;
        Some(value)
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

pub(super) fn put_varint(to: &mut Vec<u8>, value: u64) {
    put(to, value);
}

/// Writes a signed number in zigzag encoding, which is short for small numbers of either sign.
pub(super) fn put_signed(to: &mut Vec<u8>, value: i64) {
    put(to, value);
}

fn put(to: &mut Vec<u8>, value: impl VarInt) {
    let mut bytes = [0; 10];
    let length = value.encode_var(&mut bytes);
    to.extend_from_slice(&bytes[..length]);
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
