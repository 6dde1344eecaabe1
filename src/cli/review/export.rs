//! `aegis review export`: reads the requests once, in bounded memory, and writes those that are open.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::texts::Texts;
use crate::cli::labels::scan_ledger;
use crate::cli::scan::scan;
use crate::cli::verify::time;
use crate::cli::{ConfigArgs, Failure, run};
use crate::codec::{Received, Schemas};
use crate::config::Loaded;
use crate::core::event::Millis;
use crate::core::review::ReviewRequest;
use crate::labels::open::{Answered, Open, RequestState};
use crate::labels::tasks::{Form, task};
use crate::ops::Exit;
use crate::ops::stdout::{Stdout, errln};
use crate::registry::Registry;

/// The number of requests whose texts are read together. Each takes up to a few megabytes.
const TEXTS: usize = 32;
/// The milliseconds of a day.
const DAY: Millis = 86_400_000;

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The form of the tasks
    #[arg(long, value_enum, default_value_t = FormArg::LabelStudio)]
    format: FormArg,
    /// Writes only requests of this policy; can be repeated [default: all]
    #[arg(long = "policy", value_name = "NAME")]
    policies: Vec<String>,
    /// Writes only requests about events at or after this time: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Millis>,
    /// The greatest number of tasks
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Reads the conversations from the events topic and writes them into the tasks: text of users
    #[arg(long)]
    with_text: bool,
    /// Leaves out what the ensemble thinks, so that reviewers are not led by it
    #[arg(long)]
    without_predictions: bool,
    /// The file of tasks, which appears when it is complete [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The form of exported tasks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormArg {
    /// Tasks of Label Studio, one JSON array
    LabelStudio,
    /// Records of Argilla, JSON lines
    Argilla,
    /// Review requests, JSON lines
    Jsonl,
}

impl From<FormArg> for Form {
    fn from(form: FormArg) -> Self {
        match form {
            FormArg::LabelStudio => Self::LabelStudio,
            FormArg::Argilla => Self::Argilla,
            FormArg::Jsonl => Self::Lines,
        }
    }
}

/// The numbers of requests by what became of them.
#[derive(Default)]
struct Counts {
    written: u64,
    answered: u64,
    /// The requests about erased subjects.
    erased: u64,
    /// Labels of these would come too late.
    expired: u64,
    /// Their texts were deleted.
    without_text: u64,
    unreadable: u64,
    beyond_limit: u64,
}

/// The state of one export.
struct Export<'a> {
    args: &'a ExportArgs,
    open: Open,
    /// The round time before which a label would come too late.
    oldest: Millis,
    schemas: Option<&'a dyn Schemas>,
    texts: Option<Texts<'a>>,
    waiting: Vec<ReviewRequest>,
    out: Box<dyn Write + 'a>,
    counts: Counts,
}

fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    let result = result.context("the tasks cannot be written");
    result.map_err(|error| Failure { exit: Exit::Unavailable, error })
}

impl Export<'_> {
    /// Takes a record of the review topic.
    fn take(&mut self, payload: Option<&[u8]>, headers: &[(String, Option<Vec<u8>>)]) -> Result<(), Failure> {
        if payload.is_none() {
            return Ok(());
        }
        let Ok(request) = Received::new(payload, headers, self.schemas).review() else {
            self.counts.unreadable += 1;
            return Ok(());
        };
        let args = self.args;
        if !args.policies.is_empty() && !args.policies.contains(&request.id.policy)
            || args.since.is_some_and(|since| request.round_time < since)
        {
            return Ok(());
        }
        if request.round_time < self.oldest {
            self.counts.expired += 1;
            return Ok(());
        }
        match self.open.take(&request) {
            RequestState::Open => {}
            RequestState::Done => {
                self.counts.answered += 1;
                return Ok(());
            }
            RequestState::Erased => {
                self.counts.erased += 1;
                return Ok(());
            }
        }
        let taken = self.counts.written + self.waiting.len() as u64;
        if args.limit.is_some_and(|limit| taken >= limit) {
            self.counts.beyond_limit += 1;
            return Ok(());
        }
        self.waiting.push(request);
        if self.texts.is_none() || self.waiting.len() >= TEXTS { self.flush() } else { Ok(()) }
    }

    /// Writes the requests that wait for their texts.
    fn flush(&mut self) -> Result<(), Failure> {
        let requests = std::mem::take(&mut self.waiting);
        let events = match &mut self.texts {
            Some(texts) => texts.read(&requests)?,
            None => vec![None; requests.len()],
        };
        for (request, event) in requests.iter().zip(events) {
            if self.texts.is_some() && event.is_none() {
                self.counts.without_text += 1;
                continue;
            }
            let task = task(self.args.format.into(), request, event.as_ref(), !self.args.without_predictions);
            let task = task.map_err(|error| Failure::new(Exit::Internal, error))?;
            let before = match (self.args.format, self.counts.written) {
                (FormArg::LabelStudio, 0) => "[\n",
                (FormArg::LabelStudio, _) => ",\n",
                (_, 0) => "",
                _ => "\n",
            };
            written(write!(self.out, "{before}{task}"))?;
            self.counts.written += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Counts, Failure> {
        self.flush()?;
        let end = match (self.args.format, self.counts.written) {
            (FormArg::LabelStudio, 0) => "[]\n",
            (FormArg::LabelStudio, _) => "\n]\n",
            (_, 0) => "",
            _ => "\n",
        };
        written(self.out.write_all(end.as_bytes()).and_then(|()| self.out.flush()))?;
        Ok(self.counts)
    }
}

pub fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    let Some(path) = &args.out else { return write_to(args, Box::new(Stdout)) };
    let part = part_path(path);
    let create = || File::create(&part).with_context(|| format!("{} cannot be written", part.display()));
    let file = create().map_err(|error| Failure { exit: Exit::Unavailable, error })?;
    let exit = write_to(args, Box::new(BufWriter::new(file)));
    let renamed = exit.and_then(|exit| {
        let renamed =
            fs::rename(&part, path).with_context(|| format!("{} cannot be written", path.display()));
        renamed.map(|()| exit).map_err(|error| Failure { exit: Exit::Unavailable, error })
    });
    if renamed.is_err() {
        // The error to report is the first one.
        let _ = fs::remove_file(&part);
    }
    renamed
}

/// Returns the path of the incomplete file, which is in the same directory as the file.
fn part_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

fn write_to(args: &ExportArgs, out: Box<dyn Write + '_>) -> Result<Exit, Failure> {
    let Loaded { config, policies } = args.config.load()?;
    let connection = run::brokers(&config)?;
    let registry =
        Registry::from_config(&config.registry).map_err(|error| Failure::new(Exit::Config, error))?;
    let waiting = registry.as_ref().map(|registry| registry.waiting(&|| false));
    let schemas = waiting.as_ref().map(|waiting| waiting as &dyn Schemas);
    let teaches = policies.policies.into_iter().map(|(name, policy)| (name, policy.mapping.teaches));
    let mut answered = Answered::new(teaches.collect());
    scan_ledger(&config, &connection, &mut |record| {
        answered.add(&record);
        Ok(())
    })?;
    let texts = args.with_text.then(|| Texts {
        connection: &connection,
        defaults: config.record_defaults(),
        schemas,
        lookups: BTreeMap::new(),
    });
    let oldest = now().saturating_sub(DAY.saturating_mul(Millis::from(config.learn.horizon_days)));
    let (open, counts) = (answered.open(), Counts::default());
    let mut export = Export { args, open, oldest, schemas, texts, waiting: Vec::new(), out, counts };
    scan(&connection, &config.topics.review, &mut |record| {
        export.take(record.payload.as_deref(), &record.headers)
    })?;
    report(&export.finish()?);
    Ok(Exit::Success)
}

/// Tells on standard error what became of the requests, since standard output may be the tasks.
fn report(counts: &Counts) {
    errln!("{} open review requests written, {} answered already", counts.written, counts.answered);
    for (count, what) in [
        (counts.beyond_limit, "more are open: raise --limit"),
        (counts.erased, "are left out: their subjects were erased"),
        (counts.expired, "are older than learn.horizon_days, so that a label would come too late"),
        (counts.without_text, "are left out: their events were deleted or cannot be read any more"),
        (counts.unreadable, "records of the topic are not review requests of this version"),
    ] {
        if count > 0 {
            errln!("{count} {what}");
        }
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
