//! The driver of the demo: sends the plan, never far ahead of the decisions, and counts the outcomes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::{Plan, Sent};
use super::{BROKER_TIMEOUT, DemoError, POLL_INTERVAL};
use crate::codec::{self, Encoding};
use crate::config::Topics;
use crate::core::decision::{Decision, ReviewReason};
use crate::core::policy::Action;
use crate::kafka::{Connection, Delivery, Followed, Follower, From, Outbox, Produced};
use crate::ops::Progress;

/// The greatest number of undecided events. It bounds the records on the brokers, and lateness, which the plan counts in
/// events, is lateness for the learner too.
const MAX_UNDECIDED: usize = 256;
/// Records sent at once.
const CHUNK: usize = 32;
/// The demo fails if no outcome comes for this long.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(120);

/// The outcomes read so far.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// The decisions, by event id: of an event that was decided twice, the first.
    pub played: HashMap<String, Played>,
    /// Decisions read.
    pub decisions: usize,
    /// Dead letters of events, by reason.
    pub event_dead_letters: HashMap<String, usize>,
    /// Dead letters of labels, by reason.
    pub label_dead_letters: HashMap<String, usize>,
}

/// The part of a decision that the demo keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Played {
    /// P(unsafe).
    pub probability: Option<f64>,
    /// `true` if the event does not pass.
    pub flagged: bool,
    /// The probability of its audit.
    pub audit: f64,
    /// `true` if the audit was drawn.
    pub audited: bool,
}

impl Played {
    fn of(decision: &Decision) -> Self {
        Self {
            probability: decision.probability,
            flagged: decision.action != Action::Allow,
            audit: decision.sampling.audit,
            audited: decision.reasons.contains(&ReviewReason::Audit),
        }
    }
}

impl Outcomes {
    /// Returns the number of events' outcomes.
    fn of_events(&self) -> usize {
        self.decisions + self.event_dead_letters.values().sum::<usize>()
    }
}

/// Sends the plan and waits for its events' outcomes.
pub struct Drive {
    outbox: Outbox,
    decisions: Follower,
    dlq: Follower,
    topics: Topics,
    outcomes: Outcomes,
}

impl Drive {
    /// Connects.
    ///
    /// # Errors
    /// Returns an error if the brokers cannot be reached.
    pub fn new(connection: &Connection, topics: &Topics) -> Result<Self, DemoError> {
        Ok(Self {
            outbox: Outbox::open(connection, Delivery::AtLeastOnce)?,
            decisions: Follower::open(connection, &topics.decisions, &From::Beginning, BROKER_TIMEOUT)?,
            dlq: Follower::open(connection, &topics.dlq, &From::Beginning, BROKER_TIMEOUT)?,
            topics: topics.clone(),
            outcomes: Outcomes::default(),
        })
    }

    /// Sends everything, and returns when each event has its outcome.
    ///
    /// # Errors
    /// Returns an error if sending fails, if no outcomes come, or if `stop` returns `true`.
    pub fn run(
        mut self,
        plan: &Plan,
        progress: &mut Progress,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, DemoError> {
        let records = Records::new(&self.topics);
        let mut sent: usize = 0;
        let mut chunk = Vec::new();
        for item in &plan.sent {
            sent += usize::from(matches!(item, Sent::Event(_) | Sent::Malformed(_)));
            chunk.push(records.of(item)?);
            if chunk.len() >= CHUNK {
                self.outbox.commit(&chunk, None)?;
                chunk.clear();
                self.wait(sent.saturating_sub(MAX_UNDECIDED), progress, stop)?;
            }
        }
        self.outbox.commit(&chunk, None)?;
        self.wait(sent, progress, stop)?;
        Ok(self)
    }

    /// Reads the remaining dead letters and returns the outcomes.
    ///
    /// # Errors
    /// Returns an error if the topics cannot be read.
    pub fn finish(mut self) -> Result<Outcomes, DemoError> {
        let quiet = Duration::from_millis(300);
        while self.read(quiet)? {}
        Ok(self.outcomes)
    }

    /// Waits until this many events have their outcome.
    fn wait(
        &mut self,
        outcomes: usize,
        progress: &mut Progress,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), DemoError> {
        let mut last_outcome = Instant::now();
        while self.outcomes.of_events() < outcomes {
            if stop() {
                return Err(DemoError::Interrupted);
            }
            if self.read(POLL_INTERVAL)? {
                last_outcome = Instant::now();
            } else if last_outcome.elapsed() > OUTCOME_TIMEOUT {
                return Err(DemoError::Silent { outcomes: self.outcomes.of_events(), expected: outcomes });
            }
            progress.set(self.outcomes.of_events());
        }
        Ok(())
    }

    /// Reads the records that are there, and waits for the first at most this long. Returns `false` if there are none.
    fn read(&mut self, timeout: Duration) -> Result<bool, DemoError> {
        let mut any = false;
        let mut timeout = timeout;
        while let Followed::Record(record) = self.decisions.poll(timeout)? {
            timeout = Duration::ZERO;
            any = true;
            self.outcomes.decisions += 1;
            let decision = codec::decode_decision(record.payload.as_deref().unwrap_or_default())?;
            let played = Played::of(&decision);
            self.outcomes.played.entry(decision.id.event).or_insert(played);
        }
        while let Followed::Record(record) = self.dlq.poll(Duration::ZERO)? {
            any = true;
            let header = |name: &str| {
                let found = record.headers.iter().find(|(key, _)| key == name);
                let value = found.and_then(|(_, value)| value.clone()).unwrap_or_default();
                String::from_utf8_lossy(&value).into_owned()
            };
            let reason = header("__connect.errors.exception.class.name");
            let letters = if header("__connect.errors.stage") == "score" {
                &mut self.outcomes.event_dead_letters
            } else {
                &mut self.outcomes.label_dead_letters
            };
            *letters.entry(reason).or_default() += 1;
        }
        Ok(any)
    }
}

/// Builds the records of planned items.
pub struct Records {
    events: Arc<str>,
    labels: Arc<str>,
}

impl Records {
    /// Builds records for these topics.
    pub fn new(topics: &Topics) -> Self {
        Self { events: topics.events.as_str().into(), labels: topics.labels.as_str().into() }
    }

    /// Returns the record of one planned item.
    ///
    /// # Errors
    /// Returns the codec's error, which is an error of the plan.
    pub fn of(&self, item: &Sent) -> Result<Produced, codec::EncodeError> {
        let (topic, key, payload) = match item {
            Sent::Event(event) => {
                (&self.events, event.conversation.as_str(), codec::encode_event(event, Encoding::Avro)?)
            }
            Sent::Malformed(payload) => (&self.events, "malformed", payload.clone()),
            Sent::Label(label) => {
                (&self.labels, label.event.as_str(), codec::encode_label(label, Encoding::Json)?)
            }
            Sent::BadLabel(payload) => (&self.labels, "bad label", payload.clone()),
        };
        Ok(Produced {
            topic: Arc::clone(topic),
            partition: None,
            key: Some(key.as_bytes().to_vec()),
            payload: Some(payload),
            headers: Vec::new(),
            timestamp: None,
        })
    }
}
