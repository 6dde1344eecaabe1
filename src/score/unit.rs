//! The unit under way: what has been decided and not committed yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ScoreError;
use super::asking::Judged;
use super::intake::Accepted;
use crate::codec;
use crate::config::{self, Config, Policies};
use crate::core::decision::{Asked, decide};
use crate::core::predictor::Predictor;
use crate::core::watermark::{Tenure, Watermark};
use crate::dead_letter::{Reason, dead_letter};
use crate::kafka::{Consumed, Offsets, Outbox, Produced, Source, TopicPartition};
use crate::ops::metrics;

/// How long the brokers may take to say what is committed.
const REWIND: Duration = Duration::from_secs(30);

/// Outputs by source partition and offset, and how far the offsets may be committed.
pub struct Unit {
    policies: Arc<Policies>,
    events: Arc<str>,
    decisions: Arc<str>,
    dlq: Arc<str>,
    encoding: codec::Encoding,
    most: usize,
    interval: Duration,
    watermark: Watermark,
    /// Outputs of outcomes that no commit has covered, by (partition, offset) of the record consumed.
    outputs: BTreeMap<(i32, i64), Produced>,
    /// Records read and not committed.
    open: usize,
    since: Option<Instant>,
}

impl Unit {
    /// An empty unit.
    #[must_use]
    pub fn new(config: &Config, policies: Arc<Policies>) -> Self {
        Self {
            policies,
            events: config.topics.events.as_str().into(),
            decisions: config.topics.decisions.as_str().into(),
            dlq: config.topics.dlq.as_str().into(),
            encoding: match config.score.encoding {
                config::Encoding::Avro => codec::Encoding::Avro,
                config::Encoding::Json => codec::Encoding::Json,
            },
            most: config.score.commit_records.max(1),
            interval: config.score.commit_interval(),
            watermark: Watermark::default(),
            outputs: BTreeMap::new(),
            open: 0,
            since: None,
        }
    }

    /// These partitions are this member's from now on.
    pub fn assigned(&mut self, partitions: &[TopicPartition]) {
        for (_, partition) in partitions {
            self.watermark.assigned(*partition);
        }
    }

    /// These partitions are gone: what is not committed of them is their next owner's.
    pub fn revoked(&mut self, partitions: &[TopicPartition]) {
        for (_, partition) in partitions {
            self.watermark.revoked(*partition);
            self.outputs.retain(|(of, _), _| of != partition);
        }
        self.open = self.watermark.open();
    }

    /// Notes a record as read; its tenure goes with it.
    pub fn read(&mut self, record: &Consumed) -> Option<Tenure> {
        self.open += 1;
        self.watermark.read(record.partition, record.offset)
    }

    /// Whether reading has to wait for a commit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.open >= 4 * self.most
    }

    /// Whether nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Whether it is time to commit.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.outputs.len() >= self.most || self.since.is_some_and(|since| since.elapsed() >= self.interval)
    }

    /// The outcome of a record that cannot be used.
    pub fn dead_letter(&mut self, tenure: Option<Tenure>, record: Consumed, reason: &Reason) {
        let place = (record.partition, record.offset);
        self.outcome(tenure, place, dead_letter(&self.dlq, "score", record, reason));
    }

    /// The outcome of an event that has been asked about. One that a rebalance has taken away is passed over.
    pub fn decide(&mut self, judged: Judged, predictor: &mut Predictor) {
        let Judged { accepted, votes, reading } = judged;
        let trace = accepted.trace();
        let Accepted { event, origin, key, headers, round_time, read_at, tenure } = accepted;
        let place = (origin.partition, origin.offset);
        let combined = predictor.combine(&event.id, &votes, reading.as_ref());
        let Some(policy) = self.policies.get(&event.policy) else { return };
        let asked = Asked { event, origin, round_time, votes, reading, trace };
        let latency = i64::try_from(read_at.elapsed().as_micros()).unwrap_or(i64::MAX);
        let decision = decide(asked, policy, predictor.reference().clone(), &combined, latency);
        metrics::decision(&decision);
        let produced = Produced {
            topic: Arc::clone(&self.decisions),
            partition: Some(place.0),
            key,
            payload: Some(codec::encode_decision(&decision, self.encoding)),
            headers,
            timestamp: None,
        };
        self.outcome(tenure, place, produced);
    }

    fn outcome(&mut self, tenure: Option<Tenure>, place: (i32, i64), output: Produced) {
        let Some(tenure) = tenure else { return };
        if self.watermark.done(tenure, place.0, place.1) {
            self.outputs.insert(place, output);
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// Commits every outcome that has none missing before it. Where the unit is given up, its records are
    /// read again from the committed offsets.
    ///
    /// # Errors
    /// Where doing it again would help nobody.
    pub fn commit(&mut self, outbox: &mut Outbox, source: &mut Source) -> Result<(), ScoreError> {
        let ready = self.watermark.committable();
        let mut records = Vec::with_capacity(self.outputs.len());
        let mut offsets = Offsets::default();
        for (partition, next) in &ready {
            let behind: Vec<_> =
                self.outputs.range((*partition, i64::MIN)..(*partition, *next)).map(|(place, _)| *place).collect();
            records.extend(behind.into_iter().filter_map(|place| self.outputs.remove(&place)));
            offsets.advance((Arc::clone(&self.events), *partition), *next);
        }
        self.since = (!self.outputs.is_empty()).then(Instant::now);
        if offsets.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        match outbox.commit(&records, Some((source, &offsets))) {
            Ok(_) => {
                for (partition, next) in ready {
                    self.watermark.committed(partition, next);
                }
                metrics::commit("score", records.len(), started.elapsed());
            }
            Err(error) if error.passes() => {
                tracing::warn!(name = error.name(), %error, "a unit is done again");
                metrics::aborted("score", error.name());
                self.restart(source)?;
            }
            Err(error) => return Err(error.into()),
        }
        self.open = self.watermark.open();
        Ok(())
    }

    /// Forgets all that is not committed and reads it again.
    fn restart(&mut self, source: &mut Source) -> Result<(), ScoreError> {
        let assigned = source.assigned();
        self.revoked(&assigned);
        self.assigned(&assigned);
        self.outputs.clear();
        self.since = None;
        source.rewind(REWIND)?;
        Ok(())
    }
}
