//! The records of a subject in the ledger.

use std::collections::{BTreeMap, BTreeSet};

use super::remaining;
use crate::cli::Failure;
use crate::cli::scan::scan;
use crate::codec;
use crate::config::Config;
use crate::core::ledger::{Key, Record, RoundId, RoundRecord};
use crate::kafka::Connection;
use crate::ops::stdout::errln;

/// The subject of an erasure.
pub struct Subject {
    /// The tenant. If empty, all tenants are meant.
    pub tenant: String,
    /// The subject, as in the events.
    pub id: String,
}

impl Subject {
    /// Returns `true` if this tenant and subject match.
    pub fn is(&self, tenant: &str, subject: Option<&str>) -> bool {
        subject == Some(&self.id) && (self.tenant.is_empty() || self.tenant == tenant)
    }

    /// Returns `true` if a ledger record belongs to the subject.
    pub fn owns(&self, record: &Record) -> bool {
        matches!(record, Record::Round(judged) if self.is(&judged.id.tenant, judged.subject.as_deref()))
    }

    /// Returns the rounds of the subject in the ledger topic, including those with tombstones.
    fn rounds(&self, config: &Config, connection: &Connection) -> Result<BTreeSet<RoundId>, Failure> {
        let mut rounds = BTreeSet::new();
        ledger(config, connection, &mut |_, _, record| {
            if let Some(Record::Round(judged)) = record.filter(|record| self.owns(record)) {
                rounds.insert(judged.id);
            }
        })?;
        Ok(rounds)
    }

    /// Returns the keys whose newest record belongs to the subject or is a label of its rounds, and the votes of other
    /// subjects that must replace them, because an event may have been decided before for another subject. `named` are
    /// further rounds of the subject: of labels that arrived after the edit, or whose decision was compacted away.
    pub fn out_of_ledger(
        &self,
        config: &Config,
        connection: &Connection,
        named: &BTreeSet<RoundId>,
    ) -> Result<(Vec<Key>, Vec<RoundRecord>), Failure> {
        let known = self.rounds(config, connection)?;
        let rounds: BTreeSet<RoundId> = known.union(named).cloned().collect();
        let mut live: BTreeSet<Key> = BTreeSet::new();
        let mut others: BTreeMap<RoundId, RoundRecord> = BTreeMap::new();
        ledger(config, connection, &mut |_, key, record| {
            let of = match &key {
                Key::Round(id) | Key::Label(id, ..) if rounds.contains(id) => id.clone(),
                _ => return,
            };
            match record {
                None => {
                    live.remove(&key);
                }
                Some(Record::Round(judged)) if !self.is(&judged.id.tenant, judged.subject.as_deref()) => {
                    live.remove(&key);
                    let known = others.entry(of).or_insert_with(|| judged.clone());
                    if judged.key() < known.key() {
                        *known = judged;
                    }
                }
                Some(_) => {
                    live.insert(key);
                }
            }
        })?;
        // A round that also belongs to another subject keeps its labels and that subject's votes, which may not be in the
        // ledger yet.
        let of = |key: &Key| match key {
            Key::Round(id) | Key::Label(id, ..) => Some(id.clone()),
            Key::Edit(_) => None,
        };
        let lone: BTreeSet<RoundId> =
            live.iter().filter_map(of).filter(|id| !known.contains(id) && !others.contains_key(id)).collect();
        let waiting =
            if lone.is_empty() { lone } else { remaining::shared(self, &lone, config, connection)? };
        let shared = |id: &RoundId| others.contains_key(id) || waiting.contains(id);
        let instead = others.values().filter(|judged| live.contains(&Key::Round(judged.id.clone())));
        let instead: Vec<_> = instead.cloned().collect();
        let out = live.into_iter().filter(|key| match key {
            Key::Round(id) | Key::Label(id, ..) => !shared(id),
            Key::Edit(_) => false,
        });
        Ok((out.collect(), instead))
    }
}

/// Passes every record of the ledger topic to `take` with its offset and key. `None` is a tombstone. Records that cannot be
/// decoded are skipped with a message; `aegis verify` reports them.
pub fn ledger(
    config: &Config,
    connection: &Connection,
    take: &mut dyn FnMut(i64, Key, Option<Record>),
) -> Result<(), Failure> {
    scan(connection, &config.topics.rounds, &mut |record| {
        let Ok(key) = codec::decode_key(record.key.as_deref().unwrap_or_default()) else { return Ok(()) };
        match record.payload.as_deref().map(codec::decode_record).transpose() {
            Ok(found) => take(record.offset, key, found),
            Err(_) => errln!("aegis: {} offset {} cannot be read", record.topic, record.offset),
        }
        Ok(())
    })
}
