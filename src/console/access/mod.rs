//! Access to the console: credentials, sessions, and the guard that every request to `/api` passes.

mod credentials;
mod failures;
mod guard;
mod identify;
mod login;
mod sessions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use tokio::sync::Semaphore;

pub use credentials::{Credentials, CredentialsError, Entry, Kind, User};
pub use guard::guard;
pub use login::routes;

use super::api::ApiError;
use super::server::ConsoleError;
use crate::access::secrets::{self, Digest, random};
use crate::config;
use credentials::Store;
use failures::Failures;
use sessions::Sessions;

/// The permissions of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Sees all pages except texts.
    Viewer,
    /// Sees texts for review too, and labels.
    Reviewer,
}

impl Role {
    /// Returns the name of the role in the file of credentials and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Reviewer => "reviewer",
        }
    }
}

/// The user of a request, as an extractor. Handlers below `/api` can rely on it, because the guard has put it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The name, from the credential. It is the annotator of labels.
    pub name: String,
    /// The role.
    pub role: Role,
}

impl Session {
    /// Returns an error if the user may not review.
    ///
    /// # Errors
    /// Returns 403 for a viewer.
    pub fn require_reviewer(&self) -> Result<(), ApiError> {
        if self.role == Role::Reviewer {
            return Ok(());
        }
        Err(ApiError::new(StatusCode::FORBIDDEN, "your role is viewer: only a reviewer can do this"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let session = parts.extensions.get::<Self>().cloned();
        session.ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "log in first"))
    }
}

/// A proxy that authenticates users.
struct Proxy {
    /// The header with the user's name.
    header: HeaderName,
    /// The secret that the proxy proves itself with, if one is set.
    secret: Option<String>,
}

/// The state of access. Its memory is bounded.
pub struct Access {
    /// The credentials, or `None` if everyone who reaches the address is the reviewer `local`.
    store: Option<Store>,
    proxy: Option<Proxy>,
    sessions: Mutex<Sessions>,
    failures: Mutex<Failures>,
    /// Verified passwords of basic authentication, as keyed digests, with the entry they belong to. Argon2 would be slow for
    /// each request.
    verified: Mutex<HashMap<Digest, Digest>>,
    /// Argon2 needs 19 MiB for each password: one runs at a time.
    hashing: Arc<Semaphore>,
    /// Returns the time.
    clock: fn() -> Instant,
    /// The key of digests and CSRF tokens. A restart makes a new one.
    key: [u8; 32],
}

impl Access {
    /// Opens the credentials of `[console]`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not valid, or if a proxy's secret is empty.
    pub fn open(settings: &config::Console) -> Result<Self, ConsoleError> {
        let file = &settings.credentials;
        let store =
            if file.as_os_str().is_empty() { None } else { Some(Store::open(file, Credentials::read)?) };
        let secret = settings.proxy_secret.expose();
        let with_secret = !settings.proxy_secret_file.as_os_str().is_empty();
        if with_secret && secret.is_empty() {
            return Err(ConsoleError::EmptyProxySecret { path: settings.proxy_secret_file.clone() });
        }
        let header = HeaderName::from_bytes(settings.proxy_header.as_bytes()).ok();
        let proxy = header.map(|header| Proxy { header, secret: with_secret.then(|| secret.to_owned()) });
        Ok(Self {
            store,
            proxy,
            sessions: Mutex::default(),
            failures: Mutex::default(),
            verified: Mutex::default(),
            hashing: Arc::new(Semaphore::new(1)),
            clock: Instant::now,
            key: random(),
        })
    }

    /// Returns `true` if users must log in.
    #[must_use]
    pub fn has_login(&self) -> bool {
        self.store.is_some()
    }

    /// Returns a secret of this process for one purpose.
    pub(super) fn secret(&self, purpose: &str) -> [u8; 32] {
        secrets::keyed(&self.key, purpose, &[])
    }

    /// Returns the CSRF token of a user.
    fn csrf(&self, name: &str) -> String {
        secrets::hex(&secrets::keyed(&self.key, "csrf", name.as_bytes()))
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn credentials(&self) -> Arc<Credentials> {
        self.store.as_ref().map(|store| store.now(Instant::now())).unwrap_or_default()
    }
}
