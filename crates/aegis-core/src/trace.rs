//! W3C trace context: the `traceparent` header, and ids that are the same each time a record is read.

use std::fmt;

use sha2::{Digest, Sha256};

/// The name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// The id of a trace, which is never all zeros.
pub type TraceId = [u8; 16];
/// The id of a span, which is never all zeros.
pub type SpanId = [u8; 8];

/// The length of the longest `traceparent` that is parsed, in bytes. Later versions than 00 may be longer than it.
pub const MAX_LENGTH: usize = 128;
/// The length of version 00, in bytes.
const VERSION_00_LENGTH: usize = 55;
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;
/// The flag of a trace whose id is random. It is passed on with the id.
const RANDOM: u8 = 2;

/// The content of a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The id of the trace.
    pub trace: TraceId,
    /// The id of the span that wrote the header.
    pub span: SpanId,
    flags: u8,
}

impl Traceparent {
    /// A recorded trace whose id is not random.
    #[must_use]
    pub fn recorded(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, flags: SAMPLED }
    }

    /// Parses a header; of a later version than 00, the part that it has in common with 00. Returns `None` if it is
    /// malformed.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(VERSION_00_LENGTH)?;
        let mut parts = std::str::from_utf8(known).ok()?.split('-');
        let [version] = bytes(parts.next()?)?;
        let trace = bytes(parts.next()?)?;
        let span = bytes(parts.next()?)?;
        let [flags] = bytes(parts.next()?)?;
        let ends = match more.first() {
            None => true,
            Some(next) => version > 0 && *next == b'-' && value.len() <= MAX_LENGTH,
        };
        let valid = version < 255 && trace != [0; 16] && span != [0; 8] && parts.next().is_none();
        (valid && ends).then_some(Self { trace, span, flags })
    }

    /// Returns `true` if the writer of the header records the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, recorded, with another span.
    #[must_use]
    pub fn with_span(self, span: SpanId) -> Self {
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

/// Parses exactly 2 N hexadecimal digits in lower case to N bytes.
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

/// Returns the id of the span that these parts identify. Equal parts give equal ids.
#[must_use]
pub fn span_id(parts: &[&[u8]]) -> SpanId {
    first(parts)
}

/// Returns the id of the trace that these parts identify. Equal parts give equal ids.
#[must_use]
pub fn trace_id(parts: &[&[u8]]) -> TraceId {
    first(parts)
}

/// The first bytes of SHA-256 over the parts, each after its length. All zeros would mean no id, and are replaced.
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

/// Returns `true` if a span belongs to the share `share` of all spans, in \[0,1\]. This depends only on its id.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
pub fn is_in_share(span: SpanId, share: f64) -> bool {
    let place = (u64::from_be_bytes(span) >> 11) as f64 / (1_u64 << 53) as f64;
    place < share
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_displayed_as_it_was_parsed() {
        let parent = Traceparent::parse(GIVEN.as_bytes()).unwrap();
        assert_eq!((parent.trace[0], parent.span[7], parent.is_sampled()), (0x4b, 0xb7, true));
        assert_eq!(parent.to_string(), GIVEN);
        let unsampled = GIVEN.replace("-01", "-00");
        assert!(!Traceparent::parse(unsampled.as_bytes()).unwrap().is_sampled());
        assert_eq!(
            Traceparent::parse(unsampled.as_bytes()).unwrap().with_span([0xab; 8]).to_string(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-01"
        );
        // Only known flags are passed on.
        let all = GIVEN.replace("-01", "-ff");
        assert!(Traceparent::parse(all.as_bytes()).unwrap().with_span([1; 8]).to_string().ends_with("-03"));
    }

    #[test]
    fn later_versions_are_parsed_and_malformed_headers_are_not() {
        let later = GIVEN.replacen("00", "cc", 1);
        assert_eq!(
            Traceparent::parse(format!("{later}-what-comes").as_bytes()),
            Traceparent::parse(GIVEN.as_bytes())
        );
        let long = format!("{later}-{}", "x".repeat(MAX_LENGTH));
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
    fn ids_are_pinned_and_depend_on_every_part() {
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
    fn a_share_contains_about_as_many_spans_as_it_says() {
        let ids = || (0..2_000_u32).map(|number| span_id(&[&number.to_le_bytes()]));
        assert_eq!(ids().filter(|id| is_in_share(*id, 0.0)).count(), 0);
        assert_eq!(ids().filter(|id| is_in_share(*id, 1.0)).count(), 2_000);
        let tenth = ids().filter(|id| is_in_share(*id, 0.1)).count();
        assert!((140..260).contains(&tenth), "{tenth}");
        assert!(is_in_share([255; 8], 1.0) && !is_in_share([0; 8], 0.0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            if let Some(parent) = Traceparent::parse(&bytes) {
                prop_assert_eq!(Traceparent::parse(parent.to_string().as_bytes()), Some(parent));
            }
        }

        #[test]
        fn a_changed_byte_gives_another_header_or_none(at in 0_usize..55, letter in any::<u8>()) {
            let mut changed = GIVEN.as_bytes().to_vec();
            changed[at] = letter;
            if let Some(parent) = Traceparent::parse(&changed) {
                prop_assert!(at < 2 || parent.to_string().as_bytes() == changed);
            }
        }
    }
}
