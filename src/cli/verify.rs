//! `aegis verify`: verifies the guarantees on the topics.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::ledger::compare;
use super::print::{self, Output};
use super::{ConfigArgs, Failure, run};
use crate::codec::{Schemas, time::parse_millis};
use crate::config::Loaded;
use crate::core::event::Millis;
use crate::ops::stdout;
use crate::ops::{Exit, Progress};
use crate::registry::Registry;
use crate::verify::Verify;

#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Verifies only events at or after this time: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Millis>,
    /// Writes the report to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Parses a time on the command line.
pub fn time(text: &str) -> Result<Millis, String> {
    let millis = text.parse().ok().or_else(|| parse_millis(text));
    millis.ok_or_else(|| "write it like 2026-03-01T09:30:00Z, or as milliseconds since 1970".to_owned())
}

/// The progress of one topic after the other, shown after a second.
struct TopicProgress {
    what: &'static str,
    since: Instant,
    bar: Option<Progress>,
}

impl TopicProgress {
    fn set(&mut self, what: &'static str, read: usize) {
        if what != self.what {
            self.end();
            *self = Self { what, since: Instant::now(), bar: None };
        }
        if self.bar.is_none() && self.since.elapsed() > Duration::from_secs(1) {
            self.bar = Some(Progress::start(&format!("reading {what}"), None));
        }
        if let Some(bar) = &self.bar {
            bar.set(read);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
    }
}

pub fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let Loaded { config, policies } = args.config.load()?;
    let connection = run::brokers(&config)?;
    let registry =
        Registry::from_config(&config.registry).map_err(|error| Failure::new(Exit::Config, error))?;
    let patient = registry.as_ref().map(|registry| registry.waiting(&|| false));
    let mut shown = TopicProgress { what: "", since: Instant::now(), bar: None };
    let mut progress = |what, read| shown.set(what, read);
    let verify = Verify {
        config: &config,
        policies: &policies,
        connection: &connection,
        schemas: patient.as_ref().map(|patient| patient as &dyn Schemas),
        from: args.from,
        progress: &mut progress,
    };
    let mut report = verify.run().map_err(|error| Failure::of(&connection, error))?;
    compare(&config, &connection, &mut report)?;
    shown.end();
    match args.output {
        Output::Json => print::json(&report)?,
        Output::Text => stdout::print(&report.to_string()),
    }
    if let Some(path) = &args.json {
        let text =
            serde_json::to_string_pretty(&report).map_err(|error| Failure::new(Exit::Internal, error))?;
        std::fs::write(path, text + "\n").map_err(|error| {
            Failure::new(Exit::Unavailable, anyhow::anyhow!("{}: {error}", path.display()))
        })?;
    }
    Ok(if report.holds { Exit::Success } else { Exit::Data })
}
