//! Cuts outputs that are larger than their topic accepts. What is left out is named in headers by its size and
//! SHA-256, so that it can be found again in the input topic and compared.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::PREFIX;
use crate::core::hash::hex;
use crate::kafka::Produced;

/// The part of a header's name between its prefix and the figure, e.g. `aegis.headers.left.out.bytes`.
const LEFT_OUT: &str = "left.out";
/// The prefix of these headers on outputs that are not dead letters.
const OURS: &str = "aegis.";
/// More than the headers take that name what is left out of the headers.
const NAMES: usize = 320;

/// A part of a record that a dead letter can go without.
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

    /// The name of the header that gives the bytes of this part that a dead letter goes without.
    pub(super) fn bytes_header(self) -> String {
        format!("{PREFIX}{}.{LEFT_OUT}.bytes", self.word())
    }
}

/// What a dead letter goes without, in the order in which it is tried: the first that makes it small enough is taken.
const PLANS: [&[Part]; 7] = [
    &[Part::Value],
    &[Part::Headers],
    &[Part::Value, Part::Headers],
    &[Part::Key],
    &[Part::Key, Part::Value],
    &[Part::Key, Part::Headers],
    &[Part::Key, Part::Headers, Part::Value],
];

/// The number of headers that were on the original of a dead letter. Returns `None` if the record is no dead letter.
pub(super) fn foreign(headers: &[(String, Option<Vec<u8>>)]) -> Option<usize> {
    headers.iter().rposition(|(name, _)| name.strip_prefix(PREFIX) == Some("topic"))
}

/// Returns an output without the headers that do not fit into `limit` bytes, the largest left out first, or `None` if
/// it cannot be made so small.
pub(super) fn fit(whole: &Produced, limit: usize) -> Option<Produced> {
    let mut cut = whole.clone();
    let all = cut.headers.len();
    if cut.wire_size() > limit {
        leave_headers(&mut cut, all, OURS, limit);
    }
    (cut.wire_size() <= limit).then_some(cut)
}

/// Returns a dead letter without what does not fit into `limit` bytes, or `None` if it cannot be made so small: without
/// its value, then without headers of its original, then with a hash in place of its key.
pub(super) fn fit_letter(whole: &Produced, limit: usize) -> Option<Produced> {
    let fits = |cut: &Produced| cut.wire_size() <= limit;
    if fits(whole) {
        return Some(whole.clone());
    }
    let foreign = foreign(&whole.headers).unwrap_or(0);
    PLANS.iter().find_map(|parts| {
        let mut cut = whole.clone();
        if parts.contains(&Part::Key) {
            leave_key(&mut cut);
        }
        if parts.contains(&Part::Value) {
            leave_value(&mut cut, whole.payload.as_ref().map_or(0, Vec::len).to_string());
        }
        if parts.contains(&Part::Headers) {
            leave_headers(&mut cut, foreign, PREFIX, limit);
        }
        fits(&cut).then_some(cut)
    })
}

fn name(record: &mut Produced, prefix: &str, part: Part, figure: &str, value: String) {
    record.headers.push((format!("{prefix}{}.{LEFT_OUT}.{figure}", part.word()), Some(value.into_bytes())));
}

/// Takes the value out of a dead letter; `bytes` is its size, as far as it is known.
pub(super) fn leave_value(letter: &mut Produced, bytes: String) {
    let value = letter.payload.take();
    name(letter, PREFIX, Part::Value, "bytes", bytes);
    if let Some(value) = value {
        name(letter, PREFIX, Part::Value, "sha256", hex(&Sha256::digest(value).into()));
    }
}

/// Replaces a dead letter's key by the key's SHA-256 in hexadecimal digits, so that letters of one key still share a
/// partition.
fn leave_key(letter: &mut Produced) {
    let Some(key) = letter.key.take() else { return };
    let hash = hex(&Sha256::digest(&key).into());
    letter.key = Some(hash.clone().into_bytes());
    name(letter, PREFIX, Part::Key, "bytes", key.len().to_string());
    name(letter, PREFIX, Part::Key, "sha256", hash);
}

/// Takes headers out of the first `foreign` ones until the record fits: those of the largest names first, and what this
/// program writes itself last. Headers of one name stay or go together: of several, readers take the last.
fn leave_headers(record: &mut Produced, foreign: usize, prefix: &str, limit: usize) {
    let mut sizes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (name, value) in record.headers.iter().take(foreign) {
        let (bytes, wire) = sizes.entry(name).or_default();
        *bytes += size(name, value.as_ref());
        *wire += Produced::header_wire_size(name, value.as_ref());
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(name, (bytes, _))| (is_ours(name), std::cmp::Reverse(*bytes)));
    let mut excess = (record.wire_size() + NAMES).saturating_sub(limit);
    let mut goes = BTreeSet::new();
    for (name, (_, wire)) in sizes {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(wire);
        goes.insert(name.to_owned());
    }
    if goes.is_empty() {
        return;
    }
    let own = record.headers.split_off(foreign);
    let (gone, kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut record.headers).into_iter().partition(|(name, _)| goes.contains(name));
    record.headers = kept;
    record.headers.extend(own);
    let bytes: usize = gone.iter().map(|(name, value)| size(name, value.as_ref())).sum();
    name(record, prefix, Part::Headers, "count", gone.len().to_string());
    name(record, prefix, Part::Headers, "bytes", bytes.to_string());
    name(record, prefix, Part::Headers, "sha256", hex(&digest(&gone)));
}

/// Whether this program writes headers of this name: the trace that an output belongs to, and its own.
fn is_ours(name: &str) -> bool {
    name == "traceparent" || name.starts_with(OURS)
}

fn size(name: &str, value: Option<&Vec<u8>>) -> usize {
    name.len() + value.map_or(0, Vec::len)
}

/// SHA-256 of headers in their order: of each the name and the value, each after its length as four big-endian bytes;
/// a missing value has the length 2^32 - 1.
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
