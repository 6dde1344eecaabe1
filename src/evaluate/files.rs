//! The evaluation of labelled files.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::args::{EvaluateArgs, Output};
use super::ask::ask;
use super::evaluation::{Asked, Attacked, Evaluation, Experts};
use super::layout::Sample;
use super::report::Report;
use super::samples::{Files, Samples};
use super::{EvaluateError, streams, unavailable, write};
use crate::experts::Panel;
use crate::ops::stdout::{self, errln, outln};
use crate::rows::is_same_file;

/// Reads the files, asks the panel, prints the figures, and writes the files that the flags name.
///
/// # Errors
/// Returns an error as [`run`](super::run) does.
pub(super) fn run(
    args: &EvaluateArgs,
    limit: Option<usize>,
    open: &dyn Fn() -> Result<(Panel, BTreeSet<String>), EvaluateError>,
) -> Result<(), EvaluateError> {
    let learner = args.learner()?;
    let stream = args.streams.as_deref().map(|folder| stream_path(folder, &args.files));
    for output in stream.iter().chain(&args.report) {
        if args.files.iter().any(|file| is_same_file(output, file)) {
            let error =
                format!("{} is an input, which would be lost: write to another file", output.display());
            return Err(EvaluateError::Usage(error));
        }
    }
    let read = samples(args, limit)?;
    let (panel, shadow) = open()?;
    let experts = Experts::new(&panel, &shadow);
    let mut attacks = args.attack.clone();
    attacks.sort_unstable();
    attacks.dedup();
    let attacked = |attack| Attacked::new(attack, args.attack_seed, &read.samples);
    let attacked: Vec<Attacked> = attacks.into_iter().map(attacked).collect();
    let texts = read.samples.iter().map(|sample| &sample.conversation);
    let all = texts.chain(attacked.iter().flat_map(|attacked| attacked.conversations.iter().flatten()));
    let answers = ask(&panel, all.map(Into::into), &args.cache)?;
    let evaluation = Evaluation::new(&learner, &experts, &read.samples, &answers)?;
    if let Some(path) = &stream {
        write_stream(path, (&panel, &shadow), &read.samples, &evaluation.asked)?;
    }
    let mut figures = evaluation.figures()?;
    if !attacked.is_empty() {
        figures.attacks = evaluation.attacks(&attacked, args.attack_fpr, &figures.judges)?;
    }
    let (alarms, limit) = (args.attack_fpr, args.max_recall_loss);
    let report = Report { files: &args.files, read: &read, figures: &figures, alarms, limit };
    match args.output {
        Output::Text => stdout::print(&report.text()),
        Output::Json => outln!("{:#}", report.json()),
    }
    if let Some(path) = &args.report {
        write(path, &report.html())?;
    }
    report.gate()
}

/// Reads the samples, and names the first rows that cannot be used.
fn samples(args: &EvaluateArgs, limit: Option<usize>) -> Result<Samples, EvaluateError> {
    let files = Files {
        paths: &args.files,
        format: args.format(),
        delimiter: args.delimiter()?,
        limit,
        strict: args.strict,
    };
    let mut read = Samples::read(&files, &args.layout())?;
    for problem in &read.named {
        errln!("{problem}");
    }
    if let Some(seed) = args.shuffle {
        fastrand::Rng::with_seed(seed).shuffle(&mut read.samples);
    }
    Ok(read)
}

/// Writes the samples as a label stream, in the order in which the learner learns.
fn write_stream(
    path: &Path,
    (panel, shadow): (&Panel, &BTreeSet<String>),
    samples: &[Sample],
    asked: &[Asked<'_>],
) -> Result<(), EvaluateError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| unavailable(folder, &error))?;
    let experts: Vec<&str> = panel.experts().iter().map(|expert| expert.id.as_str()).collect();
    let encoder = panel.encoder();
    let (mut out, mut seen) = (Vec::new(), HashMap::<&str, usize>::new());
    for (sample, asked) in samples.iter().zip(asked) {
        let count = seen.entry(&sample.id).or_default();
        *count += 1;
        let id = if *count == 1 { sample.id.clone() } else { format!("{}#{count}", sample.id) };
        let mut line = streams::line(&experts, encoder.as_ref(), &id, &sample.target.into(), asked.all);
        if let (false, Some(line)) = (shadow.is_empty(), line.as_object_mut()) {
            line.insert("shadow".into(), shadow.iter().cloned().collect());
        }
        writeln!(out, "{line}").expect("writing to memory cannot fail");
    }
    std::fs::write(path, out).map_err(|error| unavailable(path, &error))
}

/// The file in `folder` that gets the stream of these files.
fn stream_path(folder: &Path, files: &[PathBuf]) -> PathBuf {
    let name = match files {
        [only] => only.file_name().and_then(|name| name.to_str()?.split('.').next()).unwrap_or("file"),
        _ => "files",
    };
    folder.join(name).with_extension("jsonl")
}
