//! Records of a subject outside the ledger, which remain until the retention of their topics has passed.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::Subject;
use crate::cli::Failure;
use crate::cli::print::printable;
use crate::cli::scan::{ANSWER_TIMEOUT, scan};
use crate::codec::{Received, Schemas, time::format_millis};
use crate::config::Config;
use crate::core::event::Millis;
use crate::core::ledger::RoundId;
use crate::dead_letter::Headers;
use crate::kafka::topics::{Retention, retention};
use crate::kafka::{Connection, Consumed};
use crate::ops::Exit;
use crate::registry::Registry;

/// The records that remain in one topic.
#[derive(Debug, Serialize)]
pub struct Remaining {
    /// The topic.
    pub topic: String,
    /// The kind of records, for people.
    pub what: &'static str,
    /// The number of records.
    pub records: u64,
    /// The time of the newest, in milliseconds since 1970.
    newest: Option<Millis>,
    /// The time from which retention removes the newest, or `None` if the topic has no retention by age.
    pub until: Option<String>,
    /// `true` if the topic is compacted.
    pub compacted: bool,
}

impl Remaining {
    fn new(topic: &str, what: &'static str) -> Self {
        Self { topic: topic.into(), what, records: 0, newest: None, until: None, compacted: false }
    }

    fn count(&mut self, record: &Consumed) {
        self.records += 1;
        self.newest = self.newest.max(record.timestamp);
    }

    fn date(&mut self, forgetting: Retention) {
        let after = forgetting.after.and_then(|after| Millis::try_from(after.as_millis()).ok());
        let until = self.newest.zip(after).map(|(newest, after)| newest.saturating_add(after));
        (self.until, self.compacted) = (until.map(format_millis), forgetting.compacts);
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, what, records, until, compacted, .. } = self;
        write!(to, "{} {what} in {}", records, printable(topic))?;
        match (until, compacted) {
            (Some(until), _) => write!(to, ", until {until}, when its segment is deleted"),
            (None, true) => write!(to, ", until their keys are written again and the topic is compacted"),
            (None, false) => write!(to, ", forever: the topic has no retention by age"),
        }
    }
}

/// Runs `work` with the schemas of the registry, if there is one.
fn with_schemas<T>(
    config: &Config,
    work: impl FnOnce(Option<&dyn Schemas>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let registry =
        Registry::from_config(&config.registry).map_err(|error| Failure::new(Exit::Config, error))?;
    let patient = registry.as_ref().map(|registry| registry.waiting(&|| false));
    work(patient.as_ref().map(|patient| patient as &dyn Schemas))
}

/// Returns the rounds of the subject according to events and decisions. Ledger records do not name the subject any more if
/// their decision has been erased.
pub fn rounds(
    subject: &Subject,
    config: &Config,
    connection: &Connection,
) -> Result<BTreeSet<RoundId>, Failure> {
    with_schemas(config, |schemas| Ok(named(subject, config, connection, schemas)?.rounds))
}

/// The subject's rounds, and the events and decisions that name them.
struct Named {
    rounds: BTreeSet<RoundId>,
    events: Remaining,
    decisions: Remaining,
}

fn named(
    subject: &Subject,
    config: &Config,
    connection: &Connection,
    schemas: Option<&dyn Schemas>,
) -> Result<Named, Failure> {
    let (topics, defaults) = (&config.topics, config.record_defaults());
    let mut rounds: BTreeSet<RoundId> = BTreeSet::new();
    let mut events = Remaining::new(&topics.events, "events with their texts");
    scan(connection, &topics.events, &mut |record| {
        let received = Received::new(record.payload.as_deref(), &record.headers, schemas);
        let read = received.at(&record.topic, record.partition, record.offset).event(&defaults);
        if let Ok(event) = read
            && subject.is(&event.tenant, event.subject.as_deref())
        {
            rounds.insert(RoundId { tenant: event.tenant, policy: event.policy, event: event.id });
            events.count(&record);
        }
        Ok(())
    })?;
    let mut decisions = Remaining::new(&topics.decisions, "decisions with votes and features");
    scan(connection, &topics.decisions, &mut |record| {
        let read = Received::new(record.payload.as_deref(), &record.headers, schemas).decision();
        if let Ok(decision) = read
            && subject.is(&decision.id.tenant, decision.subject.as_deref())
        {
            rounds.insert(decision.id);
            decisions.count(&record);
        }
        Ok(())
    })?;
    Ok(Named { rounds, events, decisions })
}

/// Returns those of these rounds that were also decided for another subject.
pub fn shared(
    subject: &Subject,
    of: &BTreeSet<RoundId>,
    config: &Config,
    connection: &Connection,
) -> Result<BTreeSet<RoundId>, Failure> {
    with_schemas(config, |schemas| {
        let mut shared = BTreeSet::new();
        scan(connection, &config.topics.decisions, &mut |record| {
            let read = Received::new(record.payload.as_deref(), &record.headers, schemas).decision();
            if let Ok(decision) = read
                && of.contains(&decision.id)
                && !subject.is(&decision.id.tenant, decision.subject.as_deref())
            {
                shared.insert(decision.id);
            }
            Ok(())
        })?;
        Ok(shared)
    })
}

/// Returns the topics that contain records of the subject, and its rounds.
pub fn find(
    subject: &Subject,
    config: &Config,
    connection: &Connection,
) -> Result<(Vec<Remaining>, BTreeSet<RoundId>), Failure> {
    with_schemas(config, |schemas| holdings(subject, config, connection, schemas))
}

fn holdings(
    subject: &Subject,
    config: &Config,
    connection: &Connection,
    schemas: Option<&dyn Schemas>,
) -> Result<(Vec<Remaining>, BTreeSet<RoundId>), Failure> {
    let (topics, defaults) = (&config.topics, config.record_defaults());
    let Named { rounds, events, decisions } = named(subject, config, connection, schemas)?;
    let mut requests = Remaining::new(&topics.review, "review requests");
    scan(connection, &topics.review, &mut |record| {
        let read = Received::new(record.payload.as_deref(), &record.headers, schemas).review();
        if read.is_ok_and(|request| subject.is(&request.id.tenant, request.subject.as_deref())) {
            requests.count(&record);
        }
        Ok(())
    })?;
    let mut labels = Remaining::new(&topics.labels, "labels about these events");
    scan(connection, &topics.labels, &mut |record| {
        let read = Received::new(record.payload.as_deref(), &record.headers, schemas).labels(&defaults);
        if read.is_ok_and(|labels| labels.iter().any(|label| rounds.contains(&label.round()))) {
            labels.count(&record);
        }
        Ok(())
    })?;
    // Their subject is unknown, because they could not be read.
    let mut letters = Remaining::new(&topics.dlq, "dead letters of events (of any subject)");
    scan(connection, &topics.dlq, &mut |record| {
        if Headers::of(&record.headers).is_none_or(|of| of.topic == topics.events) {
            letters.count(&record);
        }
        Ok(())
    })?;
    let mut all = vec![events, decisions, requests, labels, letters];
    all.retain(|stays| stays.records > 0);
    for stays in &mut all {
        let found = retention(connection, &stays.topic, ANSWER_TIMEOUT);
        stays.date(found.map_err(|error| Failure::new(Exit::Unavailable, error))?);
    }
    Ok((all, rounds))
}
