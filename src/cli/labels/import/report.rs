//! The report about an import.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::ImportArgs;
use crate::cli::Failure;
use crate::cli::print::{self, Output, printable};
use crate::config::Loaded;
use crate::labels::tally::Tally;
use crate::ops::Exit;
use crate::ops::stdout::{errln, outln};
use crate::rows::RowsError;

/// The number of annotators that are listed as text.
const SHOWN_ANNOTATORS: usize = 20;

/// A file that was imported, or could not be.
#[derive(Serialize)]
pub(super) struct FileReport {
    pub(super) file: String,
    pub(super) layout: Option<&'static str>,
    pub(super) rows: u64,
    pub(super) error: Option<String>,
    #[serde(skip)]
    pub(super) exit: Option<Exit>,
}

impl FileReport {
    /// A file that could be read only up to `rows`.
    pub(super) fn damaged(path: &Path, rows: u64, error: &RowsError) -> Self {
        let exit = match error {
            RowsError::Io { .. } => Exit::Unavailable,
            RowsError::Damaged { .. } | RowsError::UnknownFormat { .. } => Exit::Data,
        };
        let (file, error) = (path.display().to_string(), Some(error.to_string()));
        Self { file, layout: None, rows, error, exit: Some(exit) }
    }
}

/// Prints what became of the files. Returns the exit code.
pub(super) fn show(
    args: &ImportArgs,
    loaded: &Loaded,
    files: &[FileReport],
    tally: &Tally,
) -> Result<Exit, Failure> {
    let damaged = files.iter().find_map(|file| file.exit);
    let exit = damaged.unwrap_or(if tally.refused > 0 { Exit::Data } else { Exit::Success });
    match args.output {
        Output::Json => {
            #[derive(Serialize)]
            struct Shown<'a> {
                files: &'a [FileReport],
                dry_run: bool,
                #[serde(flatten)]
                tally: &'a Tally,
            }
            print::json(&Shown { files, dry_run: args.dry_run, tally })?;
        }
        Output::Text => text(args, loaded, files, tally),
    }
    for file in files {
        if let Some(error) = &file.error {
            errln!("aegis: {error}");
        }
    }
    Ok(exit)
}

fn text(args: &ImportArgs, loaded: &Loaded, files: &[FileReport], tally: &Tally) {
    for file in files.iter().filter(|file| file.error.is_none()) {
        let layout = file.layout.map(|layout| format!(" of layout {layout}")).unwrap_or_default();
        outln!("{}: {} rows{layout}", file.file, file.rows);
    }
    let Tally { labels, left_out, refused, repeated, .. } = tally;
    outln!("labels      {labels}, {left_out} left out, {refused} refused");
    let counts = |title: &str, counts: &BTreeMap<&'static str, u64>| {
        if !counts.is_empty() {
            let all: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            outln!("{title:<11} {}", all.join(", "));
        }
    };
    counts("verdicts", &tally.verdicts);
    counts("sources", &tally.sources);
    let mut annotators: Vec<_> = tally.annotators.iter().collect();
    annotators.sort_by(|one, other| other.1.cmp(one.1));
    let further = annotators.len().saturating_sub(SHOWN_ANNOTATORS);
    let named = |name: &str| if name.is_empty() { "(nameless)".to_owned() } else { printable(name) };
    let mut shown: Vec<_> = annotators
        .iter()
        .take(SHOWN_ANNOTATORS)
        .map(|(name, count)| format!("{} {count}", named(name)))
        .collect();
    if further > 0 {
        shown.push(format!("and {further} more"));
    }
    if !shown.is_empty() {
        outln!("annotators  {}", shown.join(", "));
    }
    counts("refused", &tally.reasons);
    if *repeated > 0 {
        outln!(
            "repeated    {repeated} labels have the event and id of an earlier one: the newest of them counts"
        );
    }
    if *labels == 0 && *left_out > 0 {
        outln!(
            "note        every row was left out: if they have verdicts, name their field with --verdict-field"
        );
    }
    let topic = &loaded.config.topics.labels;
    if args.dry_run {
        outln!("sent        nothing (--dry-run); {labels} labels would go to {topic}");
    } else {
        outln!("sent        {} labels to {topic}, all acknowledged", tally.sent);
    }
    if let (true, Some(path)) = (*refused > 0, &args.rejected) {
        outln!("rejected    written to {}", path.display());
    }
}
