//! `aegis ledger`: standing edits of the ledger, and what to do once its topic was deleted and made again.

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
    command: Which,
}

#[derive(Subcommand)]
enum Which {
    /// An annotator's labels no longer count, those still to come included
    Quarantine {
        #[command(flatten)]
        config: ConfigArgs,
        /// Only in this tenant; otherwise in all
        #[arg(long, default_value = "")]
        tenant: String,
        /// The annotator
        annotator: String,
    },
    /// A subject's rounds no longer count, those still to come included
    Erase {
        #[command(flatten)]
        config: ConfigArgs,
        /// Only in this tenant; otherwise in all
        #[arg(long, default_value = "")]
        tenant: String,
        /// The subject: the user's key on events
        subject: String,
    },
    /// Writes the ledger records of the learner's store to a ledger topic that was made again
    Restore {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Drops the learner's store, so that it goes on with what the ledger topic holds
    Adopt {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub fn ledger(args: &LedgerArgs) -> Result<Exit, Failure> {
    let (config, id, action) = match &args.command {
        Which::Quarantine { config, tenant, annotator } => {
            let action = EditAction::Quarantine { tenant: tenant.clone(), annotator: annotator.clone() };
            (config, format!("quarantine:{tenant}:{annotator}"), action)
        }
        Which::Erase { config, tenant, subject } => {
            let Edit { id, action } = erasure(tenant, subject);
            (config, id, action)
        }
        Which::Restore { config } => return restore::restore(&config.load()?.config),
        Which::Adopt { config } => return restore::adopt(&config.load()?.config),
    };
    let config = config.load()?.config;
    let connection = run::brokers(&config)?;
    let record = Record::Edit(Edit { id, action });
    // A producer of its own, so that the active learner is not fenced: it reads the edit like its own records.
    let unavailable = |error| Failure::of(&connection, error);
    let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).map_err(unavailable)?;
    let places = outbox.commit(&[written(&config, &record)?], None).map_err(unavailable)?;
    let offset = places.first().map_or(-1, |(_, offset)| *offset);
    outln!(
        "written to {} at offset {offset}; the active learner applies it within a second",
        config.topics.rounds
    );
    Ok(Exit::Success)
}

pub use restore::compare;

/// The edit that erases a subject; in all tenants where that is empty.
pub fn erasure(tenant: &str, subject: &str) -> Edit {
    let action = EditAction::Erase { tenant: tenant.to_owned(), subject: subject.to_owned() };
    Edit { id: format!("erase:{tenant}:{subject}"), action }
}

/// A ledger record as it is produced.
pub fn written(config: &Config, record: &Record) -> Result<Produced, Failure> {
    let payload =
        codec::encode_record(record, Encoding::Avro).map_err(|error| Failure::new(Exit::Data, error))?;
    Ok(Produced { payload: Some(payload), ..tombstone(config, &record.key()) })
}

/// What takes the record under this key out of the ledger topic, once that is compacted.
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
