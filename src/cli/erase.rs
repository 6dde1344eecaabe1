//! `aegis erase`: a subject leaves the ledger, and what stays elsewhere is told.
//!
//! The standing edit comes first: from then on no decision about the subject enters the ledger. Then what is
//! there gets tombstones, which take effect when the topic is compacted. Run twice it does the same.

mod stays;
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
use stays::Stays;
use subject::Subject;

#[derive(Args)]
pub struct EraseArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The subject: the user's key on events
    #[arg(long, value_name = "SUBJECT")]
    subject: String,
    /// Only in this tenant [default: in all]
    #[arg(long, default_value = "", hide_default_value = true)]
    tenant: String,
    /// Erases nothing: proves by reading that the ledger holds nothing of the subject, and that what the learner
    /// has published is what it would be had the subject never been
    #[arg(long)]
    verify: bool,
    /// For people or for machines
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
    let Done { offset, tombstones, stays } = take_out(&subject, config, &connection)?;
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

/// What was done, and what is left.
struct Done {
    /// The edit's offset.
    offset: i64,
    /// Records that were taken out.
    tombstones: usize,
    /// What other topics hold.
    stays: Vec<Stays>,
}

/// Writes the edit and the tombstones.
fn take_out(subject: &Subject, config: &Config, connection: &Connection) -> Result<Done, Failure> {
    let unavailable = |error| Failure::of(connection, error);
    // An id of its own: the active learner is not fenced, and reads this like its own records.
    let id = format!("{}-erase", config.learn.group);
    let mut outbox = Outbox::open(connection, run::delivery(config, connection, &id)).map_err(unavailable)?;
    let edit = Record::Edit(erasure(&subject.tenant, &subject.id));
    let places = outbox.commit(&[written(config, &edit)?], None).map_err(unavailable)?;
    let offset = places.first().map_or(-1, |(_, offset)| *offset);
    let (stays, rounds) = stays::find(subject, config, connection)?;
    let mut tombstones = 0;
    // A learner in the middle of a unit may write once more before it reads the edit.
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
    Ok(Done { offset, tombstones, stays })
}

fn text(config: &Config, offset: i64, tombstones: usize, stays: &[Stays]) {
    let rounds = &config.topics.rounds;
    outln!(
        "edit        written to {rounds} at offset {offset}; the active learner applies it within a second"
    );
    outln!("tombstones  {tombstones} records of {rounds} go when it is compacted");
    outln!("stays       the edit itself: it names the subject, so that what comes later is erased, too");
    for stay in stays {
        outln!("stays       {stay}");
    }
    outln!("`aegis erase --verify` tells when the ledger holds nothing any more");
}
