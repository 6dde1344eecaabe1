//! `--decisions` and `--labels-out`: the rounds as decisions, and their labels, which `aegis report` reads.
//!
//! A decision has the p that the learner gave the round before it learned it, and the action that the policy takes on
//! that p. Without `--labels` every review of the stream counts as asked for; with it, those that the sampling asked for,
//! with their probabilities. Fields of a decision that no stream has are left at the defaults of the schema.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::load::Loader;
use super::sampling::Asked;
use super::savepoint::write_atomically;
use super::{ReplayArgs, ReplayContext, ReplayError};
use crate::charts::grouped;
use crate::codec::{Encoding, encode_decision, encode_label};
use crate::core::decision::{Decision, Origin, ReviewReason, Sampling, WeighedVote};
use crate::core::fold::Fold;
use crate::core::label::{Mapping, Source};
use crate::core::language::Language;
use crate::core::learners::tally::Costs;
use crate::core::ledger::{LabelRecord, RoundRecord, RoundVote};
use crate::core::ledger_state::{LedgerState, Rounds, Row};
use crate::core::policy::{Action, Policy};
use crate::core::predictor::PredictorRef;
use crate::core::preview;
use crate::core::vote::Vote;

/// The factor below which a stated probability is lower than that of the sampling, and not only rounded otherwise.
const ROUNDED: f64 = 1.0 - 1e-9;

/// A round as it was decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecidedRound {
    pub(super) row: Row,
    /// `None` if no expert with a weight was awake.
    pub(super) p: Option<f64>,
    pub(super) asked: Asked,
}

/// The numbers of what was written.
#[derive(Debug, Default)]
struct Written {
    decisions: u64,
    labels: u64,
    /// The rounds with votes that have no decision.
    left_out: u64,
    /// The rounds whose labels state a probability below that of the sampling.
    sampled_before: u64,
}

/// Writes the files of `--decisions` and `--labels-out`, and their numbers to `notes`. `decided` are the rounds of each
/// fold if `--labels` is given.
///
/// # Errors
/// Returns [`ReplayError::Unavailable`] if a file cannot be written.
pub(super) fn write(
    args: &ReplayArgs,
    context: &ReplayContext<'_>,
    loader: &Loader,
    folds: &[Fold],
    decided: Option<&[Vec<DecidedRound>]>,
    notes: &mut dyn Write,
) -> Result<(), ReplayError> {
    let Some(path) = &args.decisions else { return Ok(()) };
    let missing = || ReplayError::Internal("--decisions needs the policies that decide".to_owned());
    let rules = context.rules.ok_or_else(missing)?;
    let mut written = Written::default();
    write_atomically(path, |out| {
        for (number, fold) in folds.iter().enumerate() {
            let Some(rounds) = rounds_of(fold, &loader.ledger) else { continue };
            let policy = with_costs(rules(&fold.settings().policy), loader.costs);
            let before = written.decisions;
            let mut decisions = Decisions { out: &mut *out, fold, rounds, policy, written: &mut written };
            match decided {
                Some(decided) => decided[number].iter().try_for_each(|round| decisions.write(round))?,
                None => decisions.walk(&loader.ledger)?,
            }
            let judged = rounds.counts().judged;
            written.left_out += judged.saturating_sub(written.decisions - before);
        }
        Ok(())
    })?;
    if let Some(path) = &args.labels_out {
        write_atomically(path, |out| {
            folds.iter().try_for_each(|fold| write_labels(out, fold, &loader.ledger, &mut written))
        })?;
    }
    let untimed = loader.timed == Some(false);
    // A closed standard error does not stop the run.
    let _ = describe(path, args.labels_out.as_deref(), &written, untimed, notes);
    Ok(())
}

fn rounds_of<'a>(fold: &Fold, ledger: &'a LedgerState) -> Option<&'a Rounds> {
    ledger.find(&fold.settings().policy).and_then(|number| ledger.rounds(number))
}

/// The policy with the costs of `--costs`, which is then another version.
fn with_costs(policy: Policy, costs: Option<Costs>) -> Policy {
    let Some(Costs { miss, false_alarm }) = costs else { return policy };
    Policy {
        version: format!("{} with --costs {miss}:{false_alarm}", policy.version),
        cost_false_negative: miss,
        cost_false_positive: false_alarm,
        ..policy
    }
}

/// The decisions of one policy.
struct Decisions<'a> {
    out: &'a mut dyn Write,
    fold: &'a Fold,
    rounds: &'a Rounds,
    policy: Policy,
    written: &'a mut Written,
}

impl Decisions<'_> {
    /// Writes the decisions of all rounds that count. Each round with an answer of a reviewer counts as asked for.
    fn walk(&mut self, ledger: &LedgerState) -> io::Result<()> {
        let (fold, rounds) = (self.fold, self.rounds);
        let mapping = &fold.settings().mapping;
        let reviews = Mapping { teaches: BTreeSet::from([Source::Review]), ..mapping.clone() };
        let mut written = Ok(());
        let walked = fold.walk(ledger, &fold.settings().learner, &mut |step, _| {
            let is_reviewed = rounds.target(step.row, &reviews, ledger.edits()).is_some();
            let asked = if is_reviewed { Asked::ALWAYS } else { Asked::NEVER };
            if written.is_ok() {
                written = self.write(&DecidedRound { row: step.row, p: Some(step.p), asked });
            }
        });
        walked.map_err(io::Error::other)?;
        written
    }

    fn write(&mut self, round: &DecidedRound) -> io::Result<()> {
        let Some(record) = self.rounds.round_record(round.row) else { return Ok(()) };
        let stated = |record: &LabelRecord| {
            let is_review = record.status.counts() && record.label.source == Source::Review;
            let stated = record.label.inclusion_probability.filter(|_| is_review);
            stated.is_some_and(|stated| stated < round.asked.inclusion * ROUNDED)
        };
        self.written.sampled_before += u64::from(self.rounds.labels(round.row).iter().any(stated));
        self.written.decisions += 1;
        let learner = self.fold.settings().learner.name.as_str();
        let decision = decision(record, round, &self.policy, learner);
        write_line(self.out, encode_decision(&decision, Encoding::Json))
    }
}

fn write_line<E>(out: &mut dyn Write, line: Result<Vec<u8>, E>) -> io::Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut line = line.map_err(io::Error::other)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// The decision that the policy makes of a round.
fn decision(record: RoundRecord, round: &DecidedRound, policy: &Policy, learner: &str) -> Decision {
    let DecidedRound { p, asked, .. } = *round;
    let reasons =
        [(asked.margin, ReviewReason::NearThreshold), (asked.audit || asked.random, ReviewReason::Audit)];
    let decision = Decision {
        id: record.id,
        conversation: String::new(),
        subject: record.subject,
        origin: Origin {
            topic: String::new(),
            partition: record.decision.partition,
            offset: record.decision.offset,
        },
        round_time: record.round_time,
        policy_version: policy.version.clone(),
        action: Action::Review,
        probability: p,
        threshold: policy.threshold(),
        categories: Vec::new(),
        votes: record.votes.into_iter().filter_map(vote).collect(),
        features: None,
        predictor: PredictorRef::prior(learner),
        degraded: false,
        nothing_to_judge: false,
        hidden_text: Vec::new(),
        language: Language::Unknown,
        reasons: reasons.into_iter().filter(|(drawn, _)| *drawn).map(|(_, reason)| reason).collect(),
        review_probability: asked.inclusion,
        sampling: Sampling { audit: asked.flat, uncertainty: asked.uncertainty, thinned: false },
        latency_micros: 0,
        trace: None,
    };
    let action = preview::action(&decision, policy, p);
    Decision { action, ..decision }
}

/// The vote of an expert. The stream does not have the reason of an abstention, so that one is left out.
fn vote(vote: RoundVote) -> Option<WeighedVote> {
    let RoundVote { expert, score, shadow, decisive } = vote;
    let vote = Vote { model: None, shadow, decisive, ..Vote::scored(&expert, [0; 32], score?, Vec::new()) };
    Some(WeighedVote { vote, weight: 0.0, contribution: 0.0 })
}

/// Writes the labels of the rounds that count, without those of quarantined annotators.
fn write_labels(
    out: &mut dyn Write,
    fold: &Fold,
    ledger: &LedgerState,
    written: &mut Written,
) -> io::Result<()> {
    let Some(rounds) = rounds_of(fold, ledger) else { return Ok(()) };
    for row in fold.rows() {
        let tenant = rounds.tenant(row);
        let counts = |record: &LabelRecord| {
            let annotator = record.label.annotator.as_deref();
            record.status.counts() && !annotator.is_some_and(|name| ledger.edits().quarantines(tenant, name))
        };
        for LabelRecord { label, .. } in rounds.labels(row).into_iter().filter(counts) {
            written.labels += 1;
            write_line(out, encode_label(&label, Encoding::Json))?;
        }
    }
    Ok(())
}

/// Describes what was written, and what a report on it cannot be about.
fn describe(
    decisions: &Path,
    labels: Option<&Path>,
    written: &Written,
    untimed: bool,
    notes: &mut dyn Write,
) -> io::Result<()> {
    writeln!(notes, "{}: {} decisions", decisions.display(), grouped(written.decisions))?;
    if let Some(labels) = labels {
        writeln!(notes, "{}: {} labels", labels.display(), grouped(written.labels))?;
    }
    if written.left_out > 0 {
        writeln!(
            notes,
            "{} rounds have no decision, because no expert voted or no label of them teaches",
            grouped(written.left_out)
        )?;
    }
    if written.sampled_before > 0 {
        writeln!(
            notes,
            "{} rounds have labels with an inclusion probability below 1: the stream lacks the events that were not \
             selected, and a report is about its rounds only",
            grouped(written.sampled_before)
        )?;
    }
    if untimed {
        writeln!(
            notes,
            "the stream has no event_time: the times of the decisions are the numbers of their lines, and \
             `aegis report` cannot select a period of them"
        )?;
    }
    Ok(())
}
