//! Mutations of bytes, of numbers in Avro and in text, and of pieces between inputs. They follow from a seed and are
//! the same on every machine.

use fastrand::Rng;

/// The maximum size of an input, in bytes.
const MAX: usize = 64 << 10;

/// The replacements of numbers in text.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "-0",
    "1e309",
    "-1e309",
    "1e-400",
    "0.5",
    "1.0000000000000002",
    "NaN",
    "inf",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999",
    "1e",
];

/// Texts with a meaning in one of the grammars.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "false",
    "\\u0000",
    "\\ud800",
    "\\",
    "\u{202e}",
    "\u{fdfa}",
    "\0",
    "\n",
    "=",
    "[[",
    "]]",
    "'''",
    "\"\"\"",
    "#",
    ".",
    "{},",
    "[[[[[[[[",
    "{\"a\":",
    "(?:",
    "{1,999}",
    "*",
    "__connect.errors.topic=",
    "aegis.replays=4294967295",
    "AEGIS__",
    "Z",
    "+23:59",
];

/// Integers at the limits of types.
const EDGES: [i64; 12] =
    [0, -1, 1, 63, 64, 127, 128, i32::MAX as i64, i32::MIN as i64, u32::MAX as i64, i64::MAX, i64::MIN];

/// A generator of inputs.
pub struct Mutator {
    rng: Rng,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed) }
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.rng.usize(..bound)
    }

    /// Returns an index of a byte, mostly after the prefix that gives the kind of a record.
    fn place(&mut self, length: usize) -> usize {
        let from = if length > 10 && self.rng.u8(..8) > 0 { 10 } else { 0 };
        self.rng.usize(from..length)
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.place(length);
        let most = (length - from).min(1 << self.rng.u32(..12));
        from..from + self.rng.usize(..=most)
    }

    /// Returns the next input, which is made of one or two inputs of the pool.
    pub fn next(&mut self, pool: &[Vec<u8>], input: &mut Vec<u8>) {
        input.clear();
        input.extend_from_slice(&pool[self.below(pool.len())]);
        for _ in 0..1 << self.rng.u32(..4) {
            if input.is_empty() {
                input.push(self.rng.u8(..));
            }
            self.once(pool, input);
            input.truncate(MAX);
        }
    }

    fn once(&mut self, pool: &[Vec<u8>], input: &mut Vec<u8>) {
        let length = input.len();
        match self.rng.u8(..12) {
            0 => input[self.place(length)] ^= 1 << self.rng.u8(..8),
            1 => input[self.place(length)] = self.rng.u8(..),
            // Changes a length or a small number slightly.
            2 => {
                let at = self.place(length);
                input[at] = input[at].wrapping_add(self.rng.u8(..9)).wrapping_sub(4);
            }
            3 => {
                let at = self.place(length);
                input.truncate(at);
            }
            4 => {
                let range = self.range(length);
                input.drain(range);
            }
            5 => {
                let range = self.range(length);
                let piece = input[range].repeat(1 + self.below(8));
                let at = self.place(length);
                input.splice(at..at, piece);
            }
            6 => {
                let other = &pool[self.below(pool.len())];
                if !other.is_empty() {
                    let (from, to) = (self.range(other.len()), self.range(length));
                    input.splice(to, other[from].iter().copied());
                }
            }
            7 => {
                let token = TOKENS[self.below(TOKENS.len())].bytes();
                let at = self.place(length);
                input.splice(at..at, token);
            }
            8 => self.number(input),
            9 => {
                let number = varint(self.edge());
                let at = self.place(length);
                let over = at..(at + self.below(number.len() + 1)).min(length);
                input.splice(over, number);
            }
            10 => {
                let number = self.edge().to_be_bytes();
                let width = [2, 4, 8][self.below(3)];
                let at = self.place(length);
                input.splice(at..(at + width).min(length), number[8 - width..].iter().copied());
            }
            _ => {
                let (one, other) = (self.place(length), self.place(length));
                input.swap(one, other);
            }
        }
    }

    fn edge(&mut self) -> i64 {
        EDGES[self.below(EDGES.len())].wrapping_add(self.rng.i64(-1..=1))
    }

    /// Replaces a number in text.
    fn number(&mut self, input: &mut Vec<u8>) {
        let from = self.place(input.len());
        let digit = |byte: &u8| byte.is_ascii_digit();
        let Some(start) = input[from..].iter().position(digit).map(|more| from + more) else { return };
        let end =
            input[start..].iter().position(|byte| !digit(byte)).map_or(input.len(), |more| start + more);
        let number = NUMBERS[self.below(NUMBERS.len())].bytes();
        input.splice(start..end, number);
    }
}

/// Returns an integer as Avro writes it.
fn varint(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 127 {
        bytes.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}
