//! `aegis ledger quarantine` and `aegis ledger erase`: standing edits of the ledger.

use clap::{Args, Subcommand};

use super::{ConfigArgs, Failure, run};
use crate::codec::{self, Encoding};
use crate::core::ledger::{Edit, EditAction, Record};
use crate::kafka::{Delivery, Outbox, Produced};
use crate::ops::Exit;

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
}

pub fn ledger(args: &LedgerArgs) -> Result<Exit, Failure> {
    let (config, id, action) = match &args.command {
        Which::Quarantine { config, tenant, annotator } => {
            let action = EditAction::Quarantine { tenant: tenant.clone(), annotator: annotator.clone() };
            (config, format!("quarantine:{tenant}:{annotator}"), action)
        }
        Which::Erase { config, tenant, subject } => {
            let action = EditAction::Erase { tenant: tenant.clone(), subject: subject.clone() };
            (config, format!("erase:{tenant}:{subject}"), action)
        }
    };
    let config = config.load()?.config;
    let connection = run::connection(&config)?;
    let record = Record::Edit(Edit { id, action });
    let payload =
        codec::encode_record(&record, Encoding::Avro).map_err(|error| Failure::new(Exit::Data, error))?;
    let produced = Produced {
        topic: config.topics.rounds.as_str().into(),
        partition: Some(0),
        key: Some(codec::encode_key(&record.key())),
        payload: Some(payload),
        headers: Vec::new(),
        timestamp: None,
    };
    // A producer of its own, so that the active learner is not fenced: it reads the edit like its own records.
    let unavailable = |error| Failure::new(Exit::Unavailable, error);
    let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).map_err(unavailable)?;
    let places = outbox.commit(&[produced], None).map_err(unavailable)?;
    let offset = places.first().map_or(-1, |(_, offset)| *offset);
    println!(
        "written to {} at offset {offset}; the active learner applies it within a second",
        config.topics.rounds
    );
    Ok(Exit::Success)
}
