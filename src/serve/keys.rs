//! The file of API keys: one key in a line, as `name tenant policy sha256:…`.
//!
//! A tenant or policy `*` means that requests may name any. Keys have 256 random bits, so that a plain hash is enough.

use std::io;
use std::path::{Path, PathBuf};

use crate::access::secrets::{self, Digest};
use crate::access::{FollowedFile, MAX_NAME, file, is_name};
use crate::core::event::check_id;

/// The word for any tenant or policy.
pub const ANY: &str = "*";
/// The greatest length of a key that is accepted, in bytes.
pub const MAX_KEY: usize = 256;
/// The first line of a new file.
const HEADER: &str =
    "# API keys of the moderation API: name, tenant, policy, hash. `aegis serve key` writes this file.\n";

/// Errors of the file of API keys. They never contain a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or written.
    #[error("the API keys {path}: {source}; `aegis serve key add NAME` creates the file")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line is not valid.
    #[error(
        "{path} line {line}: {reason}; a line is NAME TENANT POLICY sha256:HASH, and `aegis serve key` writes it"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The reason.
        reason: &'static str,
    },
    /// The key exists.
    #[error("{name} is in {path} already: remove it first with `aegis serve key remove {name}`")]
    Exists {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The key does not exist.
    #[error("{path} has no key {name}: `aegis serve key list` shows them")]
    Missing {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The name cannot be used.
    #[error("{name:?} is not a name: use 1 to {MAX_NAME} ASCII letters, digits and . _ - @")]
    Name {
        /// The name.
        name: String,
    },
    /// The tenant or policy cannot be used.
    #[error(
        "{what} {value:?} cannot be written to the file: use 1 to 256 bytes without white space, or * for any"
    )]
    Scope {
        /// `tenant` or `policy`.
        what: &'static str,
        /// The value.
        value: String,
    },
}

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The name, which appears in logs.
    pub name: String,
    /// The tenant of its requests, or `None` if they may name any.
    pub tenant: Option<String>,
    /// The policy of its requests, or `None` if they may name any.
    pub policy: Option<String>,
    digest: Digest,
}

impl ApiKey {
    fn line(&self) -> String {
        let Self { name, tenant, policy, digest } = self;
        let [tenant, policy] = [tenant, policy].map(|scope| scope.as_deref().unwrap_or(ANY));
        format!("{name} {tenant} {policy} sha256:{}", secrets::hex(digest))
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, tenant, policy, hash] = words[..] else { return Err("it does not have four words") };
        if !is_name(name) {
            return Err("the name is not valid");
        }
        let scope = |word: &str| match word {
            ANY => Ok(None),
            word if check_id("scope", word).is_ok() => Ok(Some(word.to_owned())),
            _ => Err("the tenant or policy is too long"),
        };
        let bytes = hash.strip_prefix("sha256:").and_then(|digits| ::hex::decode(digits).ok());
        let digest = bytes.and_then(|bytes| bytes.try_into().ok());
        let digest = digest.ok_or("the hash is not sha256: with 64 hexadecimal digits")?;
        Ok(Self { name: name.to_owned(), tenant: scope(tenant)?, policy: scope(policy)?, digest })
    }
}

/// The API keys.
#[derive(Debug, Clone, Default)]
pub struct ApiKeys(Vec<ApiKey>);

/// The API keys of a running server, which follow the file.
pub type Store = FollowedFile<ApiKeys, KeysError>;

/// Opens the file of API keys. Returns `None` if there is none, and every program on this machine is answered.
///
/// # Errors
/// As [`ApiKeys::read`].
pub fn open(path: &Path) -> Result<Option<Store>, KeysError> {
    if path.as_os_str().is_empty() { Ok(None) } else { Store::open(path, ApiKeys::read).map(Some) }
}

impl ApiKeys {
    /// Reads the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or a line is not valid.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let text = file::read(path).map_err(|source| KeysError::File { path: path.into(), source })?;
        let mut keys: Vec<ApiKey> = Vec::new();
        for (line, entry) in file::entries(&text) {
            let wrong = |reason| KeysError::Line { path: path.into(), line, reason };
            let key = ApiKey::parse(entry).map_err(wrong)?;
            if keys.iter().any(|known| known.name == key.name) {
                return Err(wrong("the name has a line already"));
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// Returns the keys, without what a client sends.
    #[must_use]
    pub fn all(&self) -> &[ApiKey] {
        &self.0
    }

    /// Returns the key that a client has sent. All keys are compared, each in constant time.
    #[must_use]
    pub fn find(&self, sent: &str) -> Option<&ApiKey> {
        let wanted = secrets::digest(sent.as_bytes());
        let mut found = None;
        for key in &self.0 {
            if secrets::equal(&key.digest, &wanted) {
                found = Some(key);
            }
        }
        found
    }

    /// Adds a key to the file. Returns what a client sends, which cannot be read again.
    ///
    /// # Errors
    /// Returns an error if the name exists or something is not valid, or if the file cannot be read or written.
    pub fn add(path: &Path, name: &str, tenant: &str, policy: &str) -> Result<String, KeysError> {
        if !is_name(name) {
            return Err(KeysError::Name { name: name.to_owned() });
        }
        for (what, value) in [("tenant", tenant), ("policy", policy)] {
            if check_id(what, value).is_err() || value.contains(char::is_whitespace) {
                return Err(KeysError::Scope { what, value: value.to_owned() });
            }
        }
        let mut all = match Self::read(path) {
            Err(KeysError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::default()
            }
            read => read?,
        };
        if all.0.iter().any(|known| known.name == name) {
            return Err(KeysError::Exists { name: name.to_owned(), path: path.into() });
        }
        let sent = secrets::token();
        let scope = |word: &str| (word != ANY).then(|| word.to_owned());
        let digest = secrets::digest(sent.as_bytes());
        all.0.push(ApiKey { name: name.to_owned(), tenant: scope(tenant), policy: scope(policy), digest });
        all.write(path)?;
        Ok(sent)
    }

    /// Removes a key from the file.
    ///
    /// # Errors
    /// Returns an error if there is no such key, or if the file cannot be read or written.
    pub fn remove(path: &Path, name: &str) -> Result<(), KeysError> {
        let mut all = Self::read(path)?;
        let before = all.0.len();
        all.0.retain(|key| key.name != name);
        if all.0.len() == before {
            return Err(KeysError::Missing { name: name.to_owned(), path: path.into() });
        }
        all.write(path)
    }

    fn write(&self, path: &Path) -> Result<(), KeysError> {
        file::replace_entries(path, HEADER, self.0.iter().map(ApiKey::line))
            .map_err(|source| KeysError::File { path: path.into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_added_found_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let sent = ApiKeys::add(&path, "gateway", "shop", "default").unwrap();
        let other = ApiKeys::add(&path, "internal", ANY, ANY).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&sent) && !text.contains(&other), "keys are hashed");
        let keys = ApiKeys::read(&path).unwrap();
        let found = keys.find(&sent).unwrap();
        assert_eq!(
            (&*found.name, found.tenant.as_deref(), found.policy.as_deref()),
            ("gateway", Some("shop"), Some("default"))
        );
        assert_eq!(keys.find(&other).map(|key| (key.tenant.clone(), key.policy.clone())), Some((None, None)));
        assert!(keys.find("aegis_wrong").is_none() && keys.find("").is_none());
        assert!(matches!(ApiKeys::add(&path, "gateway", "t", "p"), Err(KeysError::Exists { .. })));
        assert!(matches!(ApiKeys::add(&path, "a b", "t", "p"), Err(KeysError::Name { .. })));
        assert!(matches!(ApiKeys::add(&path, "a", "t t", "p"), Err(KeysError::Scope { .. })));
        ApiKeys::remove(&path, "gateway").unwrap();
        assert!(ApiKeys::read(&path).unwrap().find(&sent).is_none());
        assert!(matches!(ApiKeys::remove(&path, "gateway"), Err(KeysError::Missing { .. })));
    }

    #[test]
    fn wrong_lines_are_refused_without_quoting_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let hash = format!("sha256:{}", "0".repeat(64));
        for (text, line) in [
            ("gateway t p hunter2".to_owned(), 1),
            ("# fine\n\ngateway t p".to_owned(), 3),
            (format!("a<b t p {hash}"), 1),
            (format!("gateway t p {hash}\ngateway t p {hash}"), 2),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = ApiKeys::read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}: ")) && !error.contains("hunter2"), "{error}");
        }
    }
}
