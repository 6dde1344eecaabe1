//! `aegis ledger restore` and `aegis ledger adopt`, for a ledger topic that is not the one that filled the learner's store,
//! and the comparison of topic and store for `aegis verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::anyhow;

use super::written;
use crate::cli::scan::{ANSWER_TIMEOUT, scan_from};
use crate::cli::{Failure, run};
use crate::codec;
use crate::config::Config;
use crate::core::ledger::Key;
use crate::core::ledger_state::LedgerState;
use crate::kafka::{Connection, Follower, From, Outbox, Produced, topics};
use crate::learn::{LearnError, load_ledger};
use crate::ops::Exit;
use crate::ops::stdout::{errln, outln};
use crate::store::{Opened, Store, StoreError, TopicIds};
use crate::verify::Report;
use crate::verify::violations::{Place, ViolationKind};

/// The number of records in one transaction. A repeated restore continues where it was interrupted.
const TRANSACTION_RECORDS: usize = 1_000;

/// The ledger topic, compared with a store's ledger.
#[derive(Default)]
struct TopicLedger {
    ledger: LedgerState,
    /// The keys whose last record is a tombstone.
    removed: BTreeSet<Vec<u8>>,
    records: u64,
    /// The first record that the store does not have.
    unknown: Option<i64>,
    /// The offset up to which the topic was read, at least.
    end: i64,
}

impl TopicLedger {
    /// Reads the topic from where it was read last.
    fn read(&mut self, config: &Config, connection: &Connection, store: &LedgerState) -> Result<(), Failure> {
        let topic = &config.topics.rounds;
        let from = match self.end {
            0 => From::Beginning,
            end => From::Offsets(BTreeMap::from([(0, end)])),
        };
        let opened = Follower::open(connection, topic, &from, ANSWER_TIMEOUT);
        self.end = opened.map_err(|error| Failure::of(connection, error))?.ends().values().sum();
        scan_from(connection, topic, &from, &mut |record| {
            let key = record.key.unwrap_or_default();
            self.records += 1;
            let Some(payload) = record.payload else {
                self.removed.insert(key);
                self.unknown.get_or_insert(record.offset);
                return Ok(());
            };
            self.removed.remove(&key);
            let wrong = |error: LearnError| Failure::new(Exit::Data, error);
            let decoded = codec::decode_record(&payload).map_err(|error| wrong(error.into()))?;
            if store.would_change(&decoded) {
                self.unknown.get_or_insert(record.offset);
            }
            self.ledger.apply(&decoded, &mut Vec::new()).map_err(|error| wrong(error.into()))?;
            Ok(())
        })
    }

    /// Returns the records of the store that the topic does not have and has not removed.
    fn missing_records<'a>(
        &'a self,
        store: &'a LedgerState,
    ) -> impl Iterator<Item = crate::core::ledger::Record> + 'a {
        let is_removed = |key: &Key| self.removed.contains(&codec::encode_key(key));
        store.records().filter(move |record| {
            let removed = match record.key() {
                // The topic may have it under the key without the annotator, as in 0.1.
                Key::Label(round, id, annotator) => {
                    let [new, old] = [annotator, None].map(|by| Key::Label(round.clone(), id.clone(), by));
                    is_removed(&new) || is_removed(&old)
                }
                key => is_removed(&key),
            };
            self.ledger.would_change(record) && !removed
        })
    }
}

fn failed(error: impl Into<LearnError>) -> Failure {
    Failure::new(Exit::Unavailable, error.into())
}

/// Writes the records of the store that the topic does not have, and marks the store as belonging to this topic. A second run
/// writes nothing.
pub fn restore(config: &Config) -> Result<Exit, Failure> {
    let connection = run::brokers(config)?;
    let unavailable = |error| Failure::of(&connection, error);
    let (path, rounds) = (&config.learn.store, &config.topics.rounds);
    let Some(mut store) = Store::existing(path).map_err(failed)? else {
        let error = anyhow!(
            "{} holds no store: restore on the machine whose learner has the ledger, with its learn.store",
            path.display()
        );
        return Err(Failure { exit: Exit::Data, error });
    };
    let ledger = load_ledger(&store).map_err(failed)?;
    let id = topics::id(&connection, rounds, ANSWER_TIMEOUT).map_err(failed)?;
    let mut topic = TopicLedger::default();
    topic.read(config, &connection, &ledger)?;
    let records: Vec<Produced> =
        topic.missing_records(&ledger).map(|record| written(config, &record)).collect::<Result<_, _>>()?;
    if !records.is_empty() {
        // The learner's own transactional id fences a learner that still runs elsewhere.
        let delivery = run::delivery(config, &connection, &config.learn.group);
        let open = Outbox::open(&connection, delivery);
        let mut outbox = open.map_err(|error| Failure::of(&connection, error))?;
        for some in records.chunks(TRANSACTION_RECORDS) {
            outbox.commit(some, None).map_err(unavailable)?;
        }
    }
    let held = topic.records;
    // The learner reads what others have written meanwhile.
    topic.read(config, &connection, &ledger)?;
    let offset = topic.unknown.unwrap_or(topic.end);
    store.set_ledger_offset(offset).map_err(failed)?;
    let origins = TopicIds { ledger: id, ..*store.topic_ids() };
    store.set_topic_ids(origins).map_err(failed)?;
    outln!("{} of the store's records written to {rounds}, which held {held} records", records.len());
    outln!("the learner with the store {} continues at offset {offset}: start it", path.display());
    Ok(Exit::Success)
}

/// Empties the store and marks it as belonging to the current topic.
pub fn adopt(config: &Config) -> Result<Exit, Failure> {
    let connection = run::brokers(config)?;
    let (path, rounds) = (&config.learn.store, &config.topics.rounds);
    let ledger = topics::id(&connection, rounds, ANSWER_TIMEOUT).map_err(failed)?;
    let (store, opened) = Store::open(path).map_err(failed)?;
    let dropped = store.sizes().ledger_records;
    let (mut store, _) = match opened {
        Opened::Found => store.rebuild("its ledger topic is another").map_err(failed)?,
        other => (store, other),
    };
    store.set_ledger_offset(0).map_err(failed)?;
    store.set_topic_ids(TopicIds { ledger, ..TopicIds::default() }).map_err(failed)?;
    outln!("{dropped} ledger records dropped from the store {}", path.display());
    outln!("its learner continues with the contents of {rounds}: start it");
    Ok(Exit::Success)
}

/// Adds the differences between the ledgers of the store and of the topic to a report. A store that a learner uses is not
/// read, because that learner has compared them at its start.
pub fn compare(config: &Config, connection: &Connection, report: &mut Report) -> Result<(), Failure> {
    let path = &config.learn.store;
    let Some((store, offset, origins)) = open(path) else { return Ok(()) };
    let topic_id = topics::id(connection, &config.topics.rounds, ANSWER_TIMEOUT).map_err(failed)?;
    let mut topic = TopicLedger::default();
    topic.read(config, connection, &store)?;
    let shown = path.display();
    let mut fault = |what: String| {
        let at = Place::new(&config.topics.rounds.as_str().into(), 0, offset);
        report.holds = false;
        report.violations.add(ViolationKind::Store, at, || what);
    };
    let elsewhere = origins.ledger.zip(topic_id).is_some_and(|(then, now)| then != now);
    if elsewhere {
        fault(format!("the topic was deleted and created again after the store {shown} was filled from it"));
    }
    if offset > topic.end {
        fault(format!(
            "the topic ends at {}, and the store {shown} was filled from it up to here",
            topic.end
        ));
    }
    let missing = topic.missing_records(&store).count();
    if missing > 0 && topic.unknown.is_some_and(|first| first >= offset) && offset <= topic.end && !elsewhere
    {
        // A later learner may have erased them, and compaction has removed the tombstones.
        errln!(
            "aegis: the topic lacks {missing} records that the store {shown} has, which was filled from it up to offset \
             {offset} only: they may have been erased since"
        );
    } else if missing > 0 {
        fault(format!("the topic lacks {missing} records that the store {shown} has"));
    }
    Ok(())
}

/// Returns the store's ledger, its offset, and the topics that filled it. The store is closed before the topic is read, so
/// that a learner can start meanwhile.
fn open(path: &Path) -> Option<(LedgerState, i64, TopicIds)> {
    let read =
        |store: Store| Ok((load_ledger(&store)?, store.ledger_offset().unwrap_or(0), *store.topic_ids()));
    match Store::existing(path).map_err(LearnError::from).and_then(|found| found.map(read).transpose()) {
        Ok(found) => found,
        Err(LearnError::Store(StoreError::Locked { .. })) => None,
        Err(error) => {
            errln!("aegis: the store is not compared with the ledger topic: {error}");
            None
        }
    }
}
