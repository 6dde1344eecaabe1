//! The evaluation of labelled files.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::args::{EvaluateArgs, Output};
use super::ask::{Answers, Votes, ask};
use super::attacks::Attack;
use super::figures::{AttackFigures, Figures, Judge, groups};
use super::judge::{Round, attacked_scores, scores, votes_and_majority};
use super::layout::{Dimension, Sample};
use super::report::Report;
use super::samples::{Files, Samples};
use super::{EvaluateError, streams, unavailable, write};
use crate::core::event::Conversation;
use crate::core::learners::{Learner, LearnerSpec, SpecError};
use crate::experts::Panel;
use crate::ops::stdout::{self, errln, outln};

/// The policy under whose name keyed draws of the learner are made.
const POLICY: &str = "evaluate";

/// The panel's experts.
struct Experts<'a> {
    /// All ids.
    all: Vec<&'a str>,
    /// Those that are not in shadow mode, by their index.
    awake: Vec<usize>,
}

impl<'a> Experts<'a> {
    fn new(panel: &'a Panel, shadow: &[String]) -> Self {
        let all: Vec<&str> = panel.experts().iter().map(|expert| expert.id.as_str()).collect();
        let awake =
            (0..all.len()).filter(|at| all.get(*at).is_some_and(|id| !shadow.iter().any(|one| one == id)));
        Self { awake: awake.collect(), all }
    }

    /// Returns the ids of the experts that majority and the learner use.
    fn awake(&self) -> Vec<&'a str> {
        self.awake.iter().filter_map(|at| self.all.get(*at)).copied().collect()
    }

    /// Returns the votes that majority and the learner use.
    fn votes(&self, votes: &Votes) -> Votes {
        let cast = self.awake.iter().map(|at| votes.votes.get(*at).copied().unwrap_or(f64::NAN));
        Votes { votes: cast.collect(), features: votes.features.clone() }
    }
}

/// Reads the files, asks the panel, prints the figures, and writes the files that the flags name.
///
/// # Errors
/// Returns an error as [`run`](super::run) does.
pub(super) fn run(
    args: &EvaluateArgs,
    limit: Option<usize>,
    open: &dyn Fn() -> Result<Panel, EvaluateError>,
    shadow: &[String],
) -> Result<(), EvaluateError> {
    let learner = args.learner()?;
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
    let panel = open()?;
    let experts = Experts::new(&panel, shadow);
    let mut attacks = args.attack.clone();
    attacks.sort_unstable();
    attacks.dedup();
    let attacked: Vec<Vec<Option<Conversation>>> =
        attacks.iter().map(|attack| attacked(*attack, args.attack_seed, &read.samples)).collect();
    let texts = read.samples.iter().map(|sample| &sample.conversation);
    let all = texts.chain(attacked.iter().flatten().flatten());
    let answers = ask(&panel, all.map(Into::into), &args.cache)?;
    let asked = asked(&experts, &read.samples, &answers)?;
    if let Some(folder) = &args.streams {
        write_stream(folder, &args.files, &panel, &read.samples, &asked)?;
    }
    let mut figures = judged(&learner, &experts, &read.samples, &asked)?;
    let mut votes_on = Vec::new();
    for conversations in &attacked {
        let votes =
            |one: &Option<Conversation>| one.as_ref().map(|one| votes(&experts, &answers, one)).transpose();
        votes_on.push(conversations.iter().map(votes).collect::<Result<Vec<_>, _>>()?);
    }
    figures.attacks = under_attack(
        &learner,
        &experts,
        &read.samples,
        &asked,
        &attacks,
        &votes_on,
        args.attack_fpr,
        &figures.judges,
    )?;
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

/// Returns the attacked conversations; `None` for a safe text.
fn attacked(attack: Attack, seed: u64, samples: &[Sample]) -> Vec<Option<Conversation>> {
    samples.iter().map(|one| one.is_unsafe().then(|| attack.apply(&one.conversation, seed))).collect()
}

/// The votes on a conversation: of all experts, and of those that majority and the learner use.
struct Asked<'a> {
    all: &'a Votes,
    awake: Votes,
}

fn votes<'a>(
    experts: &Experts<'_>,
    answers: &'a Answers,
    conversation: &Conversation,
) -> Result<Asked<'a>, EvaluateError> {
    let missing = || EvaluateError::Data("the panel did not answer about a text".to_owned());
    let all = answers.get(conversation).ok_or_else(missing)?;
    Ok(Asked { all, awake: experts.votes(all) })
}

fn asked<'a>(
    experts: &Experts<'_>,
    samples: &[Sample],
    answers: &'a Answers,
) -> Result<Vec<Asked<'a>>, EvaluateError> {
    samples.iter().map(|sample| votes(experts, answers, &sample.conversation)).collect()
}

fn as_rounds<'a>(samples: &'a [Sample], asked: &'a [Asked<'_>]) -> Vec<Round<'a>> {
    let round = |(sample, asked): (&'a Sample, &'a Asked<'_>)| Round {
        votes: &asked.awake,
        event: &sample.id,
        target: sample.target,
    };
    samples.iter().zip(asked).map(round).collect()
}

fn build(learner: &LearnerSpec, experts: &Experts<'_>) -> Result<Box<dyn Learner>, EvaluateError> {
    let failed = |error: SpecError| EvaluateError::Usage(format!("--learner: {error}"));
    learner.build(&experts.awake(), POLICY).map_err(failed)
}

/// Returns the figures without attacks.
fn judged(
    learner: &LearnerSpec,
    experts: &Experts<'_>,
    samples: &[Sample],
    asked: &[Asked<'_>],
) -> Result<Figures, EvaluateError> {
    let mut own = build(learner, experts)?;
    let mut all = votes_and_majority(experts.all.len(), asked.iter().map(|asked| asked.all));
    // Majority is that of the experts that are not in shadow mode.
    all.truncate(experts.all.len());
    let rounds = as_rounds(samples, asked);
    all.extend(scores(own.as_mut(), experts.awake.len(), &rounds).into_iter().skip(experts.awake.len()));
    let name = learner.name.as_str();
    let combined = ["majority".to_owned(), format!("{name}, before"), format!("{name}, online")];
    let names = experts.all.iter().map(|id| (*id).to_owned()).chain(combined);
    let judges: Vec<Judge> = names.zip(all).map(|(name, scores)| Judge::new(name, scores, samples)).collect();
    let groups = Dimension::ALL.into_iter().flat_map(|dimension| groups(samples, &judges, dimension));
    let groups = groups.collect();
    let harmful = samples.iter().filter(|sample| sample.is_unsafe()).count();
    let safe = samples.len() - harmful;
    Ok(Figures { experts: experts.all.len(), judges, harmful, safe, groups, attacks: Vec::new() })
}

/// Returns the recall of all judges under each attack. `votes` has the votes on attacked texts by attack and sample; `None`
/// for a sample that is not attacked.
fn under_attack(
    learner: &LearnerSpec,
    experts: &Experts<'_>,
    samples: &[Sample],
    asked: &[Asked<'_>],
    attacks: &[Attack],
    votes: &[Vec<Option<Asked<'_>>>],
    alarms: f64,
    judges: &[Judge],
) -> Result<Vec<AttackFigures>, EvaluateError> {
    let all = experts.all.len();
    let mut own = build(learner, experts)?;
    let awake: Vec<Vec<Option<&Votes>>> = votes
        .iter()
        .map(|votes| votes.iter().map(|one| one.as_ref().map(|one| &one.awake)).collect())
        .collect();
    let combined = attacked_scores(own.as_mut(), &as_rounds(samples, asked), &awake);
    let of =
        |((attack, votes), (before, online)): ((&Attack, &Vec<Option<Asked<'_>>>), (Vec<f64>, Vec<f64>))| {
            let here = || votes.iter().flatten();
            let mut scores = votes_and_majority(all, here().map(|one| one.all));
            scores.truncate(all);
            scores.extend(votes_and_majority(0, here().map(|one| &one.awake)));
            scores.extend([before, online]);
            let recall =
                judges.iter().zip(&scores).map(|(judge, scores)| judge.recall(samples, scores, alarms));
            AttackFigures { attack: *attack, recall: recall.collect() }
        };
    let learned = combined.before.into_iter().zip(combined.online);
    Ok(attacks.iter().zip(votes).zip(learned).map(of).collect())
}

/// Writes the samples as a label stream, in the order in which the learner learns.
fn write_stream(
    folder: &Path,
    files: &[PathBuf],
    panel: &Panel,
    samples: &[Sample],
    asked: &[Asked<'_>],
) -> Result<(), EvaluateError> {
    std::fs::create_dir_all(folder).map_err(|error| unavailable(folder, &error))?;
    let name = match files {
        [only] => only.file_name().and_then(|name| name.to_str()?.split('.').next()).unwrap_or("file"),
        _ => "files",
    };
    let path = folder.join(name).with_extension("jsonl");
    let experts: Vec<&str> = panel.experts().iter().map(|expert| expert.id.as_str()).collect();
    let encoder = panel.encoder();
    let (mut out, mut seen) = (Vec::new(), HashMap::<&str, usize>::new());
    for (sample, asked) in samples.iter().zip(asked) {
        let count = seen.entry(&sample.id).or_default();
        *count += 1;
        let id = if *count == 1 { sample.id.clone() } else { format!("{}#{count}", sample.id) };
        let line = streams::line(&experts, encoder.as_ref(), &id, &sample.target.into(), asked.all);
        writeln!(out, "{line}").expect("writing to memory cannot fail");
    }
    std::fs::write(&path, out).map_err(|error| unavailable(&path, &error))
}
