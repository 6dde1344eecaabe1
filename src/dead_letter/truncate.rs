//! Truncates outputs that are larger than their topic accepts. Headers give the size and the SHA-256 of each part that is
//! left out, so that it can be found in the input topic and compared.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::PREFIX;
use crate::core::hash::hex;
use crate::kafka::Produced;

/// The part of these headers' names between the part of the record and the quantity, as in
/// `aegis.headers.left.out.bytes`.
const LEFT_OUT: &str = "left.out";
/// The prefix of these headers on outputs that are not dead letters, and of all other headers of this program.
const OWN_PREFIX: &str = "aegis.";
/// An upper bound of the bytes that these headers add if headers are left out.
const REMOVED_HEADERS_SIZE: usize = 320;

/// A part of a record that a dead letter can lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Key,
    Headers,
    Value,
}

impl Part {
    /// All parts, the worst loss first.
    pub(super) const ALL: [Self; 3] = [Self::Key, Self::Headers, Self::Value];

    fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Headers => "headers",
            Self::Value => "value",
        }
    }

    /// The name of the header with the number of bytes of this part that a dead letter lacks.
    pub(super) fn bytes_header(self) -> String {
        format!("{PREFIX}{}.{LEFT_OUT}.bytes", self.word())
    }
}

/// The parts to leave out of a dead letter, in the order in which they are tried. The first that makes it small enough is
/// used.
const ATTEMPTS: [&[Part]; 7] = [
    &[Part::Value],
    &[Part::Headers],
    &[Part::Value, Part::Headers],
    &[Part::Key],
    &[Part::Key, Part::Value],
    &[Part::Key, Part::Headers],
    &[Part::Key, Part::Headers, Part::Value],
];

/// The number of headers of a dead letter that are its original's. Returns `None` if the record is no dead letter.
pub(super) fn original_header_count(headers: &[(String, Option<Vec<u8>>)]) -> Option<usize> {
    headers.iter().rposition(|(name, _)| name.strip_prefix(PREFIX) == Some("topic"))
}

/// Returns an output of at most `limit` bytes, without its largest headers if necessary, or `None` if it cannot be made
/// so small.
pub(super) fn truncate_headers(whole: &Produced, limit: usize) -> Option<Produced> {
    let mut cut = whole.clone();
    let all = cut.headers.len();
    if cut.wire_size() > limit {
        remove_headers(&mut cut, all, OWN_PREFIX, limit);
    }
    (cut.wire_size() <= limit).then_some(cut)
}

/// Returns a dead letter of at most `limit` bytes, or `None` if it cannot be made so small. Its value is left out first,
/// then headers of its original; last, a hash replaces its key.
pub(super) fn truncate_dead_letter(whole: &Produced, limit: usize) -> Option<Produced> {
    let fits = |cut: &Produced| cut.wire_size() <= limit;
    if fits(whole) {
        return Some(whole.clone());
    }
    let count = original_header_count(&whole.headers).unwrap_or(0);
    ATTEMPTS.iter().find_map(|parts| {
        let mut cut = whole.clone();
        if parts.contains(&Part::Key) {
            replace_key_by_hash(&mut cut);
        }
        if parts.contains(&Part::Value) {
            remove_value(&mut cut, whole.payload.as_ref().map_or(0, Vec::len).to_string());
        }
        if parts.contains(&Part::Headers) {
            remove_headers(&mut cut, count, PREFIX, limit);
        }
        fits(&cut).then_some(cut)
    })
}

/// Adds a header about a part that was left out.
fn add_removed_header(record: &mut Produced, prefix: &str, part: Part, quantity: &str, value: String) {
    record.headers.push((format!("{prefix}{}.{LEFT_OUT}.{quantity}", part.word()), Some(value.into_bytes())));
}

/// Leaves the value out of a dead letter. `bytes` is its size, if it is known.
pub(super) fn remove_value(letter: &mut Produced, bytes: String) {
    let value = letter.payload.take();
    add_removed_header(letter, PREFIX, Part::Value, "bytes", bytes);
    if let Some(value) = value {
        add_removed_header(letter, PREFIX, Part::Value, "sha256", hex(&Sha256::digest(value).into()));
    }
}

/// Replaces a dead letter's key by the key's SHA-256 in hexadecimal digits, so that letters of one key still share a
/// partition.
fn replace_key_by_hash(letter: &mut Produced) {
    let Some(key) = letter.key.take() else { return };
    let hash = hex(&Sha256::digest(&key).into());
    letter.key = Some(hash.clone().into_bytes());
    add_removed_header(letter, PREFIX, Part::Key, "bytes", key.len().to_string());
    add_removed_header(letter, PREFIX, Part::Key, "sha256", hash);
}

/// Leaves out some of the first `count` headers so that the record fits: the largest first, and the headers of this
/// program last. Headers with one name stay or go together, because readers use the last of them.
fn remove_headers(record: &mut Produced, count: usize, prefix: &str, limit: usize) {
    let mut sizes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (name, value) in record.headers.iter().take(count) {
        let (bytes, wire) = sizes.entry(name).or_default();
        *bytes += size(name, value.as_ref());
        *wire += Produced::header_wire_size(name, value.as_ref());
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(name, (bytes, _))| (is_own(name), std::cmp::Reverse(*bytes)));
    let mut excess = (record.wire_size() + REMOVED_HEADERS_SIZE).saturating_sub(limit);
    let mut removed_names = BTreeSet::new();
    for (name, (_, wire)) in sizes {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(wire);
        removed_names.insert(name.to_owned());
    }
    if removed_names.is_empty() {
        return;
    }
    let own = record.headers.split_off(count);
    let (removed, kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut record.headers).into_iter().partition(|(name, _)| removed_names.contains(name));
    record.headers = kept;
    record.headers.extend(own);
    let bytes: usize = removed.iter().map(|(name, value)| size(name, value.as_ref())).sum();
    add_removed_header(record, prefix, Part::Headers, "count", removed.len().to_string());
    add_removed_header(record, prefix, Part::Headers, "bytes", bytes.to_string());
    add_removed_header(record, prefix, Part::Headers, "sha256", hex(&digest(&removed)));
}

/// Returns `true` for headers that this program writes: its own, and the trace context.
fn is_own(name: &str) -> bool {
    name == "traceparent" || name.starts_with(OWN_PREFIX)
}

fn size(name: &str, value: Option<&Vec<u8>>) -> usize {
    name.len() + value.map_or(0, Vec::len)
}

/// The SHA-256 of headers in their order. Each is the name and the value, each of which follows its length as four
/// big-endian bytes. A missing value has the length 2^32 - 1.
fn digest(headers: &[(String, Option<Vec<u8>>)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    for (name, value) in headers {
        hash.update(length(name.len()));
        hash.update(name);
        match value {
            None => hash.update(u32::MAX.to_be_bytes()),
            Some(value) => {
                hash.update(length(value.len()));
                hash.update(value);
            }
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
