//! A replay from its flags to its figures.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crossbeam_channel::bounded;

use super::args::{Around, Asked};
use super::batch::{Batch, Item};
use super::figures::{Figures, Summary};
use super::line::Parser;
use super::load::{Loader, Refused};
use super::read::{self, Broken};
use super::shifts::Shifts;
use super::{ReplayArgs, ReplayError, embed, report, savepoint, table, trace};
use crate::codec::Defaults;
use crate::core::fold::Fold;
use crate::core::hash::{Stated, hex, state_hash};
use crate::core::learners::{Learner, LearnerSpec, Name, Tally};
use crate::core::predictor::StateHash;

/// So many malformed lines are reported; further ones are only counted.
const REPORTED: u64 = 1_000;
/// Most shifts of the best sequence of experts in hindsight.
const SHIFTS: usize = 5;

/// Replays streams: figures go to `out`, malformed lines to `notes`.
///
/// # Errors
/// See [`ReplayError`]; its exit codes are those of the program.
pub fn run(
    args: &ReplayArgs,
    around: &mut Around<'_>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Summary, ReplayError> {
    let begun = Instant::now();
    if args.streams.is_empty() && args.resume.is_none() {
        return Err(ReplayError::Usage("nothing to read: name a STREAM".to_owned()));
    }
    let asked = args.learner()?;
    let mut loader = Loader::default();
    loader.costs = args.costs()?;
    loader.seed = args.seed.as_ref().map(|seed| seed.as_bytes().to_vec());
    if let Asked::One(spec) = &asked {
        loader.learner = Some(spec.clone());
    }
    for policy in &around.policies {
        loader.headers.insert(policy.name.clone(), policy.clone().into());
    }
    let mut reading = Reading {
        args,
        defaults: around.defaults.clone(),
        notes,
        lines: 0,
        malformed: 0,
        taken: 0,
        left_out: 0,
    };
    if let Some(path) = &args.resume {
        reading.resume(path, &mut loader, asked == Asked::Headers)?;
    }
    let (topics, files): (Vec<_>, Vec<_>) = args
        .streams
        .iter()
        .cloned()
        .partition(|stream| stream.to_str().is_some_and(|name| name.starts_with("topic:")));
    for topic in topics {
        reading.topic(&topic, around, &mut loader)?;
    }
    reading.files(&files, &mut loader)?;
    let (lines, malformed, left_out) = (reading.lines, reading.malformed, reading.left_out);
    if malformed > 0 && reading.taken == 0 {
        let reason =
            format!("nothing could be read: all {malformed} lines with anything in them are malformed");
        return Err(ReplayError::Data(reason));
    }
    if args.embed {
        embed::read(&mut loader, around)?;
    }
    if let Some(path) = &args.write {
        savepoint::records(path, &loader)?;
    }
    let folds = loader.finish()?;
    let mut summary = Summary {
        policies: folds.iter().map(|fold| (fold.settings().policy.clone(), figures(fold, &loader))).collect(),
        learners: BTreeMap::new(),
        lines,
        malformed,
        seconds: begun.elapsed().as_secs_f64(),
    };
    let several = folds.len() > 1;
    for fold in &folds {
        let policy = &fold.settings().policy;
        let shown = several.then_some(policy.as_str());
        let text = if asked == Asked::All {
            let (learners, shifts) = every(fold, &loader)?;
            let text = table::all(shown, &learners, &shifts);
            summary.learners.insert(policy.clone(), learners);
            text
        } else {
            summary.policies.get(policy).map(|figures| table::one(shown, figures)).unwrap_or_default()
        };
        out.write_all(text.as_bytes()).map_err(printing)?;
    }
    let rate = summary.rounds() as f64 / summary.seconds.max(1e-9);
    let malformed = if malformed > 0 { format!(", {malformed} malformed") } else { String::new() };
    let left_out =
        if left_out > 0 { format!(", {left_out} left out by label_fields.skip_if") } else { String::new() };
    writeln!(
        out,
        "{lines} lines{malformed}{left_out} in {:.2} s ({rate:.0} rounds a second)",
        summary.seconds
    )
    .map_err(printing)?;
    if let Some(path) = &args.json {
        savepoint::write_atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, &summary.json())?;
            file.write_all(b"\n")
        })?;
    }
    if let Some(path) = &args.trace {
        trace::write(path, &loader.book, &folds)?;
    }
    if let Some(path) = &args.report {
        report::write(path, &title(args), &loader.book, &folds)?;
    }
    if let Some(path) = &args.save {
        savepoint::write(path, &loader, &folds)?;
    }
    Ok(summary)
}

/// What was replayed, in a few words.
fn title(args: &ReplayArgs) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let names: Vec<String> = args.streams.iter().chain(&args.resume).map(name).collect();
    match names.as_slice() {
        [first, _, .., last] => format!("{first} to {last}"),
        few => few.join(" and "),
    }
}

fn printing(error: std::io::Error) -> ReplayError {
    ReplayError::Unavailable(format!("standard output: {error}"))
}

fn figures(fold: &Fold, loader: &Loader) -> Figures {
    let played = fold.learner().zip(fold.tally());
    let hash = hex(&fold.state_hash(&loader.book));
    let mut figures = Figures::new(&fold.settings().learner, fold.experts(), loader.costs, played, hash);
    let book = &loader.book;
    if let Some(rounds) = book.find(&fold.settings().policy).and_then(|policy| book.rounds(policy))
        && rounds.names_annotators()
    {
        let found = rounds.reliability(&fold.settings().mapping, book.edits());
        figures.annotators = found.iter().map(|(name, found)| (name.clone(), found.into())).collect();
    }
    figures
}

/// Folds lines held in memory, in any order: the hash of each policy's state.
///
/// # Errors
/// [`ReplayError::Data`] at the first malformed line.
pub fn fold_lines<'a>(
    lines: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, StateHash>, ReplayError> {
    let mut loader = Loader::default();
    let mut parser = Parser::default();
    let mut batch = Batch::default();
    for (number, line) in (1..).zip(lines) {
        batch.clear(0);
        parser.read(number, line, &mut batch);
        loader.panels(&batch);
        for (_, item) in &batch.items {
            loader.take(item, &batch).map_err(|refused| match refused {
                Refused::Run(error) => error,
                Refused::Line(reason) => ReplayError::Data(format!("line {number}: {reason}")),
            })?;
        }
    }
    let folds = loader.finish()?;
    Ok(folds.iter().map(|fold| (fold.settings().policy.clone(), fold.state_hash(&loader.book))).collect())
}

/// All learners on the rounds of one fold, and the best sequences of experts.
fn every(fold: &Fold, loader: &Loader) -> Result<(Vec<Figures>, Vec<u64>), ReplayError> {
    let mut all = Vec::new();
    let mut shifts = Shifts::new(fold.experts().len(), SHIFTS);
    for name in Name::ALL {
        let mut spec = LearnerSpec::new(name);
        if name.takes().contains(&crate::core::learners::Parameter::Seed) {
            spec.seed.clone_from(&loader.seed);
        }
        let mut tally: Option<Tally> = None;
        let walked = fold.walk(&loader.book, &spec, &mut |round, learner: &dyn Learner| {
            let experts = round.sight.votes.len();
            tally.get_or_insert_with(|| Tally::new(experts, learner.loss_kind(), loader.costs)).add(
                round.sight.votes,
                round.weights,
                round.p,
                round.target,
            );
            if name == Name::Majority {
                shifts.add(round.sight.votes, round.target);
            }
        });
        let learner = walked.map_err(|error| ReplayError::Data(error.to_string()))?;
        let mut state = Vec::new();
        if let Some(learner) = &learner {
            learner.save(&mut state);
        }
        let hash =
            state_hash(&Stated { learner: &spec.canonical(), state: &state, ..fold.stated(&loader.book) });
        let played = learner.as_deref().zip(tally.as_ref());
        all.push(Figures::new(&spec, fold.experts(), loader.costs, played, hex(&hash)));
    }
    Ok((all, shifts.fewest()))
}

/// Reads into a loader, reporting what is malformed.
struct Reading<'a> {
    args: &'a ReplayArgs,
    defaults: Option<Defaults>,
    notes: &'a mut dyn Write,
    lines: u64,
    malformed: u64,
    /// Rounds, labels and edits that were taken.
    taken: u64,
    /// Records of other shapes that hold no label by `label_fields.skip_if`.
    left_out: u64,
}

impl Reading<'_> {
    fn files(&mut self, paths: &[PathBuf], loader: &mut Loader) -> Result<(), ReplayError> {
        let (full_in, full_out) = bounded::<Batch>(4);
        let (empty_in, empty_out) = bounded::<Batch>(8);
        let mut parser = Parser::default();
        parser.texts = self.args.embed;
        if let Some(defaults) = &self.defaults {
            parser.defaults = defaults.clone();
        }
        loader.new_parser();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || read::read_all(paths, parser, &full_in, &empty_out));
            let mut taken = Ok(());
            for batch in &full_out {
                taken = self.take(&batch, paths, loader);
                // When the reader has ended nobody wants it back.
                let _ = empty_in.try_send(batch);
                if taken.is_err() {
                    break;
                }
                loader.follow();
            }
            drop(full_out);
            let read =
                reader.join().map_err(|_| ReplayError::Internal("the reading thread panicked".to_owned()))?;
            taken?;
            read.map_err(|Broken { path, reason }| ReplayError::reading(&path, &reason))
        })
    }

    fn take(&mut self, batch: &Batch, paths: &[PathBuf], loader: &mut Loader) -> Result<(), ReplayError> {
        self.lines += batch.lines;
        loader.panels(batch);
        for (number, item) in &batch.items {
            self.left_out += u64::from(matches!(item, Item::Labels(labels) if labels.is_empty()));
            match loader.take(item, batch) {
                Ok(()) => self.taken += u64::from(!matches!(item, Item::Header(_) | Item::Savepoint(_))),
                Err(Refused::Run(error)) => {
                    let path =
                        paths.get(batch.stream).map(|path| path.display().to_string()).unwrap_or_default();
                    return Err(match error {
                        ReplayError::Data(reason) => ReplayError::Data(format!("{path}:{number}: {reason}")),
                        other => other,
                    });
                }
                Err(Refused::Line(reason)) => {
                    let path = paths.get(batch.stream).map(PathBuf::as_path).unwrap_or(Path::new(""));
                    self.malformed(path, *number, &reason)?;
                }
            }
        }
        Ok(())
    }

    fn malformed(&mut self, path: &Path, line: u64, reason: &str) -> Result<(), ReplayError> {
        self.malformed += 1;
        let text = format!("{}:{line}: {reason}", path.display());
        if self.args.strict {
            return Err(ReplayError::Data(text));
        }
        if self.malformed <= REPORTED {
            // A closed standard error stops nothing.
            let _ = writeln!(self.notes, "{text}");
        }
        if self.malformed == REPORTED {
            let _ = writeln!(self.notes, "further malformed lines are only counted");
        }
        Ok(())
    }

    fn resume(&mut self, path: &Path, loader: &mut Loader, headers: bool) -> Result<(), ReplayError> {
        loader.resuming = true;
        let (lines, malformed) = (self.lines, self.malformed);
        self.files(&[path.to_owned()], loader)?;
        let broken = |what: &str| ReplayError::Data(format!("{}: {what}", path.display()));
        if self.malformed > malformed {
            return Err(broken("lines of the savepoint are malformed"));
        }
        self.lines = lines;
        self.taken = 0;
        let savepoint =
            loader.savepoint.take().ok_or_else(|| broken("no savepoint: write one with --save"))?;
        loader.resuming = false;
        if !headers {
            return Ok(());
        }
        if let Some(mut learner) = savepoint.learner {
            learner.key(loader.seed.as_deref()).map_err(ReplayError::Usage)?;
            loader.learner = Some(learner.settings.learner);
            loader.start_over();
        }
        loader.follow();
        loader.check(&savepoint.states).map_err(|policy| {
            broken(&format!(
                "the state of the policy {policy:?} is not the one that was saved: the file is damaged"
            ))
        })
    }

    fn topic(
        &mut self,
        stream: &Path,
        around: &mut Around<'_>,
        loader: &mut Loader,
    ) -> Result<(), ReplayError> {
        let name = stream.to_str().and_then(|name| name.strip_prefix("topic:")).unwrap_or("");
        let Some(topic) = around.topic.as_mut() else {
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
        self.lines += records;
        self.taken += records - u64::from(refused.is_some());
        loader.timed = Some(true);
        match refused {
            None => Ok(()),
            Some((_, Refused::Run(error))) => Err(error),
            Some((record, Refused::Line(reason))) => self.malformed(stream, record, &reason),
        }
    }
}
