//! Keyed draws: random numbers that a replay repeats.
//!
//! A draw is a hash of (secret, policy, event, expert, purpose). It depends on no clock, thread or order of
//! arrival, and cannot be predicted without the secret.

use super::math::ln;
use sha2::{Digest, Sha256};

/// The draws of one policy.
#[derive(Clone)]
pub struct Draws {
    /// The hash of the secret and the policy, which all draws start with.
    prefix: Sha256,
}

impl std::fmt::Debug for Draws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Draws(keyed)") // never the secret
    }
}

impl Draws {
    /// The draws for `policy` with the key `secret`.
    #[must_use]
    pub fn new(secret: &[u8], policy: &str) -> Self {
        let mut prefix = Sha256::new();
        prefix.update(b"aegis draw 1");
        append(&mut prefix, secret);
        append(&mut prefix, policy.as_bytes());
        Self { prefix }
    }

    /// A number in (0,1), never 0 or 1: the first 52 bits of the hash plus half a step.
    #[must_use]
    pub fn uniform(&self, event: &str, expert: &str, purpose: &str) -> f64 {
        let mut hash = self.prefix.clone();
        append(&mut hash, event.as_bytes());
        append(&mut hash, expert.as_bytes());
        append(&mut hash, purpose.as_bytes());
        let digest = hash.finalize();
        let bits = digest.iter().take(8).fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
        // 52 bits and a half step are exact in an f64. With 53 bits the greatest number would round to 1.
        ((bits >> 12) as f64 + 0.5) / 4_503_599_627_370_496.0
    }
}

/// Appends bytes after their length, so that different lists of strings never give the same bytes.
fn append(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Converts a uniform number in (0,1) to one of the exponential distribution with mean 1.
#[must_use]
pub fn exponential(uniform: f64) -> f64 {
    -ln(uniform)
}

/// Converts a uniform number in (0,1) to one of the standard Gumbel distribution.
#[must_use]
pub fn gumbel(uniform: f64) -> f64 {
    -ln(-ln(uniform))
}
