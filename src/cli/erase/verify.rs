//! Checks an erasure by reading: the ledger contains nothing of the subject, and the published predictors are folds of a
//! ledger without the subject.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::subject::ledger;
use super::{Subject, remaining};
use crate::cli::Failure;
use crate::cli::ledger::erasure;
use crate::cli::print::{self, Output, short};
use crate::cli::weights::{pins, versions};
use crate::config::{Config, Loaded, Topics};
use crate::core::ledger::Key;
use crate::core::predictor::Published;
use crate::kafka::Connection;
use crate::ops::Exit;
use crate::ops::stdout::outln;
use crate::verify::refold::{PendingCheck, PredictorCheck, Refold};
use crate::verify::violations::Place;

/// A published predictor.
struct PublishedAt {
    policy: String,
    /// The offset of the record.
    at: i64,
    /// The ledger offset up to which it was folded.
    reflects: i64,
}

/// The records of the subject in the ledger topic.
#[derive(Default)]
struct Held {
    /// The records without a tombstone.
    remaining: BTreeSet<Key>,
    /// The number of records that can be read, including those with a tombstone until the topic is compacted.
    readable: u64,
    /// The number of labels of rounds that belong to the subject according to events and decisions.
    labels: usize,
    /// The last offset of the edit.
    edit: Option<i64>,
    /// The policies whose pinned predictor was folded before the edit.
    pinned: Vec<String>,
}

pub fn verify(
    subject: &Subject,
    loaded: &Loaded,
    connection: &Connection,
    output: Output,
) -> Result<Exit, Failure> {
    let config = &loaded.config;
    let (newest, all) = predictors(connection, config)?;
    let last: BTreeMap<String, i64> = newest.iter().map(|(policy, (at, _))| (policy.clone(), *at)).collect();
    let due = newest.into_iter().filter_map(|(policy, (offset, published))| {
        let at = Place::new(&config.topics.weights.as_str().into(), 0, offset);
        Some(PendingCheck { published: published?, at, policy: loaded.policies.get(&policy).cloned() })
    });
    let mut refold = Refold::new(&config.topics.rounds.as_str().into(), due.collect());
    let mut held = Held::default();
    let edit = Key::Edit(erasure(&subject.tenant, &subject.id).id);
    ledger(config, connection, &mut |offset, key, record| {
        if key == edit {
            held.edit = record.is_some().then_some(offset);
            return;
        }
        match record {
            Some(record) if subject.owns(&record) => {
                held.readable += 1;
                held.remaining.insert(key);
            }
            // This is a tombstone, or the votes of another subject.
            other => {
                held.remaining.remove(&key);
                if let Some(record) = other {
                    refold.record(offset, &record);
                }
            }
        }
    })?;
    let (checked, _, _) = refold.finish(i64::MAX);
    let named = remaining::rounds(subject, config, connection)?;
    let (out, _) = subject.out_of_ledger(config, connection, &named)?;
    held.labels = out.iter().filter(|key| matches!(key, Key::Label(..))).count();
    let older = |made: &&PublishedAt| {
        last.get(&made.policy).is_some_and(|last| *last > made.at)
            && held.edit.is_some_and(|edit| made.reflects <= edit)
    };
    let older = all.iter().filter(older).count();
    let before_edit = |reflects: i64| held.edit.is_some_and(|edit| reflects <= edit);
    let pins = pins(connection, config)?.into_iter().filter_map(|(policy, change)| {
        let published = change.pinned?.1.published?;
        before_edit(published.ledger_offset).then_some(policy)
    });
    held.pinned = pins.collect();
    report(&held, &checked, older, output, config)
}

/// The newest predictor of each policy, with its offset; `None` if the learner has withdrawn it.
type Newest = BTreeMap<String, (i64, Option<Published>)>;

/// Returns the newest predictor of each policy, and all published ones.
fn predictors(connection: &Connection, config: &Config) -> Result<(Newest, Vec<PublishedAt>), Failure> {
    let (mut newest, mut all) = (Newest::new(), Vec::new());
    versions(connection, config, &mut |version| {
        if let Some(Published { ledger_offset, .. }) = &version.published {
            all.push(PublishedAt {
                policy: version.policy.clone(),
                at: version.offset,
                reflects: *ledger_offset,
            });
        }
        newest.insert(version.policy, (version.offset, version.published));
    })?;
    Ok((newest, all))
}

fn report(
    held: &Held,
    checked: &[PredictorCheck],
    older: usize,
    output: Output,
    config: &Config,
) -> Result<Exit, Failure> {
    let Topics { rounds, weights, .. } = &config.topics;
    let taken_back = held.readable - held.remaining.len() as u64;
    let hashes = checked.iter().all(|checked| checked.holds);
    let holds =
        held.readable == 0 && held.labels == 0 && held.edit.is_some() && held.pinned.is_empty() && hashes;
    if output == Output::Json {
        print::json(&json!({
            "holds": holds,
            "edit_offset": held.edit,
            "standing": held.remaining.len(),
            "until_compacted": taken_back,
            "labels": held.labels,
            "older_predictors": older,
            "pinned_predictors": held.pinned,
            "predictors": checked,
        }))?;
    } else {
        outln!("{}", if holds { "erased" } else { "not erased (yet)" });
        match held.edit {
            Some(offset) => outln!("edit     stands in {rounds} at offset {offset}"),
            None => outln!("edit     {rounds} has none for this subject: run `aegis erase`"),
        }
        outln!("records  {} of the subject stand in {rounds}", held.remaining.len());
        outln!("         {taken_back} more have tombstones, and can be read until the topic is compacted");
        let again = match held.edit {
            Some(_) if held.labels > 0 => ": they arrived after the erasure, run `aegis erase` again",
            _ => "",
        };
        outln!("labels   {} about events of the subject stand in {rounds}{again}", held.labels);
        if older > 0 {
            outln!(
                "weights  {older} older predictors from before the edit can be read in {weights} until it is compacted"
            );
        }
        for policy in &held.pinned {
            outln!(
                "pin      the pinned predictor of policy {policy} is from before the edit, and stays until it is unpinned: pin a \
                 newer one, or `aegis weights unpin`"
            );
        }
        for checked in checked {
            let PredictorCheck { policy, published, holds, ledger_offset, .. } = checked;
            let behind = held.edit.is_some_and(|edit| *ledger_offset <= edit);
            let says = match (holds, behind) {
                (true, _) => "is that of a world without the subject",
                (false, true) => "is from before the edit: the learner has not taken it yet",
                (false, false) => "is not that of a world without the subject",
            };
            outln!("policy   {policy}: the published state {} {says}", short(published));
        }
    }
    Ok(if holds { Exit::Success } else { Exit::Data })
}
