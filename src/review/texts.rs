//! Reads the conversation of a request when it is shown. Texts stay in memory while they are shown, and nowhere else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;

use crate::codec::{Defaults, Received, Schemas};
use crate::core::decision::Origin;
use crate::core::event::Event;
use crate::core::ledger::RoundId;
use crate::core::review::ReviewRequest;
use crate::kafka::{Connection, Lookup, SourceError};

/// The number of conversations in memory. A further one replaces the oldest.
const MAX_TEXTS: usize = 16;
/// The time-out for reading an event, if the brokers are near.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The reason for which a text cannot be shown. It never contains the text.
#[derive(Debug, Error)]
pub enum TextError {
    /// Retention has deleted the event, or the position has another event now.
    #[error("the event is no longer on its topic")]
    Expired,
    /// The request names a topic that is not that of events.
    #[error("the request names another topic than topics.events: the text cannot be read")]
    OtherTopic,
    /// The event cannot be decoded.
    #[error("the event cannot be read ({name}): was event_fields changed since it was decided?")]
    Unreadable {
        /// The name of the error.
        name: &'static str,
    },
    /// The brokers do not answer.
    #[error("the event cannot be read from its topic: {0}")]
    Source(#[from] SourceError),
}

/// A conversation in memory.
struct Shown {
    id: RoundId,
    /// The position that it was read from. An event that is sent again has another one, and perhaps another text.
    origin: Origin,
    event: Arc<Event>,
}

/// Reads conversations.
pub struct Texts {
    connection: Connection,
    topic: String,
    defaults: Defaults,
    /// It is locked while the brokers are waited for.
    lookup: Mutex<Option<Lookup>>,
    /// It is never locked for long.
    shown: Mutex<VecDeque<Shown>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Texts {
    /// Reads the events of `topic`.
    #[must_use]
    pub fn new(connection: &Connection, topic: &str, defaults: Defaults) -> Self {
        let (connection, topic) = (connection.clone(), topic.to_owned());
        Self { connection, topic, defaults, lookup: Mutex::default(), shown: Mutex::default() }
    }

    /// Returns the event of a request.
    ///
    /// # Errors
    /// Returns a [`TextError`] if the event is deleted or cannot be read.
    pub fn read(
        &self,
        request: &ReviewRequest,
        schemas: Option<&dyn Schemas>,
    ) -> Result<Arc<Event>, TextError> {
        let is_known = |shown: &&Shown| shown.id == request.id && shown.origin == request.origin;
        if let Some(known) = lock(&self.shown).iter().find(is_known) {
            return Ok(Arc::clone(&known.event));
        }
        if request.origin.topic != self.topic {
            return Err(TextError::OtherTopic);
        }
        let at = (request.origin.partition, request.origin.offset);
        let record = self.fetch(at)?.ok_or(TextError::Expired)?;
        let payload = record.payload.as_deref();
        let received = Received::new(payload, &record.headers, schemas);
        let event = received
            .at(&record.topic, record.partition, record.offset)
            .event(&self.defaults)
            .map_err(|error| TextError::Unreadable { name: error.name() })?;
        // The topic may have been created again since the decision.
        if event.id != request.id.event
            || event.tenant != request.id.tenant
            || event.policy != request.id.policy
        {
            return Err(TextError::Expired);
        }
        let event = Arc::new(event);
        let mut shown = lock(&self.shown);
        shown.retain(|one| one.id != request.id);
        let (id, origin) = (request.id.clone(), request.origin.clone());
        shown.push_back(Shown { id, origin, event: Arc::clone(&event) });
        if shown.len() > MAX_TEXTS {
            shown.pop_front();
        }
        drop(shown);
        Ok(event)
    }

    /// Forgets the text of a request that is no longer shown.
    pub fn forget(&self, id: &RoundId) {
        lock(&self.shown).retain(|shown| shown.id != *id);
    }

    fn fetch(&self, at: (i32, i64)) -> Result<Option<crate::kafka::Consumed>, SourceError> {
        let timeout = self.connection.request_timeout(TIMEOUT);
        let mut shared = lock(&self.lookup);
        let mut lookup = match shared.take() {
            Some(lookup) => lookup,
            None => Lookup::open(&self.connection, &self.topic, timeout)?,
        };
        let found = lookup.fetch(&[at], timeout)?;
        // After an error a new client is opened.
        *shared = Some(lookup);
        Ok(found.into_iter().next().flatten())
    }
}
