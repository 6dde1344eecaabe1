//! `aegis erase`: erases a subject from the ledger, and lists the records that remain in other topics.
//!
//! The edit is written first: from then on no decision about the subject enters the ledger. Then the records in the ledger
//! get tombstones, which take effect when the topic is compacted. The command can be repeated.

mod remaining;
mod subject;
mod verify;

use clap::Args;
use serde_json::json;

use super::ledger::{erasure, tombstone, written};
use super::print::{self, Output};
use super::{ConfigArgs, Failure, run};
use crate::config::Config;
use crate::core::ledger::Record;
use crate::kafka::{Connection, Outbox};
use crate::ops::Exit;
use crate::ops::stdout::outln;
use remaining::Remaining;
use subject::Subject;

#[derive(Args)]
pub struct EraseArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The subject, as in the events
    #[arg(long, value_name = "SUBJECT")]
    subject: String,
    /// Erases only in this tenant [default: all tenants]
    #[arg(long, default_value = "", hide_default_value = true)]
    tenant: String,
    /// Erases nothing, and checks that the ledger contains nothing of the subject and that the published predictor is the
    /// one of a ledger without the subject
    #[arg(long)]
    verify: bool,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub fn erase(args: &EraseArgs) -> Result<Exit, Failure> {
    let loaded = args.config.load()?;
    let connection = run::brokers(&loaded.config)?;
    let subject = Subject { tenant: args.tenant.clone(), id: args.subject.clone() };
    if args.verify {
        return verify::verify(&subject, &loaded, &connection, args.output);
    }
    let config = &loaded.config;
    let Erased { offset, tombstones, stays } = erase_from_ledger(&subject, config, &connection)?;
    match args.output {
        Output::Json => print::json(&json!({
            "edit_offset": offset,
            "tombstones": tombstones,
            "stays": stays,
        }))?,
        Output::Text => text(config, offset, tombstones, &stays),
    }
    Ok(Exit::Success)
}

/// The result of an erasure.
struct Erased {
    /// The offset of the edit.
    offset: i64,
    /// The number of records that got tombstones.
    tombstones: usize,
    /// The records that remain in other topics.
    stays: Vec<Remaining>,
}

/// Writes the edit and the tombstones.
fn erase_from_ledger(subject: &Subject, config: &Config, connection: &Connection) -> Result<Erased, Failure> {
    let unavailable = |error| Failure::of(connection, error);
    // A transactional id of its own does not fence the active learner, which reads these records like its own.
    let id = format!("{}-erase", config.learn.group);
    let mut outbox = Outbox::open(connection, run::delivery(config, connection, &id)).map_err(unavailable)?;
    let edit = Record::Edit(erasure(&subject.tenant, &subject.id));
    let places = outbox.commit(&[written(config, &edit)?], None).map_err(unavailable)?;
    let (_, offset) = *places.first().expect("the commit of one record returns its position");
    let (stays, rounds) = remaining::find(subject, config, connection)?;
    let mut tombstones = 0;
    // A learner in the middle of a batch may write once more before it reads the edit.
    for _ in 0..2 {
        let (out, instead) = subject.out_of_ledger(config, connection, &rounds)?;
        if out.is_empty() && instead.is_empty() {
            break;
        }
        tombstones += out.len();
        let mut records: Vec<_> = out.iter().map(|key| tombstone(config, key)).collect();
        for record in instead {
            records.push(written(config, &Record::Round(record))?);
        }
        outbox.commit(&records, None).map_err(unavailable)?;
    }
    Ok(Erased { offset, tombstones, stays })
}

fn text(config: &Config, offset: i64, tombstones: usize, stays: &[Remaining]) {
    let rounds = &config.topics.rounds;
    outln!(
        "edit        written to {rounds} at offset {offset}; the active learner applies it within a second"
    );
    outln!("tombstones  {tombstones} records of {rounds} are removed when it is compacted");
    outln!("stays       the edit itself, which contains the subject so that later records are erased too");
    for stay in stays {
        outln!("stays       {stay}");
    }
    outln!("`aegis erase --verify` checks that the ledger holds nothing of the subject");
}
