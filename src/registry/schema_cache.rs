//! What has been asked of the registry, and what it said. A pure table behind a lock; one thread fills it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client::Fault;
use crate::codec::{DecodeError, SchemaId, Writer};

/// The first pause before a request is repeated; each is twice the last.
pub const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(1);
/// An id that the registry does not know is not asked for again this long.
const UNKNOWN_STAYS: Duration = Duration::from_secs(30);
/// An outage is told this long to those who ask; then it is looked again.
const OUTAGE_STAYS: Duration = Duration::from_secs(1);
/// Greatest number of schemas kept. A stream has a handful; beyond this all are fetched again.
const MAX_KNOWN: usize = 256;
/// Greatest number of ids being asked for, or lately not known.
const MAX_ASKED: usize = 4_096;
/// Those who wait look at least this often whether they shall stop.
const LOOK: Duration = Duration::from_millis(50);

/// The table.
pub struct SchemaCache {
    pages: Mutex<Pages>,
    changed: Condvar,
    unknown: Duration,
    outage: Duration,
}

#[derive(Default)]
struct Pages {
    /// `None`: no schema that we can read with.
    known: HashMap<SchemaId, Option<Arc<Writer>>>,
    asked: HashMap<SchemaId, Asked>,
    closed: bool,
}

enum Asked {
    /// To be asked at this time; so far the registry said so since then.
    Open { next: Instant, pause: Duration, unknown: Option<Instant>, absent: Option<Instant> },
    /// Told to everybody until then.
    Done { error: DecodeError, until: Instant },
}

impl SchemaCache {
    pub fn new(unknown: Duration, outage: Duration) -> Self {
        Self { pages: Mutex::default(), changed: Condvar::new(), unknown, outage }
    }

    fn open(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schema of an id, or what is known instead. Asks for it where nothing is.
    pub fn find(&self, id: SchemaId) -> Result<Arc<Writer>, DecodeError> {
        let mut pages = self.open();
        match pages.known.get(&id) {
            Some(Some(writer)) => return Ok(Arc::clone(writer)),
            Some(None) => return Err(DecodeError::Incompatible { id }),
            None => {}
        }
        let now = Instant::now();
        match pages.asked.get(&id) {
            Some(Asked::Done { error, until }) if *until > now => return Err(error.clone()),
            Some(Asked::Open { .. }) => return Err(DecodeError::SchemaPending { id }),
            _ => {}
        }
        if pages.asked.len() >= MAX_ASKED {
            pages.asked.retain(|_, asked| matches!(asked, Asked::Open { .. }));
        }
        // Still full: whoever asks comes again.
        if pages.asked.len() < MAX_ASKED {
            pages.asked.insert(id, Asked::Open { next: now, pause: SHORTEST, unknown: None, absent: None });
            self.changed.notify_all();
        }
        Err(DecodeError::SchemaPending { id })
    }

    /// Waits until something has changed, or a moment.
    pub fn wait(&self) {
        let _ = self.changed.wait_timeout(self.open(), LOOK);
    }

    /// Ends the thread that fills the table, as soon as its request is over.
    pub fn close(&self) {
        self.open().closed = true;
        self.changed.notify_all();
    }

    /// Asks for what is wanted until the table is closed.
    pub fn fill(&self, ask: impl Fn(SchemaId) -> Result<Writer, Fault>) {
        while let Some(id) = self.due() {
            let answer = ask(id);
            self.note(id, answer, Instant::now());
            self.changed.notify_all();
        }
    }

    /// Waits for the next id to be asked; `None` once the table is closed.
    fn due(&self) -> Option<SchemaId> {
        let mut pages = self.open();
        loop {
            if pages.closed {
                return None;
            }
            let times = pages.asked.iter().filter_map(|(id, asked)| match asked {
                Asked::Open { next, .. } => Some((*next, *id)),
                Asked::Done { .. } => None,
            });
            let now = Instant::now();
            pages = match times.min() {
                Some((next, id)) if next <= now => return Some(id),
                Some((next, _)) => {
                    self.changed.wait_timeout(pages, next - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(pages).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Notes what the registry said.
    fn note(&self, id: SchemaId, answer: Result<Writer, Fault>, now: Instant) {
        let mut pages = self.open();
        let fault = match answer {
            Ok(writer) => return pages.keep(id, Some(Arc::new(writer))),
            Err(Fault::Unfit) => return pages.keep(id, None),
            Err(fault) => fault,
        };
        let Some(Asked::Open { next, pause, unknown, absent }) = pages.asked.get_mut(&id) else { return };
        let done = match fault {
            Fault::Unknown => {
                *absent = None;
                let since = *unknown.get_or_insert(now);
                (now - since >= self.unknown).then_some((DecodeError::UnknownSchemaId { id }, UNKNOWN_STAYS))
            }
            Fault::Absent(reason) => {
                let since = *absent.get_or_insert(now);
                tracing::warn!(%id, reason, "the schema registry does not answer");
                (now - since >= self.outage)
                    .then_some((DecodeError::RegistryUnavailable { id, reason }, OUTAGE_STAYS))
            }
            Fault::Refused(reason) | Fault::Conflict(reason) => {
                Some((DecodeError::RegistryUnavailable { id, reason }, OUTAGE_STAYS))
            }
            Fault::Unfit => None,
        };
        match done {
            Some((error, stays)) => {
                pages.asked.insert(id, Asked::Done { error, until: now + stays });
            }
            None => {
                *next = now + *pause;
                *pause = (*pause * 2).min(LONGEST);
            }
        }
    }
}

impl Pages {
    fn keep(&mut self, id: SchemaId, writer: Option<Arc<Writer>>) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(id, writer);
        self.asked.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SchemaId = SchemaId::Number(7);

    fn book() -> SchemaCache {
        SchemaCache::new(Duration::from_secs(2), Duration::from_secs(30))
    }

    fn absent() -> Result<Writer, Fault> {
        Err(Fault::Absent("it is down".into()))
    }

    /// Name of what the table says of an id.
    fn said(book: &SchemaCache) -> &'static str {
        book.find(ID).map_or_else(|error| error.name(), |_| "known")
    }

    #[test]
    fn an_unknown_id_is_asked_for_its_time_and_then_told() {
        let (book, start) = (book(), Instant::now());
        assert_eq!(said(&book), "SchemaPending");
        book.note(ID, Err(Fault::Unknown), start);
        book.note(ID, Err(Fault::Unknown), start + Duration::from_millis(1_999));
        assert_eq!(said(&book), "SchemaPending");
        book.note(ID, Err(Fault::Unknown), start + Duration::from_secs(2));
        assert_eq!(said(&book), "UnknownSchemaId");
    }

    #[test]
    fn it_may_come_in_time() {
        let (book, start) = (book(), Instant::now());
        assert_eq!(said(&book), "SchemaPending");
        book.note(ID, Err(Fault::Unknown), start);
        book.note(ID, Ok(Writer::json()), start + Duration::from_secs(1));
        assert_eq!(said(&book), "known");
        // What is known outlives the registry.
        book.note(ID, absent(), start + Duration::from_secs(99));
        assert_eq!(said(&book), "known");
    }

    #[test]
    fn an_outage_does_not_count_against_an_id() {
        let (book, start) = (book(), Instant::now());
        assert_eq!(said(&book), "SchemaPending");
        book.note(ID, absent(), start);
        book.note(ID, absent(), start + Duration::from_secs(29));
        book.note(ID, Err(Fault::Unknown), start + Duration::from_secs(29));
        // An answer in between: the outage begins anew.
        book.note(ID, absent(), start + Duration::from_secs(30));
        assert_eq!(said(&book), "SchemaPending");
        book.note(ID, absent(), start + Duration::from_secs(60));
        assert_eq!(said(&book), "RegistryUnavailable");
    }

    #[test]
    fn a_refusal_is_told_at_once_and_an_unfit_schema_for_good() {
        let book = book();
        assert_eq!(said(&book), "SchemaPending");
        book.note(ID, Err(Fault::Refused("401".into())), Instant::now());
        assert_eq!(said(&book), "RegistryUnavailable");
        book.note(ID, Err(Fault::Unfit), Instant::now());
        assert_eq!(said(&book), "Incompatible");
    }

    #[test]
    fn a_flood_of_ids_stays_bounded() {
        let book = book();
        for number in 0..10_000 {
            let id = SchemaId::Number(number);
            assert_eq!(book.find(id).err(), Some(DecodeError::SchemaPending { id }));
        }
        assert_eq!(book.open().asked.len(), MAX_ASKED);
        for number in 0..4_000 {
            book.note(SchemaId::Number(number), Err(Fault::Unfit), Instant::now());
        }
        assert!(book.open().known.len() <= MAX_KNOWN);
    }

    #[test]
    fn a_closed_book_is_filled_no_more() {
        let book = book();
        let _ = book.find(ID);
        book.close();
        book.fill(|_| panic!("asked"));
    }
}
