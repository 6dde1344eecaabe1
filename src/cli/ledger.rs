//! `aegis ledger`: edits of the ledger, and recovery after its topic was deleted and created again.

mod restore;

use clap::{Args, Subcommand};

use super::{ConfigArgs, Failure, run};
use crate::codec::{self, Encoding};
use crate::config::Config;
use crate::core::ledger::{Edit, EditAction, Key, Record};
use crate::kafka::{Delivery, Outbox, Produced};
use crate::ops::Exit;
use crate::ops::stdout::outln;

#[derive(Args)]
pub struct LedgerArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Excludes all labels of an annotator, also later ones
    Quarantine {
        #[command(flatten)]
        config: ConfigArgs,
        /// Applies only to this tenant; otherwise to all
        #[arg(long, default_value = "")]
        tenant: String,
        /// The annotator
        annotator: String,
    },
    /// Excludes all rounds of a subject, also later ones
    Erase {
        #[command(flatten)]
        config: ConfigArgs,
        /// Applies only to this tenant; otherwise to all
        #[arg(long, default_value = "")]
        tenant: String,
        /// The subject, as in the events
        subject: String,
    },
    /// Writes the ledger records of the learner's store to a ledger topic that was created again
    Restore {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Empties the learner's store, so that it continues with the contents of the ledger topic
    Adopt {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub fn ledger(args: &LedgerArgs) -> Result<Exit, Failure> {
    let (config, id, action) = match &args.command {
        Action::Quarantine { config, tenant, annotator } => {
            let action = EditAction::Quarantine { tenant: tenant.clone(), annotator: annotator.clone() };
            (config, edit_id("quarantine", tenant, annotator), action)
        }
        Action::Erase { config, tenant, subject } => {
            let Edit { id, action } = erasure(tenant, subject);
            (config, id, action)
        }
        Action::Restore { config } => return restore::restore(&config.load()?.config),
        Action::Adopt { config } => return restore::adopt(&config.load()?.config),
    };
    let config = config.load()?.config;
    let connection = run::brokers(&config)?;
    let record = Record::Edit(Edit { id, action });
    // A producer of its own does not fence the active learner, which reads the edit like its own records.
    let unavailable = |error| Failure::of(&connection, error);
    let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).map_err(unavailable)?;
    let places = outbox.commit(&[written(&config, &record)?], None).map_err(unavailable)?;
    let (_, offset) = *places.first().expect("the commit of one record returns its position");
    outln!(
        "written to {} at offset {offset}; the active learner applies it within a second",
        config.topics.rounds
    );
    Ok(Exit::Success)
}

pub use restore::compare;

/// Returns the edit that erases a subject, in all tenants if `tenant` is empty.
pub fn erasure(tenant: &str, subject: &str) -> Edit {
    let action = EditAction::Erase { tenant: tenant.to_owned(), subject: subject.to_owned() };
    Edit { id: edit_id("erase", tenant, subject), action }
}

/// Returns the id of an edit. The length of the tenant tells where it ends, because both may have colons.
fn edit_id(action: &str, tenant: &str, of: &str) -> String {
    format!("{action}:{}:{tenant}:{of}", tenant.len())
}

/// Returns a ledger record to produce.
pub fn written(config: &Config, record: &Record) -> Result<Produced, Failure> {
    let payload =
        codec::encode_record(record, Encoding::Avro).map_err(|error| Failure::new(Exit::Data, error))?;
    Ok(Produced { payload: Some(payload), ..tombstone(config, &record.key()) })
}

/// Returns the tombstone that removes the record of this key from the ledger topic when it is compacted.
pub fn tombstone(config: &Config, key: &Key) -> Produced {
    Produced {
        topic: config.topics.rounds.as_str().into(),
        partition: Some(0),
        key: Some(codec::encode_key(key)),
        payload: None,
        headers: Vec::new(),
        timestamp: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_different_subjects_have_different_ids() {
        let ids = [("a", "b:c"), ("a:b", "c"), ("", "a:b:c"), ("1", "a"), ("", "1:a")];
        let ids: std::collections::BTreeSet<_> =
            ids.map(|(tenant, subject)| erasure(tenant, subject).id).into_iter().collect();
        assert_eq!(ids.len(), 5, "{ids:?}");
    }
}
