//! The brokers of the demo: the embedded one, or a Kafka that others use too.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::plan::{Plan, Sent};
use super::{BROKER_TIMEOUT, DemoArgs, DemoError};
use crate::config::{self, Config, topic_specs};
use crate::kafka::embedded::{Embedded, KEPT_BYTES};
use crate::kafka::topics::ensure;
use crate::kafka::{Connection, Consumed, Followed, Follower, From};

/// The greatest size of a record, in bytes.
const MAX_RECORD_BYTES: &str = "4000000";
/// The greatest size of a decision.
const DECISION_BYTES: usize = 4_096;
/// The average size in the ledger of a labelled round with its labels.
const ROUND_BYTES: usize = 1_000;

/// The brokers in use, embedded or not.
pub(super) struct Brokers {
    pub(super) connection: Connection,
    pub(super) delivery: config::Delivery,
    /// Ends the embedded broker when dropped.
    _embedded: Option<Embedded>,
}

impl Brokers {
    /// Starts the embedded broker, or creates topics of its own on the broker that the arguments name, which others may use
    /// too. Then `config` gets the names of these topics, and groups of its own.
    pub(super) fn start(args: &DemoArgs, plan: &Plan, config: &mut Config) -> Result<Self, DemoError> {
        let connection = |bootstrap: String| {
            let settings = [("message.max.bytes".to_owned(), MAX_RECORD_BYTES.to_owned())].into();
            Connection { settings, ..Connection::new(bootstrap) }
        };
        if args.broker == "embedded" {
            let broker = embedded_broker(args, plan, config)?;
            return Ok(Self {
                connection: connection(broker.bootstrap().to_owned()),
                delivery: config::Delivery::AtLeastOnce,
                _embedded: Some(broker),
            });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_millis();
        let prefix = format!("aegis-demo-{now}");
        config.topics = std::mem::take(&mut config.topics).under(&prefix);
        config.score.group = format!("{prefix}.score");
        config.learn.group = format!("{prefix}.learn");
        let connection = connection(args.broker.clone());
        let mut specs = topic_specs(config, 6);
        for spec in &mut specs {
            spec.config.insert("max.message.bytes".into(), MAX_RECORD_BYTES.into());
        }
        ensure(&connection, &specs, BROKER_TIMEOUT)?;
        Ok(Self { connection, delivery: config::Delivery::ExactlyOnce, _embedded: None })
    }
}

/// Starts the embedded broker, which keeps 5 MiB a partition and drops older records, with partitions enough for twice
/// what is sent.
fn embedded_broker(args: &DemoArgs, plan: &Plan, config: &Config) -> Result<Embedded, DemoError> {
    if plan.events * ROUND_BYTES > KEPT_BYTES {
        return Err(DemoError::TooMany { events: args.events });
    }
    let sent: usize = plan.sent.iter().map(size).sum();
    let partitions = 2 + 2 * sent.max(plan.events * DECISION_BYTES) / KEPT_BYTES;
    let specs = topic_specs(config, i32::try_from(partitions).unwrap_or(i32::MAX));
    let topics: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
    Ok(Embedded::start(&topics)?)
}

/// Returns about the bytes of a record.
fn size(sent: &Sent) -> usize {
    match sent {
        Sent::Event(event) => event.turns.iter().map(|turn| turn.text.len() + 16).sum::<usize>() + 128,
        Sent::Malformed(payload) | Sent::BadLabel(payload) => payload.len(),
        Sent::Label(_) => 256,
    }
}

/// Returns all records of a topic in order. If `whole`, it is an error if the topic has lost any.
pub(super) fn read_back(
    connection: &Connection,
    topic: &str,
    whole: bool,
) -> Result<Vec<Consumed>, DemoError> {
    let mut follower = Follower::open(connection, topic, &From::Beginning, BROKER_TIMEOUT)?;
    let mut records = Vec::new();
    let mut last_record = Instant::now();
    loop {
        match follower.poll(Duration::from_millis(50))? {
            Followed::Record(record) => {
                records.push(record);
                last_record = Instant::now();
            }
            Followed::End => return Ok(records),
            Followed::Skipped { from, .. } if whole => {
                return Err(DemoError::Unbalanced(format!("{topic} has lost records before offset {from}")));
            }
            _ if last_record.elapsed() > BROKER_TIMEOUT => {
                return Err(DemoError::Unbalanced(format!("{topic} fell silent before its end")));
            }
            _ => {}
        }
    }
}
