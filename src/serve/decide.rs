//! Decides the texts of a request and records them: what all endpoints share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use crossbeam_channel::TrySendError;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::caller::Caller;
use super::recorder::Room;
use super::refusal::Refusal;
use super::server::App;
use super::trace::{Headers, RequestTrace};
use crate::access::secrets;
use crate::codec::{self, Encoding};
use crate::config::OnReview;
use crate::core::decision::Decision;
use crate::core::event::{Event, MAX_ID, Turn};
use crate::core::policy::Action;
use crate::score::{Answer, Request};

/// The header by which a client names a request, so that repeating it is seen.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header of an answer in which an expert is missing.
const DEGRADED: HeaderName = HeaderName::from_static("aegis-degraded");

/// The time by which a request is answered.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

/// A text to judge, with the turns before it.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The turns. The last one is judged.
    pub turns: Vec<Turn>,
    /// The id of the conversation, if the request names one.
    pub conversation: Option<String>,
    /// The user who wrote the text, if the request names one.
    pub subject: Option<String>,
}

/// The head of a request, as far as deciding needs it.
pub struct Head {
    caller: Caller,
    deadline: Instant,
    trace: Arc<RequestTrace>,
    idempotency_key: Option<String>,
}

impl Head {
    /// Reads the head of a request of this client.
    ///
    /// # Errors
    /// Refuses an idempotency key that cannot be part of an id.
    pub fn new(
        caller: Caller,
        deadline: Deadline,
        trace: Arc<RequestTrace>,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default().to_owned());
        let idempotency_key = text(IDEMPOTENCY_KEY);
        // The number of a text is added to it.
        if idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_ID - 16) {
            let message =
                format!("the idempotency key is empty or longer than {} ASCII characters", MAX_ID - 16);
            return Err(Refusal::invalid("invalid_idempotency_key", message));
        }
        Ok(Self { caller, deadline: deadline.0, trace, idempotency_key })
    }

    /// Returns the client.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the id of the text with this number of a request with `count` texts.
    pub fn event_id(&self, number: usize, count: usize) -> String {
        match &self.idempotency_key {
            Some(key) if count == 1 => key.clone(),
            Some(key) => format!("{key}-{number}"),
            None => format!("http-{}", secrets::hex(&secrets::random()[..16])),
        }
    }
}

/// An event that is being decided.
struct Pending {
    answer: oneshot::Receiver<Answer>,
    /// The event's record, if requests are recorded.
    record: Option<EventRecord>,
}

/// The record of an event, without its decision.
struct EventRecord {
    value: Vec<u8>,
    headers: Headers,
    /// Its part of the memory.
    room: Room,
}

impl App {
    /// Returns a draft for each of the turns with these indices, with the turns before it as its history.
    ///
    /// # Errors
    /// Refuses more turns than a request may have texts.
    pub fn drafts(&self, turns: &[Turn], judged: &[usize]) -> Result<Vec<Draft>, Refusal> {
        if judged.len() > self.config.http.moderation.max_items {
            let message = "more messages than http.moderation.max_items: send the newest ones, or raise it";
            return Err(Refusal::invalid("too_many_texts", message).of("messages"));
        }
        let draft = |index: &usize| Draft { turns: turns[..=*index].to_vec(), ..Draft::default() };
        Ok(judged.iter().map(draft).collect())
    }

    /// Decides drafts: one decision for each, in their order.
    ///
    /// # Errors
    /// As [`decide_events`](Self::decide_events).
    pub async fn decide(&self, head: &Head, drafts: Vec<Draft>) -> Result<Vec<Decision>, Refusal> {
        let (defaults, count) = (&self.config.defaults, drafts.len());
        let event = |(number, draft): (usize, Draft)| {
            let Draft { turns, conversation, subject } = draft;
            let id = head.event_id(number, count);
            let judged = turns.len().saturating_sub(1);
            Event {
                conversation: conversation.unwrap_or_else(|| id.clone()),
                id,
                tenant: head.caller.tenant(&defaults.tenant),
                policy: head.caller.policy(&defaults.policy),
                subject,
                time: None,
                turns,
                judged,
                metadata: BTreeMap::new(),
            }
        };
        let events = drafts.into_iter().enumerate().map(event).collect();
        self.decide_events(head, events).await
    }

    /// Decides events: one decision for each, in their order. If requests are recorded, each event gets its record; with
    /// `durable`, this returns after the records are confirmed.
    ///
    /// # Errors
    /// Refuses events that are not valid (400), more than can ever be recorded (413), too many for now (503), and those that
    /// are not decided in time (504).
    /// Nothing is recorded of a request that is refused, unless the reason is its record.
    pub async fn decide_events(&self, head: &Head, mut events: Vec<Event>) -> Result<Vec<Decision>, Refusal> {
        let settings = &self.config.http.moderation;
        self.check(&mut events)?;
        head.trace.accept(events.len());
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let _accepted = self.queue.try_acquire_many(count).map_err(|_| full("the queue of texts is full"))?;
        let values = self.encode(&events)?;
        let mut pending = Vec::with_capacity(events.len());
        for (number, (event, value)) in events.into_iter().zip(values).enumerate() {
            pending.push(self.submit(event, value, number, head)?);
        }
        let mut decided = Vec::with_capacity(pending.len());
        for Pending { answer, record } in pending {
            let answer = timeout_at(head.deadline, answer).await.map_err(|_| late())?;
            let Answer { decision, span } = answer.map_err(|_| stopping())?;
            head.trace.decided(span);
            decided.push((decision, record));
        }
        let (mut decisions, mut confirmations) = (Vec::new(), Vec::new());
        for (decision, record) in decided {
            if let (Some(EventRecord { value, headers, room }), Some(recorder)) = (record, &self.recorder) {
                confirmations.push(recorder.record(room, value, &decision, headers)?);
            }
            decisions.push(decision);
        }
        if settings.durable {
            for confirmed in confirmations {
                let confirmed = timeout_at(head.deadline, confirmed).await.map_err(|_| unconfirmed())?;
                confirmed.map_err(|_| unwritten())?;
            }
        }
        Ok(decisions)
    }

    /// Encodes the events for their records. Without records each value is `None`.
    fn encode(&self, events: &[Event]) -> Result<Vec<Option<Vec<u8>>>, Refusal> {
        let Some(recorder) = &self.recorder else { return Ok(vec![None; events.len()]) };
        let encode =
            |event: &Event| codec::encode_event(event, Encoding::Avro).map_err(|error| failed(&error));
        let values = events.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        if !recorder.can_hold(&values) {
            let message = "the records of this request never fit into http.moderation.record_queue_mib: send fewer texts, \
                           or less text, at a time";
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "records_too_large", message));
        }
        Ok(values.into_iter().map(Some).collect())
    }

    /// Gives the event of the text with this number to the scorer. `value` is that of its record.
    fn submit(
        &self,
        event: Event,
        value: Option<Vec<u8>>,
        number: usize,
        head: &Head,
    ) -> Result<Pending, Refusal> {
        let (trace, headers) = head.trace.text(number);
        let record = match (&self.recorder, value) {
            (Some(recorder), Some(value)) => {
                let room = recorder.room(&value);
                let room = room.ok_or_else(|| full("the brokers do not confirm earlier requests"))?;
                Some(EventRecord { value, headers: headers.clone(), room })
            }
            _ => None,
        };
        let (sender, answer) = oneshot::channel();
        let request = Request { event, headers, trace, answer: sender };
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => full("the queue of texts is full"),
            TrySendError::Disconnected(_) => stopping(),
        })?;
        Ok(Pending { answer, record })
    }

    /// Checks events, and dates those without a time.
    fn check(&self, events: &mut [Event]) -> Result<(), Refusal> {
        let settings = &self.config.http.moderation;
        if events.is_empty() {
            return Err(Refusal::invalid("empty", "there is no text to judge"));
        }
        if events.len() > settings.max_items {
            let message =
                format!("{} texts, more than {}: send several requests", events.len(), settings.max_items);
            return Err(Refusal::invalid("too_many_texts", message));
        }
        let policies = self.policies.now();
        for event in events {
            event.check().map_err(|error| Refusal::invalid("invalid_event", error.to_string()))?;
            if policies.get(&event.policy).is_none() {
                let message = "the policies file does not have the policy of this request: add it there, or name another";
                return Err(Refusal::invalid("unknown_policy", message).of("policy"));
            }
            // The round time is then the same here and on the topic.
            event.time.get_or_insert_with(now);
        }
        Ok(())
    }

    /// Returns `true` if the text of a decision must not pass.
    pub fn blocks(&self, decision: &Decision) -> bool {
        match decision.action {
            Action::Allow => false,
            Action::Block => true,
            Action::Review => self.config.http.moderation.review == OnReview::Block,
        }
    }
}

/// Returns the time in milliseconds since the Unix epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Refuses a request for which there is no room now.
pub fn full(why: &str) -> Refusal {
    let message = format!("{why}: try again after the time in Retry-After");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message).retry_after(1)
}

/// Refuses a request that took too long.
pub fn late() -> Refusal {
    let message = "there was no answer in time, and nothing is recorded of this request";
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message)
}

fn unconfirmed() -> Refusal {
    let message =
        "the decision is made, and the brokers have not confirmed its record in time: it may be written";
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "not_confirmed", message)
}

/// Refuses a request because the server ends.
pub fn stopping() -> Refusal {
    full("the server is stopping")
}

fn unwritten() -> Refusal {
    let message = "the request cannot be recorded: the server's log says why";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
}

/// Refuses a request whose record cannot be encoded.
pub fn failed(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "a request cannot be recorded");
    unwritten()
}

/// Returns an answer. Its head says if an expert is missing in one of the decisions.
pub fn answer(decisions: &[Decision], body: impl Serialize) -> Response {
    mark(decisions, Json(body).into_response())
}

/// Marks an answer in which an expert is missing.
pub fn mark(decisions: &[Decision], mut response: Response) -> Response {
    if decisions.iter().any(|decision| decision.degraded) {
        response.headers_mut().insert(DEGRADED, HeaderValue::from_static("true"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::RoundId;

    #[test]
    fn an_answer_in_which_an_expert_is_missing_says_so() {
        let id = RoundId { tenant: "t".into(), policy: "default".into(), event: "e1".into() };
        let whole = Decision { degraded: false, ..Decision::example(id, 5) };
        let degraded = Decision { degraded: true, ..whole.clone() };
        let of = |decisions: &[Decision]| {
            answer(decisions, ()).headers().get(DEGRADED).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of(&[whole.clone(), whole.clone()]), None);
        assert_eq!(of(&[whole, degraded]).as_deref(), Some("true"));
    }
}
