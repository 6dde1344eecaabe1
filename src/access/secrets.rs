//! Random secrets, digests and comparisons in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A SHA-256.
pub type Digest = [u8; 32];

/// The beginning of every token, by which scanners of repositories find one.
const TOKEN_PREFIX: &str = "aegis_";

/// Returns 32 random bytes of the operating system.
///
/// # Panics
/// Panics if the system has no randomness, without which no secret is safe.
#[must_use]
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Returns a new token.
#[must_use]
pub fn token() -> String {
    format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random()))
}

/// Returns the digest of a secret with 256 random bits, which needs no salt and no slow hash.
#[must_use]
pub fn digest(secret: &[u8]) -> Digest {
    Sha256::digest(secret).into()
}

/// Returns a digest that only the owner of `key` can compute. `purpose` separates uses of one key.
#[must_use]
pub fn keyed(key: &[u8; 32], purpose: &str, value: &[u8]) -> Digest {
    let inner = Sha256::new().chain_update(key).chain_update(purpose).chain_update([0]).chain_update(value);
    // The outer hash prevents the extension of the inner one.
    Sha256::new().chain_update(key).chain_update(inner.finalize()).finalize().into()
}

/// Compares in a time that depends on the lengths alone.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

pub use crate::codec::hex;
