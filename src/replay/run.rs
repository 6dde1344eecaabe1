//! A replay from its flags to its figures.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::{LearnerChoice, ReplayContext};
use super::batch::Batch;
use super::figures::{AnnotatorFigures, Figures, Summary};
use super::ingest::{LineCounts, StreamReader};
use super::line::Parser;
use super::load::{Loader, Refused};
use super::shifts::Shifts;
use super::{ReplayArgs, ReplayError, decisions, embed, report, savepoint, selected, table, trace};
use crate::codec::{Encoding, encode_published};
use crate::core::fold::Fold;
use crate::core::hash::{HashedState, hex, state_hash};
use crate::core::learners::{Learner, LearnerSpec, Name, Parameter, Tally};
use crate::core::ledger_state::LedgerState;
use crate::core::predictor::StateHash;

/// The greatest number of shifts in the best sequence of experts in hindsight.
const MAX_SHIFTS: usize = 5;

/// Replays streams. Writes the figures to `out` and malformed lines to `notes`.
///
/// # Errors
/// Returns a [`ReplayError`], whose exit code is the program's.
pub fn run(
    args: &ReplayArgs,
    context: &mut ReplayContext<'_>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Summary, ReplayError> {
    let started = Instant::now();
    if args.streams.is_empty() && args.resume.is_none() {
        return Err(ReplayError::Usage("nothing to read: name a STREAM".to_owned()));
    }
    args.check_outputs()?;
    let learner = args.learner()?;
    let sampling = args.labels()?;
    let mut loader = new_loader(args, context, &learner)?;
    let counts = read_streams(args, context, &learner, &mut loader, notes)?;
    if args.embed {
        embed::read(&mut loader, context)?;
    }
    if let Some(path) = &args.write {
        savepoint::write_records(path, &loader)?;
    }
    let (folds, policies, decided) = match &sampling {
        None => {
            let folds = loader.finish()?;
            let figures = folds.iter().map(|fold| (fold.settings().policy.clone(), figures(fold, &loader)));
            let figures = figures.collect();
            (folds, figures, None)
        }
        Some(sampling) => {
            let selected = selected::select(&mut loader, sampling)?;
            (selected.folds, selected.figures, Some(selected.decided))
        }
    };
    let mut summary = Summary {
        policies,
        learners: BTreeMap::new(),
        lines: counts.lines,
        malformed: counts.malformed,
        seconds: 0.0,
    };
    summary.seconds = started.elapsed().as_secs_f64();
    let unavailable = |error| ReplayError::Unavailable(format!("standard output: {error}"));
    for fold in &folds {
        let table = fold_table(fold, &learner, &loader, &mut summary)?;
        out.write_all(table.as_bytes()).map_err(unavailable)?;
    }
    print_counts(&summary, counts, out).map_err(unavailable)?;
    write_files(args, &loader, &folds, &summary)?;
    decisions::write(args, context, &loader, &folds, decided.as_deref(), notes)?;
    Ok(summary)
}

fn new_loader(
    args: &ReplayArgs,
    context: &ReplayContext<'_>,
    learner: &LearnerChoice,
) -> Result<Loader, ReplayError> {
    let mut loader = Loader::default();
    loader.costs = args.costs()?;
    loader.folds_last = args.labels.is_some();
    loader.seed = args.seed.as_ref().map(|seed| seed.as_bytes().to_vec());
    if let LearnerChoice::One(spec) = learner {
        loader.learner = Some(spec.clone());
    }
    let policies = context.policies.iter();
    loader.headers = policies.map(|policy| (policy.name.clone(), policy.clone().into())).collect();
    Ok(loader)
}

fn read_streams(
    args: &ReplayArgs,
    context: &mut ReplayContext<'_>,
    learner: &LearnerChoice,
    loader: &mut Loader,
    notes: &mut dyn Write,
) -> Result<LineCounts, ReplayError> {
    let mut reader = StreamReader::new(args, context.defaults.clone(), notes);
    if let Some(path) = &args.resume {
        reader.resume(path, loader, *learner == LearnerChoice::Headers)?;
    }
    let mut files = Vec::new();
    for stream in &args.streams {
        match stream.to_str().and_then(|name| name.strip_prefix("topic:")) {
            Some(topic) => reader.topic(topic, context, loader)?,
            None => files.push(stream.clone()),
        }
    }
    reader.files(&files, loader)?;
    let LineCounts { malformed, inserted, .. } = reader.counts;
    if malformed > 0 && inserted == 0 {
        let reason = format!(
            "nothing could be read: all {malformed} lines that are not empty are malformed, as listed above"
        );
        return Err(ReplayError::Data(reason));
    }
    Ok(reader.counts)
}

fn print_counts(summary: &Summary, counts: LineCounts, out: &mut dyn Write) -> std::io::Result<()> {
    let LineCounts { lines, malformed, left_out, .. } = counts;
    write!(out, "{lines} lines")?;
    if malformed > 0 {
        write!(out, ", {malformed} malformed")?;
    }
    if left_out > 0 {
        write!(out, ", {left_out} left out by label_fields.skip_if")?;
    }
    let rate = summary.rounds() as f64 / summary.seconds.max(1e-9);
    writeln!(out, " in {:.2} s ({rate:.0} rounds a second)", summary.seconds)
}

fn write_files(
    args: &ReplayArgs,
    loader: &Loader,
    folds: &[Fold],
    summary: &Summary,
) -> Result<(), ReplayError> {
    if let Some(path) = &args.json {
        savepoint::write_atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, &summary.json())?;
            file.write_all(b"\n")
        })?;
    }
    if let Some(path) = &args.trace {
        trace::write(path, &loader.ledger, folds)?;
    }
    if let Some(path) = &args.report {
        report::write(path, &title(args), &loader.ledger, folds)?;
    }
    if let Some(path) = &args.save {
        savepoint::write(path, loader, folds)?;
    }
    if let Some(path) = &args.predictor {
        write_predictors(path, loader, folds)?;
    }
    Ok(())
}

/// Writes the predictor of each policy that has rounds, one in a line. It reflects no offset of a ledger topic.
fn write_predictors(path: &Path, loader: &Loader, folds: &[Fold]) -> Result<(), ReplayError> {
    let published = folds.iter().filter_map(|fold| fold.published(&loader.ledger, -1));
    let lines: Result<Vec<Vec<u8>>, _> =
        published.map(|published| encode_published(&published, Encoding::Json)).collect();
    let lines = lines.map_err(|error| ReplayError::Internal(error.to_string()))?;
    savepoint::write_atomically(path, |file| {
        lines.iter().try_for_each(|line| file.write_all(line).and_then(|()| file.write_all(b"\n")))
    })
}

/// Returns the names of the streams, shortened.
fn title(args: &ReplayArgs) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let names: Vec<String> = args.streams.iter().chain(&args.resume).map(name).collect();
    match names.as_slice() {
        [first, _, .., last] => format!("{first} to {last}"),
        few => few.join(" and "),
    }
}

fn figures(fold: &Fold, loader: &Loader) -> Figures {
    let played = fold.learner().zip(fold.tally());
    let hash = hex(&fold.state_hash(&loader.ledger));
    let mut figures = Figures::new(&fold.settings().learner, fold.experts(), loader.costs, played, hash);
    figures.annotators = annotators(fold, &loader.ledger);
    figures.capped = capped(fold, &loader.ledger);
    figures
}

/// The number of rounds of which all labels are above the cap of their annotators.
fn capped(fold: &Fold, ledger: &LedgerState) -> u64 {
    let settings = fold.settings();
    let policy = ledger.find(&settings.policy).filter(|_| settings.mapping.caps());
    let Some(rounds) = policy.and_then(|policy| ledger.rounds(policy)) else { return 0 };
    let mut targets = fold.targets(ledger);
    fold.rows().map(|row| u64::from(targets.next(rounds, row).is_none())).sum()
}

/// Returns the agreement of the annotators of a policy, if any label names one.
pub(super) fn annotators(fold: &Fold, ledger: &LedgerState) -> BTreeMap<String, AnnotatorFigures> {
    if let Some(rounds) = ledger.find(&fold.settings().policy).and_then(|policy| ledger.rounds(policy))
        && rounds.names_annotators()
    {
        let found = rounds.reliability(&fold.settings().mapping, ledger.edits());
        return found.iter().map(|(name, found)| (name.clone(), found.into())).collect();
    }
    BTreeMap::new()
}

/// Folds lines held in memory, in any order, and returns the hash of each policy's state.
///
/// # Errors
/// Returns [`ReplayError::Data`] at the first malformed line.
pub fn fold_lines<'a>(
    lines: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, StateHash>, ReplayError> {
    let mut loader = Loader::default();
    let mut parser = Parser::default();
    let mut batch = Batch::default();
    for (number, line) in (1..).zip(lines) {
        batch.clear(0);
        parser.parse(number, line, &mut batch);
        loader.add_panels(&batch);
        for (_, item) in &batch.items {
            loader.insert(item, &batch).map_err(|refused| match refused {
                Refused::Run(error) => error,
                Refused::Line(reason) => ReplayError::Data(format!("line {number}: {reason}")),
            })?;
        }
    }
    let folds = loader.finish()?;
    Ok(folds.iter().map(|fold| (fold.settings().policy.clone(), fold.state_hash(&loader.ledger))).collect())
}

/// Returns the table of a fold. If all learners are compared, adds their figures to the summary.
fn fold_table(
    fold: &Fold,
    learner: &LearnerChoice,
    loader: &Loader,
    summary: &mut Summary,
) -> Result<String, ReplayError> {
    let policy = &fold.settings().policy;
    let shown = (summary.policies.len() > 1).then_some(policy.as_str());
    if *learner != LearnerChoice::All {
        return Ok(table::one(shown, &summary.policies[policy]));
    }
    let mut shifts = Shifts::new(fold.experts().len(), MAX_SHIFTS);
    let learners = Name::ALL.map(|name| play(name, fold, loader, &mut shifts));
    let learners: Vec<Figures> = learners.into_iter().collect::<Result<_, _>>()?;
    let table = table::all(shown, &learners, &shifts.fewest());
    summary.learners.insert(policy.clone(), learners);
    Ok(table)
}

/// Lets one learner play the rounds of a fold. If it is majority, the rounds are also added to `shifts`, so that they are
/// added once per comparison.
fn play(name: Name, fold: &Fold, loader: &Loader, shifts: &mut Shifts) -> Result<Figures, ReplayError> {
    let mut spec = LearnerSpec::new(name);
    if name.takes().contains(&Parameter::Seed) {
        spec.seed.clone_from(&loader.seed);
    }
    let mut tally: Option<Tally> = None;
    let learner = fold.walk(&loader.ledger, &spec, &mut |round, learner: &dyn Learner| {
        let votes = round.input.votes;
        let tally = tally.get_or_insert_with(|| Tally::new(votes.len(), learner.loss_kind(), loader.costs));
        tally.add(votes, round.weights, round.p, round.target);
        if name == Name::Majority {
            shifts.add(votes, round.target);
        }
    });
    let learner = learner.map_err(|error| ReplayError::Data(error.to_string()))?;
    let mut state = Vec::new();
    if let Some(learner) = &learner {
        learner.save(&mut state);
    }
    let hashed =
        HashedState { learner: &spec.canonical(), state: &state, ..fold.hashed_state(&loader.ledger) };
    let played = learner.as_deref().zip(tally.as_ref());
    Ok(Figures::new(&spec, fold.experts(), loader.costs, played, hex(&state_hash(&hashed))))
}
