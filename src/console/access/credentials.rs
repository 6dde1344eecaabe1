//! The file of credentials: one user in a line, as `name role secret`.
//!
//! A secret is `sha256:` with the hash of a token, an Argon2 hash of a password, or `proxy` for a user whom a proxy
//! authenticates. Tokens have 256 random bits, so that a plain hash is enough for them.

use std::io;
use std::path::{Path, PathBuf};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};

use super::Role;
use crate::access::secrets::{self, Digest};
use crate::access::{FollowedFile, MAX_NAME, file, is_name};

/// The greatest length of a password or token that is accepted, in bytes.
pub const MAX_SECRET: usize = 1_024;
/// The first line of a new file.
const HEADER: &str = "# Users of the console: name, role, secret. `aegis console user` writes this file.\n";

/// Errors of the file of credentials. They never contain a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read or written.
    #[error("the console's credentials {path}: {source}; `aegis console user add NAME` creates the file")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line is not valid.
    #[error("{path} line {line}: {reason}; a line is NAME ROLE SECRET, and `aegis console user` writes it")]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The reason.
        reason: &'static str,
    },
    /// The user exists.
    #[error("{name} is in {path} already: remove the user first with `aegis console user remove {name}`")]
    Exists {
        /// The user.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The user does not exist.
    #[error("{path} has no user {name}: `aegis console user list` shows them")]
    Missing {
        /// The user.
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
    /// The password cannot be hashed.
    #[error("the password cannot be hashed: {reason}")]
    Hash {
        /// The reason.
        reason: String,
    },
}

/// The proof of identity that a user gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// With a random token, which is printed once
    Token,
    /// With a password, which is printed once
    Password,
    /// A proxy authenticates the user
    Proxy,
}

impl Kind {
    /// Returns the name of the proof.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
            Self::Proxy => "proxy",
        }
    }
}

/// The hash of a secret.
#[derive(Clone, PartialEq, Eq)]
enum Hash {
    Token(Digest),
    Password(String),
    Proxy,
}

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The role.
    pub role: Role,
    hash: Hash,
}

/// A user without the secret, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The proof.
    pub kind: Kind,
}

impl Entry {
    /// Returns the proof that the user gives.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.hash {
            Hash::Token(_) => Kind::Token,
            Hash::Password(_) => Kind::Password,
            Hash::Proxy => Kind::Proxy,
        }
    }

    /// Returns a digest that changes with the secret. A session ends when the one of its user changes.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        secrets::digest(self.line().as_bytes())
    }

    fn line(&self) -> String {
        let secret = match &self.hash {
            Hash::Token(digest) => format!("sha256:{}", secrets::hex(digest)),
            Hash::Password(hash) => hash.clone(),
            Hash::Proxy => "proxy".to_owned(),
        };
        format!("{} {} {secret}", self.name, self.role.word())
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, role, secret] = words[..] else { return Err("it does not have three words") };
        if !is_name(name) {
            return Err("the name is not valid");
        }
        let role = match role {
            "viewer" => Role::Viewer,
            "reviewer" => Role::Reviewer,
            _ => return Err("the role is neither viewer nor reviewer"),
        };
        let hash = match secret.strip_prefix("sha256:") {
            Some(digits) => {
                let bytes = ::hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok());
                Hash::Token(bytes.ok_or("the hash of the token is not 64 hexadecimal digits")?)
            }
            None if secret == "proxy" => Hash::Proxy,
            None if secret.starts_with("$argon2") && PasswordHash::new(secret).is_ok() => {
                Hash::Password(secret.to_owned())
            }
            None => return Err("the secret is neither sha256:…, an Argon2 hash nor proxy"),
        };
        Ok(Self { name: name.to_owned(), role, hash })
    }
}

/// The users of the console.
#[derive(Clone, Default)]
pub struct Credentials(Vec<Entry>);

impl Credentials {
    fn parse(path: &Path, text: &str) -> Result<Self, CredentialsError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (line, entry) in file::entries(text) {
            let wrong = |reason| CredentialsError::Line { path: path.into(), line, reason };
            let entry = Entry::parse(entry).map_err(wrong)?;
            if entries.iter().any(|known| known.name == entry.name) {
                return Err(wrong("the name has a line already"));
            }
            entries.push(entry);
        }
        Ok(Self(entries))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or a line is not valid.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let text = file::read(path).map_err(|source| CredentialsError::File { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    /// Returns the users.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        let user = |entry: &Entry| User { name: entry.name.clone(), role: entry.role, kind: entry.kind() };
        self.0.iter().map(user).collect()
    }

    /// Returns the user with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.name == name)
    }

    /// Returns the user with this token. All tokens are compared, each in constant time.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Option<&Entry> {
        let wanted = secrets::digest(token.as_bytes());
        let mut found = None;
        for entry in &self.0 {
            if let Hash::Token(digest) = &entry.hash
                && secrets::equal(digest, &wanted)
            {
                found = Some(entry);
            }
        }
        found
    }

    /// Returns the user with this name and password. For an unknown name it takes as long as for a known one.
    #[must_use]
    pub fn with_password(&self, name: &str, password: &str) -> Option<&Entry> {
        let entry = self.find(name);
        let hash = match entry.map(|entry| &entry.hash) {
            Some(Hash::Password(hash)) => hash.as_str(),
            _ => UNKNOWN,
        };
        let parsed = PasswordHash::new(hash).ok()?;
        let verified = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
        entry.filter(|entry| verified && matches!(entry.hash, Hash::Password(_)))
    }

    /// Returns the user with this name whom a proxy authenticates.
    #[must_use]
    pub fn behind_proxy(&self, name: &str) -> Option<&Entry> {
        self.find(name).filter(|entry| entry.hash == Hash::Proxy)
    }

    /// Adds a user to the file. Returns the secret, which cannot be read again, or `None` for a user behind a proxy.
    ///
    /// # Errors
    /// Returns an error if the name is not valid or exists, or if the file cannot be read or written.
    pub fn add(path: &Path, name: &str, role: Role, kind: Kind) -> Result<Option<String>, CredentialsError> {
        if !is_name(name) {
            return Err(CredentialsError::Name { name: name.to_owned() });
        }
        let mut all = match Self::read(path) {
            Err(CredentialsError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::default()
            }
            read => read?,
        };
        if all.find(name).is_some() {
            return Err(CredentialsError::Exists { name: name.to_owned(), path: path.into() });
        }
        let secret = secrets::token();
        let hash = match kind {
            Kind::Token => Hash::Token(secrets::digest(secret.as_bytes())),
            Kind::Password => Hash::Password(hash_password(&secret)?),
            Kind::Proxy => Hash::Proxy,
        };
        all.0.push(Entry { name: name.to_owned(), role, hash });
        all.write(path)?;
        Ok((kind != Kind::Proxy).then_some(secret))
    }

    /// Removes a user from the file. Sessions of the user end.
    ///
    /// # Errors
    /// Returns an error if there is no such user, or if the file cannot be read or written.
    pub fn remove(path: &Path, name: &str) -> Result<(), CredentialsError> {
        let mut all = Self::read(path)?;
        let before = all.0.len();
        all.0.retain(|entry| entry.name != name);
        if all.0.len() == before {
            return Err(CredentialsError::Missing { name: name.to_owned(), path: path.into() });
        }
        all.write(path)
    }

    fn write(&self, path: &Path) -> Result<(), CredentialsError> {
        file::replace_entries(path, HEADER, self.0.iter().map(Entry::line))
            .map_err(|source| CredentialsError::File { path: path.into(), source })
    }
}

/// The hash of no password, with the parameters of [`hash_password`].
const UNKNOWN: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn hash_password(password: &str) -> Result<String, CredentialsError> {
    let failed = |error: argon2::password_hash::Error| CredentialsError::Hash { reason: error.to_string() };
    let salt = SaltString::encode_b64(&secrets::random()[..16]).map_err(failed)?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt).map_err(failed)?.to_string())
}

/// The credentials of a running console, which follow the file.
pub type Store = FollowedFile<Credentials, CredentialsError>;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

    use super::*;
    use crate::access::file::POLL_INTERVAL;

    #[test]
    fn a_user_is_added_verified_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let token = Credentials::add(&path, "ann", Role::Reviewer, Kind::Token).unwrap().unwrap();
        let password = Credentials::add(&path, "bob", Role::Viewer, Kind::Password).unwrap().unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(Credentials::add(&path, "eve", Role::Viewer, Kind::Proxy).unwrap(), None);
        assert_eq!(mode(), 0o640, "the group that reads the file can read the new one");
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token) && !text.contains(&password), "secrets are hashed");
        let all = Credentials::read(&path).unwrap();
        assert_eq!(
            all.with_token(&token).map(|entry| (&*entry.name, entry.role)),
            Some(("ann", Role::Reviewer))
        );
        assert!(all.with_token("aegis_wrong").is_none() && all.with_token(&password).is_none());
        assert_eq!(all.with_password("bob", &password).map(|entry| &*entry.name), Some("bob"));
        for (name, secret) in [("bob", "wrong"), ("ann", &*token), ("eve", ""), ("absent", &*password)] {
            assert!(all.with_password(name, secret).is_none(), "{name}");
        }
        assert!(all.behind_proxy("eve").is_some() && all.behind_proxy("ann").is_none());
        assert!(matches!(
            Credentials::add(&path, "ann", Role::Viewer, Kind::Token),
            Err(CredentialsError::Exists { .. })
        ));
        Credentials::remove(&path, "ann").unwrap();
        assert!(Credentials::read(&path).unwrap().with_token(&token).is_none());
        assert!(matches!(Credentials::remove(&path, "ann"), Err(CredentialsError::Missing { .. })));
    }

    #[test]
    fn wrong_lines_are_refused_without_quoting_them() {
        let hash = format!("sha256:{}", "0".repeat(64));
        for (text, line) in [
            ("ann reviewer", 1),
            ("# fine\n\nann owner proxy", 3),
            ("ann viewer hunter2", 1),
            ("ann viewer sha256:12", 1),
            ("a<b viewer proxy", 1),
            (&*format!("ann viewer {hash}\nann viewer proxy"), 2),
        ] {
            let Err(error) = Credentials::parse(Path::new("users"), text) else {
                panic!("{text} is accepted")
            };
            assert!(error.to_string().starts_with(&format!("users line {line}: ")), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(Credentials::parse(Path::new("users"), "ann viewer proxy # no").is_err());
    }

    #[test]
    fn a_changed_file_is_followed_and_a_broken_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let token = Credentials::add(&path, "ann", Role::Viewer, Kind::Token).unwrap().unwrap();
        let store = Store::open(&path, Credentials::read).unwrap();
        let start = Instant::now();
        Credentials::add(&path, "bob", Role::Viewer, Kind::Token).unwrap();
        assert_eq!(store.now(start).users().len(), 1, "it is not polled at each request");
        assert_eq!(store.now(start + 2 * POLL_INTERVAL).users().len(), 2);
        fs::write(&path, "broken").unwrap();
        assert_eq!(store.now(start + 4 * POLL_INTERVAL).users().len(), 2, "those read before");
        fs::write(&path, "").unwrap();
        assert!(store.now(start + 6 * POLL_INTERVAL).with_token(&token).is_none());
    }
}
