//! A schema registry with Confluent's API: writers' schemas by id, and the registration of our own.
//!
//! One thread asks; nobody else waits for the network. [`Registry`] itself answers at once, if need be that
//! the answer is not there yet, so that one unknown schema holds up its own partition only;
//! [`Registry::waiting`] is for those who have nothing else to do. What is known stays known when the
//! registry goes away.

mod client;
mod error;
mod schema_cache;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::RegistryError;

use crate::codec::{DecodeError, SchemaId, Schemas, Writer};
use crate::panics;
use client::{Client, Fault};
use schema_cache::SchemaCache;

/// How a registry is reached and how patient to be with it.
#[derive(Clone)]
pub struct Settings {
    /// Addresses of its Confluent API, of equal standing: the next one is asked where one does not answer.
    pub urls: Vec<String>,
    /// User of basic authentication; empty: none.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// PEM file of the authorities that vouch for the registry; `None`: the system's.
    pub authorities: Option<PathBuf>,
    /// PEM files of our certificate and its key (PKCS#8), where the registry asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A request takes at most this long.
    pub request: Duration,
    /// An id that the registry does not know is asked for again this long: it may be on its way.
    pub unknown: Duration,
    /// A registry that does not answer is asked again this long.
    pub outage: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            user: String::new(),
            password: String::new(),
            authorities: None,
            identity: None,
            request: Duration::from_secs(5),
            unknown: Duration::from_secs(2),
            outage: Duration::from_secs(30),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Settings")
            .field("urls", &self.urls)
            .field("user", &self.user)
            .field("password", &if self.password.is_empty() { "" } else { "***" })
            .field("authorities", &self.authorities)
            .field("identity", &self.identity)
            .field("request", &self.request)
            .field("unknown", &self.unknown)
            .field("outage", &self.outage)
            .finish()
    }
}

/// How the subject is named under which our schema is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subjects {
    /// `<topic>-value`.
    Topic,
    /// The record's full name.
    Record,
    /// `<topic>-<record's full name>`.
    TopicRecord,
}

impl Subjects {
    /// The subject of values on `topic` whose schema's full name is `record`.
    #[must_use]
    pub fn subject(self, topic: &str, record: &str) -> String {
        match self {
            Self::Topic => format!("{topic}-value"),
            Self::Record => record.to_owned(),
            Self::TopicRecord => format!("{topic}-{record}"),
        }
    }
}

/// What is known of a registry, and the thread that asks it.
pub struct Registry {
    book: Arc<SchemaCache>,
    client: Arc<Client>,
    settings: Settings,
}

impl Registry {
    /// Starts the thread. The registry need not be there yet.
    ///
    /// # Errors
    /// Where the settings are of no use, or the system has no thread to give.
    pub fn open(settings: Settings) -> Result<Self, RegistryError> {
        let client = Arc::new(Client::new(&settings)?);
        let book = Arc::new(SchemaCache::new(settings.unknown, settings.outage));
        let (its_book, its_client) = (Arc::clone(&book), Arc::clone(&client));
        std::thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                panics::mark_fatal("process");
                its_book.fill(|id| its_client.writer(id));
            })
            .map_err(|error| RegistryError::Thread { reason: error.to_string() })?;
        Ok(Self { book, client, settings })
    }

    /// The same, waiting for each answer as long as the settings allow, or until `stop` says so.
    #[must_use]
    pub fn waiting<'a>(&'a self, stop: &'a dyn Fn() -> bool) -> Waiting<'a> {
        Waiting { book: &self.book, stop }
    }

    /// The id of an Avro schema under a subject; where `add` is set and the registry does not have it, it is
    /// registered. A registry that does not answer is asked again as long as the settings allow.
    ///
    /// # Errors
    /// Where the registry refuses the schema, does not have it, or does not answer.
    pub fn register(
        &self,
        subject: &str,
        schema: &str,
        add: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<u32, RegistryError> {
        let until = Instant::now() + self.settings.outage;
        let mut pause = schema_cache::SHORTEST;
        loop {
            let reason = match self.client.id(subject, schema, add) {
                Ok(id) => return Ok(id),
                Err(Fault::Unknown) => {
                    return Err(RegistryError::NotRegistered { subject: subject.to_owned() });
                }
                Err(Fault::Conflict(reason)) => {
                    return Err(RegistryError::Conflict { subject: subject.to_owned(), reason });
                }
                Err(Fault::Refused(reason)) => return Err(RegistryError::Unavailable { reason }),
                Err(Fault::Unfit) => {
                    return Err(RegistryError::Unavailable { reason: "it answers something else".into() });
                }
                Err(Fault::Absent(reason)) => reason,
            };
            if stop() {
                return Err(RegistryError::Interrupted);
            }
            if Instant::now() >= until {
                return Err(RegistryError::Unavailable { reason });
            }
            tracing::warn!(reason, "the schema registry does not answer: asking again");
            std::thread::sleep(pause);
            pause = (pause * 2).min(schema_cache::LONGEST);
        }
    }
}

impl Schemas for Registry {
    fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        self.book.find(id)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.book.close();
    }
}

/// A registry for those who can wait.
pub struct Waiting<'a> {
    book: &'a SchemaCache,
    stop: &'a dyn Fn() -> bool,
}

impl Schemas for Waiting<'_> {
    fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        loop {
            match self.book.find(id) {
                Err(DecodeError::SchemaPending { .. }) if !(self.stop)() => self.book.wait(),
                other => return other,
            }
        }
    }
}
