//! Sends the plan, never far ahead of what has been decided, and counts the outcomes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DemoError;
use super::plan::{Plan, Sent};
use crate::codec::{self, Encoding};
use crate::config::Topics;
use crate::kafka::{Connection, Delivery, Followed, Follower, From, Outbox, Produced};
use crate::ops::Progress;

/// Events that may be undecided at any time: bounds what the brokers hold, and makes lateness, which the
/// plan counts in events, mean something to the learner.
const AHEAD: usize = 256;
/// Records sent at once.
const CHUNK: usize = 32;
/// How long the brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Without any outcome for this long something is broken.
const SILENCE: Duration = Duration::from_secs(120);

/// What came out.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// P(unsafe) as played, by event id; of an event decided twice the first one read.
    pub played: HashMap<String, Option<f64>>,
    /// Decisions read.
    pub decisions: usize,
    /// Dead letters of events, by reason.
    pub event_dead_letters: HashMap<String, usize>,
    /// Dead letters of labels, by reason.
    pub label_dead_letters: HashMap<String, usize>,
}

impl Outcomes {
    /// Outcomes of events.
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
    /// Where the brokers cannot be reached.
    pub fn new(connection: &Connection, topics: &Topics) -> Result<Self, DemoError> {
        Ok(Self {
            outbox: Outbox::open(connection, Delivery::AtLeastOnce)?,
            decisions: Follower::open(connection, &topics.decisions, &From::Beginning, ANSWER)?,
            dlq: Follower::open(connection, &topics.dlq, &From::Beginning, ANSWER)?,
            topics: topics.clone(),
            outcomes: Outcomes::default(),
        })
    }

    /// Sends everything, and returns once each event has its outcome.
    ///
    /// # Errors
    /// Where sending fails or outcomes do not come.
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
                self.wait(sent.saturating_sub(AHEAD), progress, stop)?;
            }
        }
        self.outbox.commit(&chunk, None)?;
        self.wait(sent, progress, stop)?;
        Ok(self)
    }

    /// Reads what is left of the dead letters and gives the outcomes.
    ///
    /// # Errors
    /// Where the topics cannot be read.
    pub fn finish(mut self) -> Result<Outcomes, DemoError> {
        let quiet = Duration::from_millis(300);
        while self.read(quiet)? {}
        Ok(self.outcomes)
    }

    fn wait(
        &mut self,
        outcomes: usize,
        progress: &mut Progress,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), DemoError> {
        let mut heard = Instant::now();
        while self.outcomes.of_events() < outcomes {
            if stop() {
                return Err(DemoError::Interrupted);
            }
            if self.read(Duration::from_millis(20))? {
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE {
                return Err(DemoError::Silent { outcomes: self.outcomes.of_events(), expected: outcomes });
            }
            progress.set(self.outcomes.of_events());
        }
        Ok(())
    }

    /// Reads what has come; false where nothing has.
    fn read(&mut self, patience: Duration) -> Result<bool, DemoError> {
        let mut any = false;
        let mut patience = patience;
        while let Followed::Record(record) = self.decisions.poll(patience)? {
            patience = Duration::ZERO;
            any = true;
            self.outcomes.decisions += 1;
            let decision = codec::decode_decision(record.payload.as_deref().unwrap_or_default())?;
            self.outcomes.played.entry(decision.id.event).or_insert(decision.probability);
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

/// Makes records of what is planned.
pub struct Records {
    events: Arc<str>,
    labels: Arc<str>,
}

impl Records {
    /// For these topics.
    pub fn new(topics: &Topics) -> Self {
        Self { events: topics.events.as_str().into(), labels: topics.labels.as_str().into() }
    }

    /// The record of one planned item.
    ///
    /// # Errors
    /// Where the codec refuses it: a fault of the plan.
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
