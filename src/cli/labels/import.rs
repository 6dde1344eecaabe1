//! `aegis labels import`: the labels of files, sent to the labels topic.

mod report;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;

use self::report::{FileReport, show};
use super::connect;
use crate::cli::print::Output;
use crate::cli::scan::ANSWER_TIMEOUT;
use crate::cli::{ConfigArgs, Failure};
use crate::codec::time::Zone;
use crate::config::Loaded;
use crate::core::label::{Finding, Source};
use crate::kafka::{Connection, Delivery, Outbox, Produced, topics};
use crate::labels::import::{Import, ImportError, RefusedRow, Sink};
use crate::labels::reader::{LabelFile, Layout};
use crate::labels::tally::Tally;
use crate::labels::{Names, Reading};
use crate::ops::stdout::errln;
use crate::ops::{Exit, Progress};
use crate::rows::{Format, is_same_file};

/// The number of refused rows that are listed if no file takes them.
const LISTED: u64 = 20;
/// The time after which progress is shown.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct ImportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Files of labels: JSON lines or arrays, CSV, Parquet, Avro, exports of Label Studio and Argilla; .gz and .zst are
    /// decompressed; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The format, or the layout of the rows [default: by their content]
    #[arg(long, value_parser = [
        "json", "csv", "tsv", "parquet", "avro", "labels", "fields", "label-studio", "label-studio-min", "argilla",
    ])]
    format: Option<String>,
    /// The delimiter of CSV [default: a comma]
    #[arg(long, value_name = "CHAR")]
    delimiter: Option<char>,
    /// The meaning of a word for a verdict: toxic=unsafe; can be repeated
    #[arg(long = "verdicts", value_name = "WORD=VERDICT", value_delimiter = ',', value_parser = meaning)]
    verdicts: Vec<(String, Finding)>,
    /// The control, question or column with the verdict
    #[arg(long, value_name = "NAME", default_value = "verdict")]
    verdict_field: String,
    /// The control, question or column with the categories
    #[arg(long, value_name = "NAME", default_value = "categories")]
    categories_field: String,
    /// The source of labels that name none
    #[arg(long, default_value = "review", value_parser = ["review", "report", "appeal", "gold", "calibration"])]
    source: String,
    /// The zone of times without one
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// Counts what would be sent, and sends nothing
    #[arg(long)]
    dry_run: bool,
    /// Writes refused rows with their reasons to this file, one JSON object a line; it may contain text of users
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Parses a word and its meaning.
fn meaning(text: &str) -> Result<(String, Finding), String> {
    let parsed = text.rsplit_once('=').and_then(|(word, meaning)| {
        let finding = Finding::ALL.into_iter().find(|finding| finding.word() == meaning)?;
        (!word.is_empty()).then(|| (word.to_owned(), finding))
    });
    parsed.ok_or_else(|| "write it like toxic=unsafe, with safe, unsafe or needs_caution".to_owned())
}

fn usage(error: anyhow::Error) -> Failure {
    Failure { exit: Exit::Usage, error }
}

fn reading(args: &ImportArgs, loaded: &Loaded) -> Result<Reading, Failure> {
    let zone = Zone::try_from(args.time_zone.clone());
    let source = Source::ALL.into_iter().find(|source| source.word() == args.source);
    let verdicts: BTreeMap<_, _> = args.verdicts.iter().cloned().collect();
    Ok(Reading {
        defaults: loaded.config.record_defaults(),
        names: Names { verdict: args.verdict_field.clone(), categories: args.categories_field.clone() },
        verdicts,
        source: source.filter(|source| *source != Source::Review),
        zone: zone.map_err(|why| usage(anyhow!("--time-zone: {why}")))?,
    })
}

/// The labels topic, and the file or list of refused rows.
struct Receiver {
    /// `None` in a dry run.
    brokers: Option<(Connection, Outbox)>,
    rejected: Option<(PathBuf, BufWriter<File>)>,
    listed: u64,
    started: Instant,
    bar: Option<Progress>,
}

impl Receiver {
    fn open(args: &ImportArgs, loaded: &Loaded) -> Result<Self, Failure> {
        let brokers = if args.dry_run { None } else { Some(open_topic(args, loaded)?) };
        let create = |path: &PathBuf| {
            let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()));
            let file = file.map_err(|error| Failure { exit: Exit::Unavailable, error })?;
            Ok::<_, Failure>((path.clone(), BufWriter::new(file)))
        };
        let rejected = args.rejected.as_ref().map(create).transpose()?;
        Ok(Self { brokers, rejected, listed: 0, started: Instant::now(), bar: None })
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
        match &mut self.rejected {
            Some((path, file)) => {
                let flushed = file.flush().with_context(|| format!("{} cannot be written", path.display()));
                flushed.map_err(|error| Failure { exit: Exit::Unavailable, error })
            }
            None => Ok(()),
        }
    }
}

/// Opens a producer, after checking that the topic is there.
fn open_topic(args: &ImportArgs, loaded: &Loaded) -> Result<(Connection, Outbox), Failure> {
    let (_, connection) = connect(&args.config)?;
    let unavailable = |error| Failure::of(&connection, error);
    topics::partitions(&connection, &loaded.config.topics.labels, ANSWER_TIMEOUT).map_err(unavailable)?;
    let outbox = Outbox::open(&connection, Delivery::AtLeastOnce);
    let outbox = outbox.map_err(|error| Failure::of(&connection, error))?;
    Ok((connection, outbox))
}

impl Sink for Receiver {
    type Error = Failure;

    fn send(&mut self, records: &[Produced]) -> Result<(), Failure> {
        let Some((connection, outbox)) = &mut self.brokers else { return Ok(()) };
        outbox.commit(records, None).map(|_| ()).map_err(|error| Failure::of(connection, error))
    }

    fn refuse(&mut self, row: &RefusedRow) -> Result<(), Failure> {
        if let Some((path, file)) = &mut self.rejected {
            let written = writeln!(file, "{}", row.with_value())
                .with_context(|| format!("{} cannot be written", path.display()));
            return written.map_err(|error| Failure { exit: Exit::Unavailable, error });
        }
        for reason in &row.refused {
            self.listed += 1;
            if self.listed <= LISTED {
                let annotation =
                    reason.annotation.map(|number| format!(", annotation {number}")).unwrap_or_default();
                errln!(
                    "{}:{}: row {}{annotation}: {}: {}",
                    row.file,
                    row.line,
                    row.row,
                    reason.reason,
                    reason.message
                );
            } else if self.listed == LISTED + 1 {
                errln!("aegis: further refusals are only counted; --rejected FILE writes all of them");
            }
        }
        Ok(())
    }

    fn progress(&mut self, rows: u64) {
        if self.bar.is_some() || (rows.is_multiple_of(256) && self.started.elapsed() > PROGRESS_DELAY) {
            let bar = self.bar.get_or_insert_with(|| Progress::start("importing labels", None));
            bar.set(usize::try_from(rows).unwrap_or(usize::MAX));
        }
    }
}

pub fn import(args: &ImportArgs) -> Result<Exit, Failure> {
    let loaded = args.config.load()?;
    let reading = reading(args, &loaded)?;
    let delimiter = args.delimiter.map(u8::try_from).transpose();
    let delimiter = delimiter.map_err(|_| usage(anyhow!("--delimiter: one ASCII character")))?;
    if let Some(rejected) = &args.rejected
        && args.files.iter().any(|file| is_same_file(rejected, file))
    {
        let error = anyhow!("{} is an input, which would be lost: write to another file", rejected.display());
        return Err(usage(error));
    }
    let named = args.format.as_deref();
    let (format, layout) = (named.and_then(Format::named), named.and_then(Layout::named));
    if layout == Some(Layout::Mapped) && reading.defaults.label_fields.is_none() {
        return Err(usage(anyhow!("--format fields needs the section [label_fields] of the configuration")));
    }
    let policies = &loaded.policies;
    let mut import = Import {
        reading: &reading,
        is_policy: &|name| policies.get(name).is_some(),
        topic: Arc::from(loaded.config.topics.labels.as_str()),
        sink: Receiver::open(args, &loaded)?,
        dry_run: args.dry_run,
        tally: Tally::default(),
    };
    let mut files = Vec::new();
    let mut failed = Ok(());
    for path in &args.files {
        let before = import.tally.rows;
        match one(&mut import, path, format, layout, delimiter) {
            Ok(file) => files.push(file),
            Err(ImportError::Rows(error)) => {
                files.push(FileReport::damaged(path, import.tally.rows - before, &error));
            }
            Err(ImportError::Sink(failure)) => {
                failed = Err(failure);
                break;
            }
        }
    }
    let finished = import.sink.finish();
    let tally = import.tally;
    if let Err(Failure { exit, error }) = failed {
        let sent = tally.sent;
        let error =
            error.context(format!("{sent} labels are sent; run the command again: those change nothing"));
        return Err(Failure { exit, error });
    }
    finished?;
    show(args, &loaded, &files, &tally)
}

fn one(
    import: &mut Import<'_, Receiver>,
    path: &Path,
    format: Option<Format>,
    layout: Option<Layout>,
    delimiter: Option<u8>,
) -> Result<FileReport, ImportError<Failure>> {
    let before = import.tally.rows;
    let file = import.file(LabelFile::open(path, format, layout, delimiter)?)?;
    let rows = import.tally.rows - before;
    let layout = file.layout().map(Layout::word);
    Ok(FileReport { file: path.display().to_string(), layout, rows, error: None, exit: None })
}
