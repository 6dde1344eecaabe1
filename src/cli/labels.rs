//! `aegis labels import|stats|appeal`: labels of files, figures about annotators, and decisions about appeals.

mod appeal;
mod import;
mod stats;

use clap::{Args, Subcommand};

use super::{ConfigArgs, Failure, run, scan::scan};
use crate::codec;
use crate::config::Config;
use crate::core::ledger::Record;
use crate::kafka::Connection;
use crate::ops::Exit;

#[derive(Args)]
pub struct LabelsArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Sends the labels of files: JSON, CSV, and exports of Label Studio and Argilla
    Import(import::ImportArgs),
    /// Measures annotators: agreement, answers to known cases, pace; proposes who should be in quarantine
    Stats(stats::StatsArgs),
    /// Records the decision about an appeal: an upheld one corrects and teaches, a rejected one changes nothing
    Appeal(appeal::AppealArgs),
}

pub fn labels(args: &LabelsArgs) -> Result<Exit, Failure> {
    match &args.command {
        Action::Import(args) => import::import(args),
        Action::Stats(args) => stats::stats(args),
        Action::Appeal(args) => appeal::appeal(args),
    }
}

/// Passes every record that the ledger topic holds now to `take`.
pub fn scan_ledger(
    config: &Config,
    connection: &Connection,
    take: &mut dyn FnMut(Record) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let topic = &config.topics.rounds;
    scan(connection, topic, &mut |record| {
        let Some(payload) = record.payload else { return Ok(()) };
        let wrong = |error| {
            let at = format!("{topic}, offset {}", record.offset);
            Failure { exit: Exit::Data, error: anyhow::Error::new(error).context(at) }
        };
        take(codec::decode_record(&payload).map_err(wrong)?)
    })
}

/// Loads the configuration and connects to its brokers.
fn connect(args: &ConfigArgs) -> Result<(crate::config::Loaded, Connection), Failure> {
    let loaded = args.load()?;
    let connection = run::brokers(&loaded.config)?;
    Ok((loaded, connection))
}
