//! What the ledger holds of a subject.

use std::collections::{BTreeMap, BTreeSet};

use super::stays;
use crate::cli::Failure;
use crate::cli::scan::scan;
use crate::codec;
use crate::config::Config;
use crate::core::ledger::{Key, Record, RoundId, RoundRecord};
use crate::kafka::Connection;
use crate::ops::stdout::errln;

/// Whom it is about.
pub struct Subject {
    /// The tenant; empty: all.
    pub tenant: String,
    /// The user's key on events.
    pub id: String,
}

impl Subject {
    /// Whether something of this tenant and subject is meant.
    pub fn is(&self, tenant: &str, subject: Option<&str>) -> bool {
        subject == Some(&self.id) && (self.tenant.is_empty() || self.tenant == tenant)
    }

    /// Whether a ledger record is the subject's own.
    pub fn owns(&self, record: &Record) -> bool {
        matches!(record, Record::Round(judged) if self.is(&judged.id.tenant, judged.subject.as_deref()))
    }

    /// The rounds of the subject that the ledger topic holds, taken back already or not.
    fn rounds(&self, config: &Config, connection: &Connection) -> Result<BTreeSet<RoundId>, Failure> {
        let mut rounds = BTreeSet::new();
        ledger(config, connection, &mut |_, _, record| {
            if let Some(Record::Round(judged)) = record.filter(|record| self.owns(record)) {
                rounds.insert(judged.id);
            }
        })?;
        Ok(rounds)
    }

    /// The keys whose newest record is the subject's, or a label of the subject's round; and the votes of
    /// others that stood under such a key before, which take its place (an event may have been decided twice,
    /// for another subject the first time). Beside the rounds that the ledger knows to be the subject's these are
    /// `named`: labels that came after the edit, or outlived their decision in a compacted ledger.
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
                Key::Round(id) | Key::Label(id, _) if rounds.contains(id) => id.clone(),
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
        // A round that is another's as well keeps its labels, and the other's votes, which may not be in the
        // ledger yet where no decision of it is.
        let of = |key: &Key| match key {
            Key::Round(id) | Key::Label(id, _) => Some(id.clone()),
            Key::Edit(_) => None,
        };
        let lone: BTreeSet<RoundId> =
            live.iter().filter_map(of).filter(|id| !known.contains(id) && !others.contains_key(id)).collect();
        let waiting = if lone.is_empty() { lone } else { stays::shared(self, &lone, config, connection)? };
        let shared = |id: &RoundId| others.contains_key(id) || waiting.contains(id);
        let instead = others.values().filter(|judged| live.contains(&Key::Round(judged.id.clone())));
        let instead: Vec<_> = instead.cloned().collect();
        let out = live.into_iter().filter(|key| match key {
            Key::Round(id) | Key::Label(id, _) => !shared(id),
            Key::Edit(_) => false,
        });
        Ok((out.collect(), instead))
    }
}

/// Shows every record of the ledger topic with its offset and key; none in a record's place is a tombstone.
/// What cannot be read is passed over: `aegis verify` finds it.
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
