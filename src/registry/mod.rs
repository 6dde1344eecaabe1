//! A client of a schema registry with Confluent's API: it looks up the schemas of writers by id and registers our own.
//!
//! One thread sends the lookups. [`Registry::writer`](Schemas::writer) never blocks: it returns
//! [`DecodeError::SchemaPending`] until the answer is there, so that an unknown schema delays only its own partition.
//! [`Registry::waiting`] blocks instead. Schemas that are known stay known when the registry becomes unavailable.

mod client;
mod encodings;
mod error;
mod schema_cache;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use encodings::Encodings;
pub use error::RegistryError;

use crate::codec::{DecodeError, SchemaId, Schemas, Writer};
use crate::{config, panics};
use client::{Client, RequestError};
use schema_cache::SchemaCache;

/// A schema registry, with the schemas that it has given so far.
pub struct Registry {
    cache: Arc<SchemaCache>,
    client: Arc<Client>,
    /// The time for which requests are repeated while the registry does not answer.
    outage: Duration,
}

impl Registry {
    /// Opens the registry of the section `[registry]`. Returns `None` if its `url` is empty.
    ///
    /// # Errors
    /// Returns the errors of [`Self::open`].
    pub fn from_config(settings: &config::Registry) -> Result<Option<Self>, RegistryError> {
        if settings.url.is_empty() { Ok(None) } else { Self::open(settings).map(Some) }
    }

    /// Starts the thread that looks schemas up. The registry need not be running yet.
    ///
    /// # Errors
    /// Returns [`RegistryError::Settings`] if a setting cannot be used, or [`RegistryError::Thread`] if the thread cannot be
    /// started.
    pub fn open(settings: &config::Registry) -> Result<Self, RegistryError> {
        let client = Arc::new(Client::new(settings)?);
        let outage = Duration::from_millis(settings.outage_wait_ms);
        let cache = Arc::new(SchemaCache::new(Duration::from_millis(settings.unknown_wait_ms), outage));
        let (thread_cache, thread_client) = (Arc::clone(&cache), Arc::clone(&client));
        std::thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                panics::mark_fatal("process");
                thread_cache.fill(|id| thread_client.writer(id));
            })
            .map_err(|error| RegistryError::Thread { reason: error.to_string() })?;
        Ok(Self { cache, client, outage })
    }

    /// Returns a view that waits for each answer as long as the settings allow, or until `stop` returns `true`.
    #[must_use]
    pub fn waiting<'a>(&'a self, stop: &'a dyn Fn() -> bool) -> Waiting<'a> {
        Waiting { cache: &self.cache, stop }
    }

    /// Returns the id of an Avro schema under a subject. If `add` is set and the registry does not have the schema, it is
    /// registered. The request is repeated for `outage_wait_ms` while the registry does not answer.
    ///
    /// # Errors
    /// Returns a [`RegistryError`] if the registry refuses the schema, does not have it, or does not answer, or if `stop`
    /// returns `true`.
    pub fn register(
        &self,
        subject: &str,
        schema: &str,
        add: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<u32, RegistryError> {
        let deadline = Instant::now() + self.outage;
        let mut pause = schema_cache::MIN_RETRY_PAUSE;
        loop {
            let reason = match self.client.id(subject, schema, add) {
                Ok(id) => return Ok(id),
                Err(RequestError::NotFound) => {
                    return Err(RegistryError::NotRegistered { subject: subject.to_owned() });
                }
                Err(RequestError::Conflict(reason)) => {
                    return Err(RegistryError::Conflict { subject: subject.to_owned(), reason });
                }
                Err(RequestError::Refused(reason)) => return Err(RegistryError::Unavailable { reason }),
                Err(RequestError::Unusable) => {
                    let reason = "it answers with something other than an id".into();
                    return Err(RegistryError::Unavailable { reason });
                }
                Err(RequestError::Unavailable(reason)) => reason,
            };
            if stop() {
                return Err(RegistryError::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(RegistryError::Unavailable { reason });
            }
            tracing::warn!(reason, "the schema registry does not answer: retrying");
            std::thread::sleep(pause);
            pause = (pause * 2).min(schema_cache::MAX_RETRY_PAUSE);
        }
    }
}

/// Returns the registry, if there is one, as the codec's source of schemas.
#[must_use]
pub fn as_schemas(registry: Option<&Registry>) -> Option<&dyn Schemas> {
    registry.map(|registry| registry as &dyn Schemas)
}

impl Schemas for Registry {
    fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        self.cache.find(id)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.cache.close();
    }
}

/// A view of a registry that waits for its answers.
pub struct Waiting<'a> {
    cache: &'a SchemaCache,
    stop: &'a dyn Fn() -> bool,
}

impl Schemas for Waiting<'_> {
    fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        loop {
            match self.cache.find(id) {
                Err(DecodeError::SchemaPending { .. }) if !(self.stop)() => self.cache.wait(),
                other => return other,
            }
        }
    }
}
