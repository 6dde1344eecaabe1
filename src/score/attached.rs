//! Decisions that were made for requests, attached to the records of their events.
//!
//! A request is answered before its event is on a topic. The event is then written with two more headers: the decision
//! that was answered, and a signature over event and decision. A scorer that reads the record takes this decision instead
//! of asking the experts again, so that the decision on the topic is the answer that was given, and every event has
//! exactly one. Who can write events cannot write decisions: without the secret that servers and scorers share, the
//! headers are not believed, and the event is decided like any other.

use crate::access::secrets::{self, Digest};
use crate::codec::{self, Encoding, MAX_DECISION};
use crate::core::decision::Decision;
use crate::core::event::Event;
use crate::kafka::Consumed;

use super::ScoreError;

/// The header with the decision, in Avro.
pub const DECISION_HEADER: &str = "aegis-decision";
/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "aegis-decision-signature";
/// The purpose of the signature, which separates it from other uses of a secret.
const PURPOSE: &str = "decision of a request";

/// The secret with which servers sign, and by which scorers know their signatures.
#[derive(Clone)]
pub struct RecordKey(Digest);

/// The decision that a record has.
pub enum Attached {
    /// The record has none.
    None,
    /// The decision that was answered for this event.
    Decision(Box<Decision>),
    /// The record has one that is not believed, for this reason.
    Refused(&'static str),
}

impl RecordKey {
    /// Returns the key of a secret, or `None` if the secret is empty.
    #[must_use]
    pub fn new(secret: &str) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(secrets::digest(secret.as_bytes())))
    }

    fn sign(&self, event: &[u8], decision: &[u8]) -> Digest {
        let mut value = Vec::with_capacity(8 + event.len() + decision.len());
        value.extend_from_slice(&(event.len() as u64).to_le_bytes());
        value.extend_from_slice(event);
        value.extend_from_slice(decision);
        secrets::keyed(&self.0, PURPOSE, &value)
    }

    /// Returns the headers that attach a decision to the record with the value `event`.
    ///
    /// # Errors
    /// Returns an error if the decision cannot be encoded.
    pub fn attach(&self, event: &[u8], decision: &Decision) -> Result<[Header; 2], ScoreError> {
        let decision = codec::encode_decision(decision, Encoding::Avro)?;
        let signature = self.sign(event, &decision).to_vec();
        Ok([(DECISION_HEADER.into(), Some(decision)), (SIGNATURE_HEADER.into(), Some(signature))])
    }
}

/// The name and the value of a header.
type Header = (String, Option<Vec<u8>>);

fn header<'a>(record: &'a Consumed, name: &str) -> Option<&'a [u8]> {
    record.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_deref().unwrap_or_default())
}

/// Returns the decision that is attached to the record of `event`. Without a key, none is believed.
#[must_use]
pub fn attached(key: Option<&RecordKey>, record: &Consumed, event: &Event) -> Attached {
    let Some(decision) = header(record, DECISION_HEADER) else { return Attached::None };
    let Some(key) = key else { return Attached::Refused("no_key") };
    let signature = header(record, SIGNATURE_HEADER).unwrap_or_default();
    let expected = key.sign(record.payload.as_deref().unwrap_or_default(), decision);
    if decision.len() > MAX_DECISION || !secrets::equal(&expected, signature) {
        return Attached::Refused("signature");
    }
    match codec::decode_decision(decision) {
        Ok(decision)
            if decision.id.event == event.id
                && decision.id.tenant == event.tenant
                && decision.id.policy == event.policy =>
        {
            Attached::Decision(Box::new(decision))
        }
        _ => Attached::Refused("unreadable"),
    }
}

/// Removes the headers that [`RecordKey::attach`] has added.
pub fn detach(record: &mut Consumed) {
    record.headers.retain(|(name, _)| name != DECISION_HEADER && name != SIGNATURE_HEADER);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::RoundId;

    fn event(text: &str) -> Event {
        Event { time: Some(5), ..Event::example("e1", text) }
    }

    fn record(event: &Event, key: &RecordKey) -> (Consumed, Decision) {
        let id = RoundId { tenant: "t".into(), policy: "default".into(), event: "e1".into() };
        let decision = Decision::example(id, 5);
        let payload = codec::encode_event(event, Encoding::Avro).unwrap();
        let headers = key.attach(&payload, &decision).unwrap().to_vec();
        let consumed = Consumed {
            topic: "events".into(),
            partition: 0,
            offset: 7,
            key: None,
            payload: Some(payload),
            headers,
            timestamp: Some(9),
        };
        (consumed, decision)
    }

    fn refused(found: Attached) -> &'static str {
        match found {
            Attached::Refused(reason) => reason,
            Attached::None => "none",
            Attached::Decision(_) => "taken",
        }
    }

    #[test]
    fn a_signed_decision_is_taken_as_it_was_answered() {
        let key = RecordKey::new("a secret of servers and scorers").unwrap();
        let event = event("hello");
        let (mut consumed, answered) = record(&event, &key);
        let Attached::Decision(found) = attached(Some(&key), &consumed, &event) else { panic!("not taken") };
        assert_eq!(*found, answered);
        detach(&mut consumed);
        assert!(consumed.headers.is_empty());
        assert_eq!(refused(attached(Some(&key), &consumed, &event)), "none");
    }

    #[test]
    fn a_forged_decision_is_not_believed() {
        let key = RecordKey::new("a secret of servers and scorers").unwrap();
        let own = event("hello");
        let (consumed, _) = record(&own, &key);
        assert_eq!(refused(attached(None, &consumed, &own)), "no_key");
        let other = RecordKey::new("another secret");
        assert_eq!(refused(attached(other.as_ref(), &consumed, &own)), "signature");
        // The decision of a harmless text, on another text.
        let harmful = codec::encode_event(&event("harm"), Encoding::Avro).unwrap();
        let moved = Consumed { payload: Some(harmful), ..consumed.clone() };
        assert_eq!(refused(attached(Some(&key), &moved, &own)), "signature");
        let unsigned = Consumed { headers: consumed.headers[..1].to_vec(), ..consumed.clone() };
        assert_eq!(refused(attached(Some(&key), &unsigned, &own)), "signature");
        let renamed = Event { id: "e2".into(), ..own };
        assert_eq!(refused(attached(Some(&key), &consumed, &renamed)), "unreadable");
        assert!(RecordKey::new("").is_none());
    }
}
