//! `aegis report`: prevalence, precision and recall, estimated from the labels of reviewers.

#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use clap::Args;

use super::print::{self, Output};
use super::scan::{ANSWER_TIMEOUT, scan, scan_from};
use super::verify::time;
use super::{Failure, run};
use crate::codec::{self, Defaults, Received, Schemas};
use crate::config::{self, Config, Loaded, Policies};
use crate::core::event::Millis;
use crate::core::policy::{Action, CategoryRule};
use crate::ops::Exit;
use crate::ops::stdout::Stderr;
use crate::registry::{Registry, RegistryError};
use crate::report::{self, Changes, Collector, FileError, Report, Settings};

/// A day and an hour in milliseconds.
const DAY: Millis = 86_400_000;
const HOUR: Millis = 3_600_000;

#[derive(Args)]
pub struct ReportArgs {
    /// Files of decisions, of `aegis score`, of `aegis replay` (--decisions) or of the topic: JSON lines or Avro containers, also
    /// .gz and .zst; - is standard input. Without files, the topics of the configuration are read
    #[arg(value_name = "DECISIONS")]
    files: Vec<PathBuf>,
    /// A file of labels for the decisions of files, of `aegis replay` (--labels-out) or as records of the labels topic in JSON
    /// lines, CSV, Parquet or Avro
    #[arg(long, value_name = "FILE", requires = "files")]
    labels: Vec<PathBuf>,
    /// The configuration file, with the brokers and the policies; files without it have the policy of every default
    /// [default without files: aegis.toml, then config/aegis.toml, in the working folder]
    #[arg(long, value_name = "FILE", env = "AEGIS_CONFIG")]
    config: Option<PathBuf>,
    /// Overrides the file and AEGIS__SECTION__KEY from the environment; can be repeated
    #[arg(long = "set", value_name = "section.key=value")]
    sets: Vec<String>,
    /// Only decisions whose round time is at or after this: RFC 3339, milliseconds since 1970, or 30d or 12h before now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Millis>,
    /// Only decisions before this time [default: now, with --since]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Millis>,
    /// Only this policy
    #[arg(long)]
    policy: Option<String>,
    /// Figures of a tenant, category or action need this many labels
    #[arg(long, value_name = "NUMBER", default_value_t = 30)]
    min_labels: u64,
    /// Previews this threshold
    #[arg(long, value_name = "P", value_parser = threshold,
        conflicts_with_all = ["cost_false_negative", "cost_false_positive"])]
    threshold: Option<f64>,
    /// Previews this cost of passing something unsafe
    #[arg(long, value_name = "COST", value_parser = cost)]
    cost_false_negative: Option<f64>,
    /// Previews this cost of flagging something safe
    #[arg(long, value_name = "COST", value_parser = cost)]
    cost_false_positive: Option<f64>,
    /// Previews a rule for a category, as violence=0.8:block; can be repeated
    #[arg(long = "category", value_name = "SLUG=THRESHOLD:ACTION", value_parser = rule)]
    categories: Vec<(String, CategoryRule)>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Writes a page to this file too, without scripts and without anything from elsewhere
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Parses a time, or a time before now in days or hours.
fn moment(text: &str) -> Result<Millis, String> {
    let ago = [("d", DAY), ("h", HOUR)].into_iter().find_map(|(unit, millis)| {
        let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
        Some(now().saturating_sub(Millis::from(number).saturating_mul(millis)))
    });
    ago.map_or_else(|| time(text), Ok)
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

fn threshold(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| 0.0 < *number && *number < 1.0);
    number.ok_or_else(|| "write a number between 0 and 1, as 0.4".to_owned())
}

fn cost(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write a number above 0".to_owned())
}

fn rule(text: &str) -> Result<(String, CategoryRule), String> {
    let read = || {
        let (slug, rule) = text.split_once('=')?;
        let (threshold, action) = rule.split_once(':')?;
        let threshold = threshold.parse().ok().filter(|number| (0.0..=1.0).contains(number))?;
        let action = Action::ALL.into_iter().find(|one| one.word() == action)?;
        (!slug.is_empty()).then(|| (slug.to_owned(), CategoryRule { threshold, action }))
    };
    read().ok_or_else(|| "write it as violence=0.8:block, with a threshold from 0 to 1".to_owned())
}

impl ReportArgs {
    fn settings(&self) -> Settings {
        Settings {
            since: self.since,
            until: self.until.or_else(|| self.since.map(|_| now())),
            policy: self.policy.clone(),
            min_labels: self.min_labels,
            changes: Changes {
                threshold: self.threshold,
                cost_false_negative: self.cost_false_negative,
                cost_false_positive: self.cost_false_positive,
                categories: self.categories.iter().cloned().collect::<BTreeMap<_, _>>(),
            },
        }
    }
}

pub fn report(args: &ReportArgs) -> Result<Exit, Failure> {
    let usage = |error| Failure { exit: Exit::Usage, error };
    let settings = args.settings();
    if settings.since.zip(settings.until).is_some_and(|(since, until)| since >= until) {
        return Err(usage(anyhow!("--since is not before --until: the period is empty")));
    }
    let loaded = match &args.config {
        None if !args.files.is_empty() => None,
        named => {
            let file = config::find(named.as_deref())?;
            Some(config::load(&file, std::env::vars(), &args.sets)?)
        }
    };
    let report = match loaded {
        Some(Loaded { config, policies }) if args.files.is_empty() => of_topics(&config, policies, settings)?,
        loaded => of_files(args, loaded, settings)?,
    };
    if report.policies.is_empty()
        && let Some(policy) = &args.policy
    {
        let error = anyhow!("no decision of the period has policy {}", print::printable(policy));
        return Err(Failure { exit: Exit::Data, error });
    }
    match args.output {
        Output::Json => print::json(&report)?,
        Output::Text => text::print(&report),
    }
    if let Some(path) = &args.html {
        std::fs::write(path, report::page(&report)).map_err(|error| {
            Failure::new(Exit::Unavailable, anyhow!("{}: cannot be written: {error}", path.display()))
        })?;
    }
    Ok(Exit::Success)
}

/// Reports about files.
fn of_files(args: &ReportArgs, loaded: Option<Loaded>, settings: Settings) -> Result<Report, Failure> {
    let (policies, defaults) = match loaded {
        Some(Loaded { config, policies }) => (policies, config.record_defaults()),
        None => (Policies::default(), Config::default().record_defaults()),
    };
    let mut collector = Collector::new(policies, settings);
    read_files(args, &defaults, &mut collector, &mut Stderr).map_err(|error| {
        let exit = match error {
            FileError::Rows(crate::rows::RowsError::Io { .. }) => Exit::Unavailable,
            FileError::Rows(crate::rows::RowsError::UnknownFormat { .. }) => Exit::Usage,
            _ => Exit::Data,
        };
        Failure::new(exit, error)
    })?;
    Ok(collector.finish())
}

fn read_files(
    args: &ReportArgs,
    defaults: &Defaults,
    collector: &mut Collector,
    notes: &mut dyn Write,
) -> Result<(), FileError> {
    for path in &args.labels {
        report::add_labels(path, defaults, collector, notes)?;
    }
    args.files.iter().try_for_each(|path| report::add_decisions(path, collector, notes))
}

/// Reports about the topics: the whole ledger, then the decisions of the period and of the one before.
fn of_topics(config: &Config, policies: Policies, settings: Settings) -> Result<Report, Failure> {
    let connection = run::brokers(config)?;
    let registry =
        Registry::from_config(&config.registry).map_err(|error| Failure::new(Exit::Config, error))?;
    let schemas = registry.as_ref().map(|registry| registry.waiting(&|| false));
    let schemas = schemas.as_ref().map(|schemas| schemas as &dyn Schemas);
    let since = settings.before().or(settings.since);
    let begin = report::beginning(&connection, &config.topics.decisions, since, ANSWER_TIMEOUT)
        .map_err(|error| Failure::of(&connection, error))?;
    let mut collector = Collector::new(policies, settings);
    scan(&connection, &config.topics.rounds, &mut |record| {
        match record.payload.as_deref().map(codec::decode_record) {
            Some(Ok(record)) => collector.add_record(&record),
            Some(Err(error)) => {
                collector.skip(&format!("ledger records that cannot be read: {}", error.name()))
            }
            // The edit of an erasure removes what its tombstones remove.
            None => {}
        }
        Ok(())
    })?;
    scan_from(&connection, &config.topics.decisions, &begin, &mut |record| {
        if record.payload.is_none() {
            return Ok(());
        }
        match Received::new(record.payload.as_deref(), &record.headers, schemas).decision() {
            Ok(decision) => collector.add_decision(&decision),
            Err(error) => match RegistryError::of(error) {
                Ok(error) => return Err(Failure::new(Exit::Unavailable, error)),
                Err(error) => collector.skip(&format!("decisions that cannot be read: {}", error.name())),
            },
        }
        Ok(())
    })?;
    Ok(collector.finish())
}
