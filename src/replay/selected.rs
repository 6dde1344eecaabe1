//! `--labels`: a replay that hides the labels for which a sampling would not have asked.
//!
//! Events are decided in the order of their rounds. For each one the learner's p is computed from the labels that had come
//! by then, the draws and the margin say if a label is asked for, and its labels come at their own times. The ledger
//! that results has no hidden label, and its fold is the learner's state. Mistakes are counted on all rounds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use super::ReplayError;
use super::decisions::DecidedRound;
use super::figures::{Figures, SelectionFigures};
use super::load::Loader;
use super::run::annotators;
use super::sampling::{Asked, LabelSampling};
use crate::core::draw::Draws;
use crate::core::event::Millis;
use crate::core::fold::{Fold, FoldError, Settings};
use crate::core::hash::hex;
use crate::core::label::{Mapping, Source};
use crate::core::learners::tally::Costs;
use crate::core::learners::{LearnerSpec, Name, Tally};
use crate::core::ledger::{LabelRecord, Record};
use crate::core::ledger_state::{Change, LedgerState, Row};

/// The threshold of p without costs.
const EVEN: f64 = 0.5;

/// The outcome of hiding labels.
pub(super) struct Selected {
    /// The folds of the rest, in the order of the policies' names.
    pub(super) folds: Vec<Fold>,
    /// The figures by policy.
    pub(super) figures: BTreeMap<String, Figures>,
    /// The rounds of each fold as they were decided.
    pub(super) decided: Vec<Vec<DecidedRound>>,
}

/// Hides labels, folds the rest, and replaces the ledger of the loader by the one without the hidden labels.
///
/// # Errors
/// Returns an error if a learner refuses the experts or its settings.
pub(super) fn select(loader: &mut Loader, sampling: &LabelSampling) -> Result<Selected, ReplayError> {
    let names: BTreeMap<String, usize> = loader
        .ledger
        .policies()
        .iter()
        .enumerate()
        .map(|(number, rounds)| (rounds.policy().to_owned(), number))
        .collect();
    let mut shown = without_labels(&loader.ledger)?;
    let mut selected = Selected { folds: Vec::new(), figures: BTreeMap::new(), decided: Vec::new() };
    for (name, number) in names {
        let settings = loader.fold_settings(&name)?;
        let seed = settings.learner.seed.clone().or_else(|| loader.seed.clone()).unwrap_or_default();
        let mut all = Fold::new(Settings {
            learner: LearnerSpec::new(Name::Majority),
            tally: false,
            // Mistakes are counted against all labels.
            mapping: Mapping { max_annotator_share: 1.0, ..settings.mapping.clone() },
            ..settings.clone()
        });
        all.mark_all_changed(&loader.ledger);
        all.reorder(&loader.ledger).map_err(refused)?;
        let selection = Selection {
            ledger: &loader.ledger,
            policy: number,
            late: loader.timed == Some(true),
            sampling,
            draws: Draws::new(&seed, &name),
            threshold: loader.costs.map_or(EVEN, Costs::threshold),
        };
        let (fold, counts, decided) = selection.play(&all, settings, &mut shown)?;
        let found = all_rounds(&loader.ledger, &all, &shown, &fold, (counts, loader.costs))?;
        selected.figures.insert(name, found);
        selected.folds.push(fold);
        selected.decided.push(decided);
    }
    loader.ledger = shown;
    Ok(selected)
}

fn refused(error: FoldError) -> ReplayError {
    ReplayError::Data(error.to_string())
}

/// Returns a ledger with the edits and votes of another, and with the same row for each round, but without labels.
fn without_labels(ledger: &LedgerState) -> Result<LedgerState, ReplayError> {
    let full = |error: crate::core::ledger_state::LedgerError| ReplayError::Internal(error.to_string());
    let mut shown = LedgerState::new();
    for (number, rounds) in ledger.policies().iter().enumerate() {
        shown.policy(rounds.policy());
        for row in rounds.rows() {
            shown.intern(number, rounds.tenant(row), rounds.event(row)).map_err(full)?;
        }
    }
    let kept = ledger.records().filter(|record| !matches!(record, Record::Label(_)));
    for record in kept {
        shown.apply(&record, &mut Vec::new()).map_err(full)?;
    }
    Ok(shown)
}

/// The labels that are still to come, the first to come on top.
type Due = BinaryHeap<Reverse<(Millis, usize)>>;

/// The selection of the labels of one policy.
struct Selection<'a> {
    /// The ledger with all labels.
    ledger: &'a LedgerState,
    /// The policy's number.
    policy: usize,
    /// `true` if rounds have times, so that labels can be late.
    late: bool,
    sampling: &'a LabelSampling,
    draws: Draws,
    threshold: f64,
}

impl Selection<'_> {
    /// Plays the rounds that count, in the order of `all`. Adds the labels that are not hidden to `shown`.
    fn play(
        &self,
        all: &Fold,
        settings: Settings,
        shown: &mut LedgerState,
    ) -> Result<(Fold, SelectionFigures, Vec<DecidedRound>), ReplayError> {
        let rounds = self.ledger.rounds(self.policy).expect("the policy is the ledger's");
        let mut fold = Fold::new(Settings { tally: false, ..settings });
        let mut counts = SelectionFigures::default();
        let (mut due, mut waiting) = (Due::new(), Vec::new());
        let mut changes = Vec::new();
        let (mut played, mut decided) = (HashSet::new(), Vec::new());
        let mut targets = all.targets(self.ledger);
        for row in all.rows() {
            let now = rounds.round_time(row);
            while let Some(Reverse((time, at))) = due.peek().copied()
                && time <= now
            {
                due.pop();
                add(shown, &waiting[at], &mut changes)?;
            }
            follow(&mut fold, &mut changes);
            fold.catch_up(shown).map_err(refused)?;
            let p = fold.predict(shown, row).map_err(refused)?;
            let distance = p.map(|p| (p - self.threshold).abs());
            let asked = self.sampling.draw(&self.draws, rounds.tenant(row), rounds.event(row), distance);
            counts.audit += u64::from(asked.audit);
            counts.random += u64::from(asked.random);
            counts.margin += u64::from(asked.margin);
            if let Some(target) = targets.next(rounds, row) {
                // Without a p the event is reviewed, which is right if it is unsafe.
                counts.mistakes_when_decided += u64::from(p.is_none_or(|p| p >= EVEN) != (target >= EVEN));
            }
            played.insert(row);
            decided.push(DecidedRound { row, p, asked });
            for record in self.labels(row, asked) {
                if self.late && record.received > now {
                    due.push(Reverse((record.received, waiting.len())));
                    waiting.push(record);
                } else {
                    add(shown, &record, &mut changes)?;
                }
            }
        }
        // Sorted by the reversed key, the last to come is the first.
        for Reverse((_, at)) in due.into_sorted_vec().into_iter().rev() {
            add(shown, &waiting[at], &mut changes)?;
        }
        // Labels of rounds that do not count teach nothing, and stay.
        for row in rounds.rows().filter(|row| !played.contains(row)) {
            rounds.labels(row).iter().try_for_each(|record| add(shown, record, &mut changes))?;
        }
        follow(&mut fold, &mut changes);
        fold.catch_up(shown).map_err(refused)?;
        Ok((fold, counts, decided))
    }

    /// Returns the labels of a round that are not hidden. The sampling asks for reviews: labels of other sources come in
    /// any case.
    fn labels(&self, row: Row, asked: Asked) -> Vec<LabelRecord> {
        let rounds = self.ledger.rounds(self.policy).expect("the policy is the ledger's");
        let mut labels = rounds.labels(row);
        labels.retain(|record| asked.any() || record.label.source != Source::Review);
        for record in labels.iter_mut().filter(|record| record.label.source == Source::Review) {
            // The stream may be a sample itself.
            let before = record.label.inclusion_probability.unwrap_or(1.0);
            record.label.inclusion_probability = Some(before * asked.inclusion);
        }
        labels
    }
}

fn add(shown: &mut LedgerState, record: &LabelRecord, changes: &mut Vec<Change>) -> Result<(), ReplayError> {
    let applied = shown.apply(&Record::Label(record.clone()), changes);
    applied.map(|_| ()).map_err(|error| ReplayError::Internal(error.to_string()))
}

fn follow(fold: &mut Fold, changes: &mut Vec<Change>) {
    changes.drain(..).for_each(|change| fold.mark_changed(&change));
}

/// Returns the figures of the rounds of `all`, of which the learner learned those with a live label in `shown`.
fn all_rounds(
    ledger: &LedgerState,
    all: &Fold,
    shown: &LedgerState,
    fold: &Fold,
    (mut counts, costs): (SelectionFigures, Option<Costs>),
) -> Result<Figures, ReplayError> {
    let spec = &fold.settings().learner;
    let mut tally: Option<Tally> = None;
    let mut learned = HashMap::new();
    if let Some(rounds) = shown.find(&fold.settings().policy).and_then(|policy| shown.rounds(policy)) {
        let mut targets = fold.targets(shown);
        learned.extend(fold.rows().filter_map(|row| Some((row, targets.next(rounds, row)?))));
    }
    let mut learns = |row, _| {
        let target = learned.get(&row).copied();
        counts.used += u64::from(target.is_some());
        target
    };
    let learner = all.walk_selected(ledger, spec, &mut learns, &mut |round, learner| {
        let votes = round.input.votes;
        let tally = tally.get_or_insert_with(|| Tally::new(votes.len(), learner.loss_kind(), costs));
        tally.add(votes, round.weights, round.p, round.target);
    });
    let learner = learner.map_err(refused)?;
    let played = learner.as_deref().zip(tally.as_ref());
    let hash = hex(&fold.state_hash(shown));
    let mut figures = Figures::new(spec, all.experts(), costs, played, hash);
    if counts.used < figures.rounds {
        // The bound is on the rounds that were learned, and the regret here is on all.
        figures.regret_bound = None;
    }
    counts.share = share(counts.used, figures.rounds);
    figures.annotators = annotators(fold, shown);
    figures.labels = Some(counts);
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "counts of rounds")]
fn share(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}
