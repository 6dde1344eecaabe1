//! Keyed draws: chance that a replay repeats.
//!
//! A draw is a hash of (secret, policy, event, expert, purpose). It depends on no clock, thread or
//! order of arrival, and nobody without the secret can foresee it.

use super::math::ln;
use sha2::{Digest, Sha256};

/// Draws of one policy.
#[derive(Clone)]
pub struct Draws {
    begun: Sha256,
}

impl std::fmt::Debug for Draws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Draws(keyed)") // never the secret
    }
}

impl Draws {
    /// Draws for `policy` under `secret`.
    #[must_use]
    pub fn new(secret: &[u8], policy: &str) -> Self {
        let mut begun = Sha256::new();
        begun.update(b"aegis draw 1");
        append(&mut begun, secret);
        append(&mut begun, policy.as_bytes());
        Self { begun }
    }

    /// A number in (0,1), never 0 or 1: the first 52 bits of the hash, and half a step.
    #[must_use]
    pub fn uniform(&self, event: &str, expert: &str, purpose: &str) -> f64 {
        let mut hash = self.begun.clone();
        append(&mut hash, event.as_bytes());
        append(&mut hash, expert.as_bytes());
        append(&mut hash, purpose.as_bytes());
        let digest = hash.finalize();
        let bits = digest.iter().take(8).fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
        // 52 bits and a half step are exact in a f64; with 53 the greatest would round to 1.
        ((bits >> 12) as f64 + 0.5) / 4_503_599_627_370_496.0
    }
}

/// Length first, so that no two lists of texts run together to the same bytes.
fn append(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// A draw from the exponential distribution of mean 1.
#[must_use]
pub fn exponential(uniform: f64) -> f64 {
    -ln(uniform)
}

/// A draw from the standard Gumbel distribution.
#[must_use]
pub fn gumbel(uniform: f64) -> f64 {
    -ln(-ln(uniform))
}
