//! Streams read into the loader: files on a thread of their own, ledger topics, savepoints.

use std::io::Write;
use std::path::{Path, PathBuf};

use crossbeam_channel::bounded;

use super::args::ReplayContext;
use super::batch::{Batch, Item};
use super::line::Parser;
use super::load::{Loader, Refused};
use super::read::{self, ReadError};
use super::{ReplayArgs, ReplayError};
use crate::codec::Defaults;

/// Malformed lines that are reported; further ones are only counted.
const MAX_REPORTED: u64 = 1_000;

/// Reads streams into a loader and reports malformed lines.
pub(super) struct StreamReader<'a> {
    strict: bool,
    keep_texts: bool,
    defaults: Option<Defaults>,
    notes: &'a mut dyn Write,
    pub(super) counts: LineCounts,
}

/// The numbers of lines by their outcome.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LineCounts {
    /// All lines.
    pub(super) lines: u64,
    /// Malformed lines.
    pub(super) malformed: u64,
    /// Lines whose round, label or edit is in the ledger.
    pub(super) inserted: u64,
    /// Lines without a label by `label_fields.skip_if`.
    pub(super) left_out: u64,
}

impl<'a> StreamReader<'a> {
    pub(super) fn new(args: &ReplayArgs, defaults: Option<Defaults>, notes: &'a mut dyn Write) -> Self {
        let counts = LineCounts::default();
        Self { strict: args.strict, keep_texts: args.embed, defaults, notes, counts }
    }

    /// Reads files one after the other.
    pub(super) fn files(&mut self, paths: &[PathBuf], loader: &mut Loader) -> Result<(), ReplayError> {
        let (full_in, full_out) = bounded::<Batch>(4);
        let (empty_in, empty_out) = bounded::<Batch>(8);
        let mut parser = Parser::default();
        parser.keep_texts = self.keep_texts;
        if let Some(defaults) = &self.defaults {
            parser.defaults = defaults.clone();
        }
        loader.on_new_parser();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || read::read_all(paths, parser, &full_in, &empty_out));
            let mut inserted = Ok(());
            for batch in &full_out {
                inserted = self.insert(&batch, paths, loader);
                // The reading thread may have ended.
                let _ = empty_in.try_send(batch);
                if inserted.is_err() {
                    break;
                }
                loader.advance_folds();
            }
            drop(full_out);
            let read =
                reader.join().map_err(|_| ReplayError::Internal("the reading thread panicked".to_owned()))?;
            inserted?;
            read.map_err(|ReadError { path, reason }| ReplayError::reading(&path, &reason))
        })
    }

    fn insert(&mut self, batch: &Batch, paths: &[PathBuf], loader: &mut Loader) -> Result<(), ReplayError> {
        self.counts.lines += batch.lines;
        loader.add_panels(batch);
        let path = &paths[batch.stream];
        for (number, item) in &batch.items {
            self.counts.left_out += u64::from(matches!(item, Item::Records(records) if records.is_empty()));
            match loader.insert(item, batch) {
                Ok(()) => {
                    self.counts.inserted += u64::from(!matches!(item, Item::Header(_) | Item::Savepoint(_)));
                }
                Err(Refused::Run(ReplayError::Data(reason))) => {
                    let place = format!("{}:{number}", path.display());
                    return Err(ReplayError::Data(format!("{place}: {reason}")));
                }
                Err(Refused::Run(error)) => return Err(error),
                Err(Refused::Line(reason)) => self.malformed(path, *number, &reason)?,
            }
        }
        Ok(())
    }

    fn malformed(&mut self, path: &Path, line: u64, reason: &str) -> Result<(), ReplayError> {
        self.counts.malformed += 1;
        let text = format!("{}:{line}: {reason}", path.display());
        if self.strict {
            return Err(ReplayError::Data(text));
        }
        // A closed standard error does not stop the run.
        if self.counts.malformed <= MAX_REPORTED {
            let _ = writeln!(self.notes, "{text}");
        }
        if self.counts.malformed == MAX_REPORTED {
            let _ = writeln!(self.notes, "further malformed lines are only counted");
        }
        Ok(())
    }

    /// Reads a savepoint. If `headers`, the learner is the savepoint's, and the states must be those that were saved.
    pub(super) fn resume(
        &mut self,
        path: &Path,
        loader: &mut Loader,
        headers: bool,
    ) -> Result<(), ReplayError> {
        loader.resuming = true;
        let before = self.counts;
        self.files(&[path.to_owned()], loader)?;
        let broken = |what: &str| ReplayError::Data(format!("{}: {what}", path.display()));
        if self.counts.malformed > before.malformed {
            return Err(broken("lines of the savepoint are malformed"));
        }
        self.counts.lines = before.lines;
        self.counts.inserted = 0;
        let savepoint =
            loader.savepoint.take().ok_or_else(|| broken("no savepoint: write one with --save"))?;
        loader.resuming = false;
        if !headers {
            return Ok(());
        }
        if let Some(mut learner) = savepoint.learner {
            learner.set_seed(loader.seed.as_deref()).map_err(ReplayError::Usage)?;
            loader.learner = Some(learner.settings.learner);
            loader.reset_folds();
        }
        loader.advance_folds();
        loader.check(&savepoint.states).map_err(|policy| {
            broken(&format!(
                "the state of the policy {policy:?} is not the one that was saved: the file is damaged"
            ))
        })
    }

    /// Reads a ledger topic to its end.
    pub(super) fn topic(
        &mut self,
        name: &str,
        context: &mut ReplayContext<'_>,
        loader: &mut Loader,
    ) -> Result<(), ReplayError> {
        let Some(topic) = context.topic.as_mut() else {
            return Err(ReplayError::Usage(format!(
                "topic:{name} needs --config FILE, which says where the broker is"
            )));
        };
        let mut refused = None;
        let mut records = 0;
        topic(name, &mut |record| {
            records += 1;
            if refused.is_none() {
                refused = loader.record(&record).err().map(|refused| (records, refused));
            }
        })
        .map_err(|reason| ReplayError::Unavailable(format!("topic:{name}: {reason}")))?;
        self.counts.lines += records;
        self.counts.inserted += records - u64::from(refused.is_some());
        loader.timed = Some(true);
        match refused {
            None => Ok(()),
            Some((_, Refused::Run(error))) => Err(error),
            Some((record, Refused::Line(reason))) => {
                self.malformed(Path::new(&format!("topic:{name}")), record, &reason)
            }
        }
    }
}
