//! The authentication that the servers of this program share: random secrets and their hashes, files of credentials, and
//! the check that a request comes from a program on this machine.

pub mod file;
pub mod secrets;

use axum::http::{HeaderMap, header};

pub use file::FollowedFile;

/// The greatest length of a name in a file of credentials, in bytes.
pub const MAX_NAME: usize = 64;

/// Returns `true` if this can be a name in a file of credentials.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letter)
}

/// Returns `true` if a request is addressed to this machine. The name of another site that resolves to this machine is
/// not: a page of that site could otherwise make a browser here send requests.
#[must_use]
pub fn is_to_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        let is_own = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_to_this_machine(&headers)
        };
        for host in ["localhost", "localhost:9465", "127.0.0.1:1", "[::1]:1", "[::1]"] {
            assert!(is_own(host), "{host}");
        }
        for host in ["evil.example:9465", "", "127.0.0.1.evil.example", "localhost:x", "10.0.0.1"] {
            assert!(!is_own(host), "{host}");
        }
        assert!(!is_to_this_machine(&HeaderMap::new()));
    }
}
