//! The ledger of files in the replay format, without folding it.

use std::io::Write;
use std::path::PathBuf;

use crossbeam_channel::bounded;

use super::ReplayError;
use super::batch::{Batch, Item};
use super::line::Parser;
use super::load::{Loader, Refused};
use super::read::{self, ReadError};
use crate::codec::Defaults;
use crate::core::ledger_state::LedgerState;

/// Malformed lines that are reported; further ones are only counted.
const MAX_REPORTED: u64 = 20;

/// Reads files one after the other into one ledger. Malformed lines are reported to `notes` and counted. Returns the ledger
/// and their number.
///
/// # Errors
/// Returns a [`ReplayError`] if a file cannot be read, or if nothing in the files is part of a ledger.
pub fn read_ledger(
    paths: &[PathBuf],
    defaults: Option<Defaults>,
    notes: &mut dyn Write,
) -> Result<(LedgerState, u64), ReplayError> {
    let mut parser = Parser::default();
    if let Some(defaults) = defaults {
        parser.defaults = defaults;
    }
    let mut loader = Loader::default();
    loader.ledger_only = true;
    let (full_in, full_out) = bounded::<Batch>(4);
    let (empty_in, empty_out) = bounded::<Batch>(8);
    let (mut malformed, mut inserted) = (0, 0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read::read_all(paths, parser, &full_in, &empty_out));
        let mut filled = Ok(());
        for batch in &full_out {
            filled = insert(&mut loader, &batch, paths, &mut malformed, &mut inserted, notes);
            // The reading thread may have ended.
            let _ = empty_in.try_send(batch);
            if filled.is_err() {
                break;
            }
        }
        drop(full_out);
        let read =
            reader.join().map_err(|_| ReplayError::Internal("the reading thread panicked".to_owned()))?;
        filled?;
        read.map_err(|ReadError { path, reason }| ReplayError::reading(&path, &reason))
    })?;
    if malformed > 0 && inserted == 0 {
        let reason = format!("nothing could be read: all {malformed} lines are malformed");
        return Err(ReplayError::Data(reason));
    }
    Ok((loader.ledger, malformed))
}

fn insert(
    loader: &mut Loader,
    batch: &Batch,
    paths: &[PathBuf],
    malformed: &mut u64,
    inserted: &mut u64,
    notes: &mut dyn Write,
) -> Result<(), ReplayError> {
    loader.add_panels(batch);
    for (number, item) in &batch.items {
        match loader.insert(item, batch) {
            Ok(()) => *inserted += u64::from(!matches!(item, Item::Header(_) | Item::Savepoint(_))),
            Err(Refused::Run(error)) => return Err(error),
            Err(Refused::Line(reason)) => {
                *malformed += 1;
                // A closed standard error does not stop the run.
                if *malformed <= MAX_REPORTED {
                    let _ = writeln!(notes, "{}:{number}: {reason}", paths[batch.stream].display());
                }
            }
        }
    }
    Ok(())
}
