//! W3C trace context: what a `traceparent` says, and ids that are the same however often a record is read.

use std::fmt;

use sha2::{Digest, Sha256};

/// The header that carries it.
pub const TRACEPARENT: &str = "traceparent";

/// The id of a trace; never all zeros.
pub type TraceId = [u8; 16];
/// The id of a span; never all zeros.
pub type SpanId = [u8; 8];

/// Longest `traceparent` that is read, in bytes: version 00 has 55, later versions may add to it.
pub const LONGEST: usize = 128;
/// What version 00 has.
const KNOWN: usize = 55;
/// The trace is recorded.
const SAMPLED: u8 = 1;
/// The trace's id is random; whoever passes it on passes this on.
const RANDOM: u8 = 2;

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace: TraceId,
    /// The span that was at work when the header was written.
    pub span: SpanId,
    flags: u8,
}

impl Traceparent {
    /// A recorded trace whose id is no random number.
    #[must_use]
    pub fn begun(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, flags: SAMPLED }
    }

    /// Reads one; of a later version than 00 what it has in common with that. None where it is malformed.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(KNOWN)?;
        let mut parts = std::str::from_utf8(known).ok()?.split('-');
        let [version] = bytes(parts.next()?)?;
        let trace = bytes(parts.next()?)?;
        let span = bytes(parts.next()?)?;
        let [flags] = bytes(parts.next()?)?;
        let ends = match more.first() {
            None => true,
            Some(next) => version > 0 && *next == b'-' && value.len() <= LONGEST,
        };
        let valid = version < 255 && trace != [0; 16] && span != [0; 8] && parts.next().is_none();
        (valid && ends).then_some(Self { trace, span, flags })
    }

    /// Whether whoever wrote it records the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, recorded, with another span at work.
    #[must_use]
    pub fn under(self, span: SpanId) -> Self {
        Self { span, flags: (self.flags & RANDOM) | SAMPLED, ..self }
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(to, "{byte:02x}"))?;
        to.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(to, "{byte:02x}"))?;
        write!(to, "-{:02x}", self.flags)
    }
}

/// N bytes of exactly 2 N hexadecimal digits in lower case.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let lower = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if digits.len() != 2 * N || !digits.bytes().all(lower) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The id of the span that these parts name. Same parts, same id.
#[must_use]
pub fn span_id(parts: &[&[u8]]) -> SpanId {
    first(parts)
}

/// The id of the trace that these parts name. Same parts, same id.
#[must_use]
pub fn trace_id(parts: &[&[u8]]) -> TraceId {
    first(parts)
}

/// The first bytes of SHA-256 over the parts, each after its length; the id of all zeros means none.
fn first<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut id = [0; N];
    id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    if id == [0; N] { [1; N] } else { id }
}

/// Whether a span is among this share of all, from 0 to 1; by its id, so always the same.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
pub fn is_among(span: SpanId, share: f64) -> bool {
    let place = (u64::from_be_bytes(span) >> 11) as f64 / (1_u64 << 53) as f64;
    place < share
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_the_same() {
        let parent = Traceparent::parse(GIVEN.as_bytes()).unwrap();
        assert_eq!((parent.trace[0], parent.span[7], parent.is_sampled()), (0x4b, 0xb7, true));
        assert_eq!(parent.to_string(), GIVEN);
        let unsampled = GIVEN.replace("-01", "-00");
        assert!(!Traceparent::parse(unsampled.as_bytes()).unwrap().is_sampled());
        assert_eq!(
            Traceparent::parse(unsampled.as_bytes()).unwrap().under([0xab; 8]).to_string(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-01"
        );
        // Of the flags those are passed on that are known.
        let all = GIVEN.replace("-01", "-ff");
        assert!(Traceparent::parse(all.as_bytes()).unwrap().under([1; 8]).to_string().ends_with("-03"));
    }

    #[test]
    fn later_versions_are_read_and_malformed_ones_are_not() {
        let later = GIVEN.replacen("00", "cc", 1);
        assert_eq!(
            Traceparent::parse(format!("{later}-what-comes").as_bytes()),
            Traceparent::parse(GIVEN.as_bytes())
        );
        let long = format!("{later}-{}", "x".repeat(LONGEST));
        let bad = [
            "",
            "00",
            &GIVEN[..54],
            &format!("{GIVEN}-"),
            &format!("{later}x"),
            &long,
            &GIVEN.replacen("00", "ff", 1),
            &GIVEN.to_uppercase(),
            &GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GIVEN.replace('-', "_"),
            &GIVEN.replace("-00f0", "00f0-"),
            &GIVEN.replace("4bf", "+bf"),
        ];
        for bad in bad {
            assert_eq!(Traceparent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn ids_are_pinned_and_every_part_counts() {
        let id = span_id(&[b"moderate", b"t", b"1"]);
        assert_eq!(id, span_id(&[b"moderate", b"t", b"1"]));
        assert_eq!(id, PINNED);
        let others: [&[&[u8]]; 3] =
            [&[b"moderate", b"t1", b""], &[b"moderate", b"t"], &[b"panel", b"t", b"1"]];
        assert!(others.iter().all(|parts| span_id(parts) != id));
        assert_eq!(trace_id(&[b"moderate", b"t", b"1"])[..8], id);
    }

    const PINNED: SpanId = [0x1f, 0xb0, 0x55, 0x0f, 0x30, 0x16, 0xea, 0x19];

    #[test]
    fn a_share_is_a_share() {
        let ids = || (0..2_000_u32).map(|number| span_id(&[&number.to_le_bytes()]));
        assert_eq!(ids().filter(|id| is_among(*id, 0.0)).count(), 0);
        assert_eq!(ids().filter(|id| is_among(*id, 1.0)).count(), 2_000);
        let tenth = ids().filter(|id| is_among(*id, 0.1)).count();
        assert!((140..260).contains(&tenth), "{tenth}");
        assert!(is_among([255; 8], 1.0) && !is_among([0; 8], 0.0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            if let Some(parent) = Traceparent::parse(&bytes) {
                prop_assert_eq!(Traceparent::parse(parent.to_string().as_bytes()), Some(parent));
            }
        }

        #[test]
        fn what_differs_in_a_letter_is_another_or_malformed(at in 0_usize..55, letter in any::<u8>()) {
            let mut changed = GIVEN.as_bytes().to_vec();
            changed[at] = letter;
            if let Some(parent) = Traceparent::parse(&changed) {
                prop_assert!(at < 2 || parent.to_string().as_bytes() == changed);
            }
        }
    }
}
