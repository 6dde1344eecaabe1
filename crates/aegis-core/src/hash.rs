//! The state hash: over the learner, its inputs, and every number of its state.

use sha2::{Digest, Sha256};

use super::event::Millis;
use super::features::EncoderId;
use super::predictor::{FORMAT, StateHash};

/// The input of a state hash. Labels, edits, waiting labels and offsets are not part of it.
#[derive(Debug, Clone, Copy)]
pub struct HashedState<'a> {
    /// The canonical line of the learner with its parameters.
    pub learner: &'a str,
    /// The ids of the experts, in the order of their UTF-8 bytes.
    pub experts: &'a [String],
    /// The encoder whose features the learner reads, if there is one.
    pub encoder: Option<&'a EncoderId>,
    /// The canonical line of the target mapping.
    pub mapping: &'a str,
    /// The number of rounds folded.
    pub rounds: u64,
    /// The last round folded: (round time, tenant, event id).
    pub last_key: Option<(Millis, &'a str, &'a str)>,
    /// The state of each member, in member order.
    pub state: &'a [f64],
}

/// Returns SHA-256 over, in this order: the format version (4 bytes), the learner's line, the number of experts
/// (8 bytes) and each id, the encoder (one byte 0, or 1 and its 32 bytes), the mapping's line, the
/// number of rounds (8 bytes), the last key (0, or 1, its round time in 8 bytes, tenant and event id),
/// the number of state numbers (8 bytes) and each as an IEEE 754 double. All numbers little-endian;
/// each text is preceded by its length in bytes (8 bytes).
#[must_use]
pub fn state_hash(input: &HashedState<'_>) -> StateHash {
    let mut hash = Sha256::new();
    hash.update(FORMAT.to_le_bytes());
    text(&mut hash, input.learner);
    length(&mut hash, input.experts.len());
    for expert in input.experts {
        text(&mut hash, expert);
    }
    match input.encoder {
        None => hash.update([0]),
        Some(encoder) => {
            hash.update([1]);
            hash.update(encoder);
        }
    }
    text(&mut hash, input.mapping);
    hash.update(input.rounds.to_le_bytes());
    match input.last_key {
        None => hash.update([0]),
        Some((time, tenant, event)) => {
            hash.update([1]);
            hash.update(time.to_le_bytes());
            text(&mut hash, tenant);
            text(&mut hash, event);
        }
    }
    length(&mut hash, input.state.len());
    for number in input.state {
        hash.update(number.to_le_bytes());
    }
    hash.finalize().into()
}

fn length(hash: &mut Sha256, value: usize) {
    hash.update((value as u64).to_le_bytes());
}

fn text(hash: &mut Sha256, value: &str) {
    length(hash, value.len());
    hash.update(value);
}

/// Returns the hash in 64 hexadecimal digits.
#[must_use]
pub fn hex(hash: &[u8; 32]) -> String {
    ::hex::encode(hash)
}

/// Parses 64 hexadecimal digits as [`hex`] writes them. Returns `None` if the text has another form.
#[must_use]
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    ::hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let experts = ["a".to_owned(), "b".to_owned()];
        let joined = ["ab".to_owned()];
        let base = HashedState {
            learner: "hedge eta=1",
            experts: &experts,
            encoder: None,
            mapping: "m",
            rounds: 2,
            last_key: Some((5, "t", "e")),
            state: &[0.5, 1.0],
        };
        let others = [
            HashedState { learner: "hedge eta=2", ..base },
            HashedState { experts: &joined, ..base },
            HashedState { encoder: Some(&[0; 32]), ..base },
            HashedState { mapping: "n", ..base },
            HashedState { rounds: 3, ..base },
            HashedState { last_key: None, ..base },
            HashedState { last_key: Some((5, "te", "")), ..base },
            HashedState { state: &[0.5, 1.0 + f64::EPSILON], ..base },
            HashedState { state: &[0.5], ..base },
        ];
        let mut hashes: Vec<_> = others.iter().map(state_hash).collect();
        hashes.push(state_hash(&base));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), others.len() + 1);
    }

    #[test]
    fn the_bytes_are_pinned() {
        let empty = HashedState {
            learner: "hedge",
            experts: &[],
            encoder: None,
            mapping: "",
            rounds: 0,
            last_key: None,
            state: &[],
        };
        assert_eq!(
            hex(&state_hash(&empty)),
            "83894019a893951084dd6464217f65f5ba8bd609e0da1e553045b3e89fa214fa"
        );
        assert_eq!(unhex(&hex(&[171; 32])), Some([171; 32]));
        assert_eq!(unhex(&"+1".repeat(32)), None);
        assert_eq!(unhex("00"), None);
    }
}
