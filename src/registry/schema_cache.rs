//! The schemas that the registry has given, and the lookups that are open. One thread sends the lookups.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client::RequestError;
use crate::codec::{DecodeError, SchemaId, Writer};

/// The first pause before a request is repeated. Each further pause is twice as long.
pub const MIN_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before a request is repeated.
pub const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The time for which an id that the registry does not know is not looked up again.
const UNKNOWN_TTL: Duration = Duration::from_secs(30);
/// The time for which an outage is returned without another lookup.
const OUTAGE_TTL: Duration = Duration::from_secs(1);
/// The maximum number of schemas kept. A stream has a handful; at the limit the cache is emptied.
const MAX_SCHEMAS: usize = 256;
/// The maximum number of lookups that are open or have failed lately.
const MAX_LOOKUPS: usize = 4_096;
/// The longest time that [`SchemaCache::wait`] takes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A cache of writers' schemas by their ids.
pub struct SchemaCache {
    state: Mutex<CacheState>,
    changed: Condvar,
    /// The time for which an id that the registry does not know is looked up.
    unknown_wait: Duration,
    /// The time for which a registry that does not answer is asked.
    outage_wait: Duration,
}

#[derive(Default)]
struct CacheState {
    /// The schemas; `None` is a schema that records cannot be read with.
    schemas: HashMap<SchemaId, Option<Arc<Writer>>>,
    lookups: HashMap<SchemaId, Lookup>,
    closed: bool,
}

enum Lookup {
    /// The request is sent at `next`. The times say since when all answers were "unknown", or there were none.
    Open { next: Instant, pause: Duration, unknown_since: Option<Instant>, absent_since: Option<Instant> },
    /// The lookup failed. The error is returned until then.
    Failed { error: DecodeError, until: Instant },
}

impl SchemaCache {
    pub fn new(unknown_wait: Duration, outage_wait: Duration) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), unknown_wait, outage_wait }
    }

    fn lock(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the schema of an id, or the error of its lookup. Opens a lookup if there is neither.
    pub fn find(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        let mut state = self.lock();
        match state.schemas.get(&id) {
            Some(Some(writer)) => return Ok(Arc::clone(writer)),
            Some(None) => return Err(DecodeError::Incompatible { id }),
            None => {}
        }
        let now = Instant::now();
        match state.lookups.get(&id) {
            Some(Lookup::Failed { error, until }) if *until > now => return Err(error.clone()),
            Some(Lookup::Open { .. }) => return Err(DecodeError::SchemaPending { id }),
            _ => {}
        }
        if state.lookups.len() >= MAX_LOOKUPS {
            state.lookups.retain(|_, lookup| matches!(lookup, Lookup::Open { .. }));
        }
        // If the table is still full, the lookup is opened by one of the caller's next attempts.
        if state.lookups.len() < MAX_LOOKUPS {
            let pause = MIN_RETRY_PAUSE;
            state
                .lookups
                .insert(id, Lookup::Open { next: now, pause, unknown_since: None, absent_since: None });
            self.changed.notify_all();
        }
        Err(DecodeError::SchemaPending { id })
    }

    /// Waits until something has changed, at most [`POLL_INTERVAL`].
    pub fn wait(&self) {
        let _ = self.changed.wait_timeout(self.lock(), POLL_INTERVAL);
    }

    /// Ends [`Self::fill`] when its current request is finished.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Looks schemas up with `request` until the cache is closed.
    pub fn fill(&self, request: impl Fn(SchemaId) -> Result<Writer, RequestError>) {
        while let Some(id) = self.next_lookup() {
            let answer = request(id);
            self.on_answer(id, answer, Instant::now());
            self.changed.notify_all();
        }
    }

    /// Waits for the next lookup that is due. Returns `None` if the cache is closed.
    fn next_lookup(&self) -> Option<SchemaId> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let times = state.lookups.iter().filter_map(|(id, lookup)| match lookup {
                Lookup::Open { next, .. } => Some((*next, *id)),
                Lookup::Failed { .. } => None,
            });
            let now = Instant::now();
            state = match times.min() {
                Some((next, id)) if next <= now => return Some(id),
                Some((next, _)) => {
                    self.changed.wait_timeout(state, next - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn on_answer(&self, id: SchemaId, answer: Result<Writer, RequestError>, now: Instant) {
        let mut state = self.lock();
        let error = match answer {
            Ok(writer) => return state.insert(id, Some(Arc::new(writer))),
            Err(RequestError::Unusable) => return state.insert(id, None),
            Err(error) => error,
        };
        let Some(Lookup::Open { next, pause, unknown_since, absent_since }) = state.lookups.get_mut(&id)
        else {
            return;
        };
        let failed = match error {
            RequestError::NotFound => {
                *absent_since = None;
                let since = *unknown_since.get_or_insert(now);
                (now - since >= self.unknown_wait)
                    .then_some((DecodeError::UnknownSchemaId { id }, UNKNOWN_TTL))
            }
            RequestError::Unavailable(reason) => {
                let since = *absent_since.get_or_insert(now);
                tracing::warn!(%id, reason, "the schema registry does not answer");
                (now - since >= self.outage_wait)
                    .then_some((DecodeError::RegistryUnavailable { id, reason }, OUTAGE_TTL))
            }
            RequestError::Refused(reason) | RequestError::Conflict(reason) => {
                Some((DecodeError::RegistryUnavailable { id, reason }, OUTAGE_TTL))
            }
            RequestError::Unusable => None,
        };
        match failed {
            Some((error, ttl)) => {
                state.lookups.insert(id, Lookup::Failed { error, until: now + ttl });
            }
            None => {
                *next = now + *pause;
                *pause = (*pause * 2).min(MAX_RETRY_PAUSE);
            }
        }
    }
}

impl CacheState {
    fn insert(&mut self, id: SchemaId, writer: Option<Arc<Writer>>) {
        if self.schemas.len() >= MAX_SCHEMAS {
            self.schemas.clear();
        }
        self.schemas.insert(id, writer);
        self.lookups.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SchemaId = SchemaId::Number(7);

    fn cache() -> SchemaCache {
        SchemaCache::new(Duration::from_secs(2), Duration::from_secs(30))
    }

    fn absent() -> Result<Writer, RequestError> {
        Err(RequestError::Unavailable("it is down".into()))
    }

    /// Returns the name of the error of an id, or `known`.
    fn outcome(cache: &SchemaCache) -> &'static str {
        cache.find(ID).map_or_else(|error| error.name(), |_| "known")
    }

    #[test]
    fn an_unknown_id_fails_after_its_wait() {
        let (cache, start) = (cache(), Instant::now());
        assert_eq!(outcome(&cache), "SchemaPending");
        cache.on_answer(ID, Err(RequestError::NotFound), start);
        cache.on_answer(ID, Err(RequestError::NotFound), start + Duration::from_millis(1_999));
        assert_eq!(outcome(&cache), "SchemaPending");
        cache.on_answer(ID, Err(RequestError::NotFound), start + Duration::from_secs(2));
        assert_eq!(outcome(&cache), "UnknownSchemaId");
    }

    #[test]
    fn a_schema_may_arrive_during_the_wait() {
        let (cache, start) = (cache(), Instant::now());
        assert_eq!(outcome(&cache), "SchemaPending");
        cache.on_answer(ID, Err(RequestError::NotFound), start);
        cache.on_answer(ID, Ok(Writer::json()), start + Duration::from_secs(1));
        assert_eq!(outcome(&cache), "known");
        // A known schema stays when the registry becomes unavailable.
        cache.on_answer(ID, absent(), start + Duration::from_secs(99));
        assert_eq!(outcome(&cache), "known");
    }

    #[test]
    fn an_outage_does_not_count_against_an_id() {
        let (cache, start) = (cache(), Instant::now());
        assert_eq!(outcome(&cache), "SchemaPending");
        cache.on_answer(ID, absent(), start);
        cache.on_answer(ID, absent(), start + Duration::from_secs(29));
        cache.on_answer(ID, Err(RequestError::NotFound), start + Duration::from_secs(29));
        // There was an answer in between, so a second outage begins here.
        cache.on_answer(ID, absent(), start + Duration::from_secs(30));
        assert_eq!(outcome(&cache), "SchemaPending");
        cache.on_answer(ID, absent(), start + Duration::from_secs(60));
        assert_eq!(outcome(&cache), "RegistryUnavailable");
    }

    #[test]
    fn a_refusal_fails_at_once_and_an_unusable_schema_for_good() {
        let cache = cache();
        assert_eq!(outcome(&cache), "SchemaPending");
        cache.on_answer(ID, Err(RequestError::Refused("401".into())), Instant::now());
        assert_eq!(outcome(&cache), "RegistryUnavailable");
        cache.on_answer(ID, Err(RequestError::Unusable), Instant::now());
        assert_eq!(outcome(&cache), "Incompatible");
    }

    #[test]
    fn the_number_of_ids_is_bounded() {
        let cache = cache();
        for number in 0..10_000 {
            let id = SchemaId::Number(number);
            assert_eq!(cache.find(id).err(), Some(DecodeError::SchemaPending { id }));
        }
        assert_eq!(cache.lock().lookups.len(), MAX_LOOKUPS);
        for number in 0..4_000 {
            cache.on_answer(SchemaId::Number(number), Err(RequestError::Unusable), Instant::now());
        }
        assert!(cache.lock().schemas.len() <= MAX_SCHEMAS);
    }

    #[test]
    fn a_closed_cache_sends_no_requests() {
        let cache = cache();
        let _ = cache.find(ID);
        cache.close();
        cache.fill(|_| panic!("a request was sent"));
    }
}
