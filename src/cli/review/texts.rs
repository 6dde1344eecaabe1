//! The texts of events, read at their positions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cli::Failure;
use crate::cli::scan::ANSWER_TIMEOUT;
use crate::codec::{Defaults, Received, Schemas};
use crate::core::event::Event;
use crate::core::review::ReviewRequest;
use crate::kafka::{Connection, Lookup, SourceError};

/// Reads events of review requests.
pub struct Texts<'a> {
    pub connection: &'a Connection,
    pub defaults: Defaults,
    pub schemas: Option<&'a dyn Schemas>,
    /// The open readers by topic, `None` for a topic that is gone. A request names the topic that its event was read from.
    pub lookups: BTreeMap<String, Option<Lookup>>,
}

impl Texts<'_> {
    /// Returns the event of each request; `None` if it was deleted, or cannot be read any more,
    /// or if its topic is gone.
    ///
    /// # Errors
    /// Returns `Unavailable` if the brokers do not answer.
    pub fn read(&mut self, requests: &[ReviewRequest]) -> Result<Vec<Option<Event>>, Failure> {
        let mut events = vec![None; requests.len()];
        let mut by_topic: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, request) in requests.iter().enumerate() {
            by_topic.entry(&request.origin.topic).or_default().push(place);
        }
        let unavailable = |error| Failure::of(self.connection, error);
        for (topic, places) in by_topic {
            if !self.lookups.contains_key(topic) {
                let lookup = match Lookup::open(self.connection, topic, ANSWER_TIMEOUT) {
                    Ok(lookup) => Some(lookup),
                    Err(SourceError::MissingTopic { .. }) => None,
                    Err(error) => return Err(unavailable(error)),
                };
                self.lookups.insert(topic.to_owned(), lookup);
            }
            let Some(Some(lookup)) = self.lookups.get_mut(topic) else { continue };
            let origin = |place: &usize| {
                let origin = &requests[*place].origin;
                (origin.partition, origin.offset)
            };
            let wanted: Vec<_> = places.iter().map(origin).collect();
            let records = lookup.fetch(&wanted, ANSWER_TIMEOUT).map_err(unavailable)?;
            let name: Arc<str> = topic.into();
            for ((place, record), (partition, offset)) in places.into_iter().zip(records).zip(wanted) {
                let request = &requests[place];
                let read = record.and_then(|record| {
                    let received = Received::new(record.payload.as_deref(), &record.headers, self.schemas);
                    received.at(&name, partition, offset).event(&self.defaults).ok()
                });
                // A topic that was created again has other events at these positions.
                events[place] =
                    read.filter(|event| event.id == request.id.event && event.tenant == request.id.tenant);
            }
        }
        Ok(events)
    }
}
