//! Figures about annotators, computed from a ledger.
//!
//! An **answer** is the newest label of source `review` or `calibration` that an annotator gave about an event and did not
//! take back; that another person corrected it does not change what was answered. Two answers agree if both lie on one side
//! of 0.5, with the policy's value of *needs caution*. Answers are compared with those of other annotators about the same
//! event, and with its **gold** labels. Labels that are too late or expired, and labels of quarantined annotators as gold,
//! are not used.

mod answers;
mod figures;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::core::agreement::{Pairs, Panel};
use crate::core::event::Millis;
use crate::core::label::{Label, Mapping, Source, live};
use crate::core::ledger::LabelRecord;
use crate::core::ledger_state::{LedgerState, Rounds, Row};
use answers::Answers;
pub use figures::{Annotator, Gold, Interval, Pace, PairFigures};

/// The number of annotators of one event among whom pairs are compared. Further ones count for alpha and for gold.
const MAX_PAIRED: usize = 32;
/// The number of pairs of annotators of which a kappa is kept.
const MAX_PAIRS: usize = 100_000;

/// The choice of labels, and the settings of the figures.
pub struct Settings<'a> {
    /// Only this policy.
    pub policy: Option<&'a str>,
    /// Only this tenant.
    pub tenant: Option<&'a str>,
    /// An interval between two labels that is longer than this is a break, in milliseconds.
    pub longest_gap: Millis,
    /// The gold accuracy below which an annotator is proposed for quarantine.
    pub floor: f64,
    /// Returns the mapping of a policy.
    pub mapping: &'a dyn Fn(&str) -> Mapping,
}

/// Figures about the annotators of a ledger, or of one policy and tenant of it.
#[derive(Debug, Serialize)]
pub struct Group {
    /// The policy; `None` for all.
    pub policy: Option<String>,
    /// The tenant; `None` for all.
    pub tenant: Option<String>,
    /// The events with at least two answers.
    pub shared_events: u64,
    /// Krippendorff's alpha over these.
    pub alpha: Option<f64>,
    /// The annotators, by name. Labels without an annotator are those of one, whose name is null.
    pub annotators: Vec<Annotator>,
    /// The pairs of annotators who answered about the same events, those with the most events first.
    pub pairs: Vec<PairFigures>,
}

/// All figures.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The figures over everything that was chosen.
    pub all: Group,
    /// The figures of each policy and tenant.
    pub groups: Vec<Group>,
}

/// The figures of one annotator while they are counted.
#[derive(Default)]
struct Counted {
    sources: [u64; Source::ALL.len()],
    answers: u64,
    shared: u64,
    others: Pairs,
    gold: Gold,
    corrected: u64,
    changed: u64,
    times: Vec<Millis>,
}

/// The figures of a group while they are counted.
#[derive(Default)]
struct Counting {
    annotators: BTreeMap<Option<String>, Counted>,
    panel: Panel,
    pairs: BTreeMap<(String, String), Pairs>,
}

/// Computes the figures.
#[must_use]
pub fn measure(ledger: &LedgerState, settings: &Settings<'_>) -> Report {
    let mut all = Counting::default();
    let mut groups: BTreeMap<(String, String), Counting> = BTreeMap::new();
    for rounds in ledger.policies() {
        if settings.policy.is_some_and(|policy| policy != rounds.policy()) {
            continue;
        }
        let mapping = (settings.mapping)(rounds.policy());
        for row in rounds.rows() {
            let tenant = rounds.tenant(row);
            if settings.tenant.is_some_and(|chosen| chosen != tenant) {
                continue;
            }
            let Some(event) = LabelledEvent::of(ledger, rounds, row, &mapping) else { continue };
            all.add(&event);
            let key = (rounds.policy().to_owned(), tenant.to_owned());
            groups.entry(key).or_default().add(&event);
        }
    }
    let quarantined = |tenant: Option<&str>, name: &str| {
        let tenant = tenant.or(settings.tenant).unwrap_or_default();
        ledger.edits().quarantines(tenant, name)
    };
    let of = |counting: Counting, policy: Option<String>, tenant: Option<String>| {
        let is_quarantined = |name: &str| quarantined(tenant.as_deref(), name);
        counting.finish(settings, &is_quarantined).group(policy.clone(), tenant.clone())
    };
    let groups =
        groups.into_iter().map(|((policy, tenant), counting)| of(counting, Some(policy), Some(tenant)));
    let groups = groups.collect();
    Report { all: of(all, settings.policy.map(str::to_owned), settings.tenant.map(str::to_owned)), groups }
}

/// The labels of one event, as they are measured.
struct LabelledEvent {
    labels: Vec<LabelRecord>,
    answers: Answers,
    /// The gold labels that are live, by annotator.
    gold: Vec<(Option<String>, f64)>,
}

impl LabelledEvent {
    fn of(ledger: &LedgerState, rounds: &Rounds, row: Row, mapping: &Mapping) -> Option<Self> {
        let labels: Vec<_> = rounds.labels(row).into_iter().filter(|label| label.status.counts()).collect();
        if labels.is_empty() {
            return None;
        }
        let tenant = rounds.tenant(row);
        let answers = Answers::of(labels.iter().map(|record| &record.label), mapping);
        let of_gold = Mapping { teaches: BTreeSet::from([Source::Gold]), ..mapping.clone() };
        let all = labels.iter().map(|record| &record.label);
        let gold = live(all, &of_gold, |annotator| ledger.edits().quarantines(tenant, annotator));
        let gold = gold.into_iter().map(|(label, value)| (label.annotator.clone(), value)).collect();
        Some(Self { labels, answers, gold })
    }

    /// The known answer for an annotator: the side of the mean of the gold labels of others. `None` without one, or if
    /// they are divided.
    fn truth(&self, annotator: Option<&str>) -> Option<bool> {
        let others: Vec<f64> =
            self.gold.iter().filter(|(by, _)| by.as_deref() != annotator).map(|(_, value)| *value).collect();
        let mean = others.iter().sum::<f64>() / others.len() as f64;
        let harmful = others.iter().filter(|value| is_harmful(**value)).count();
        let is_divided = (mean - 0.5).abs() < 1e-12 && (1..others.len()).contains(&harmful);
        (!others.is_empty() && !is_divided).then(|| is_harmful(mean))
    }
}

impl Counting {
    fn of(&mut self, annotator: Option<&str>) -> &mut Counted {
        self.annotators.entry(annotator.map(str::to_owned)).or_default()
    }

    fn add(&mut self, event: &LabelledEvent) {
        for record in &event.labels {
            let label = &record.label;
            let counted = self.of(label.annotator.as_deref());
            counted.sources[label.source as usize] += 1;
            counted.times.push(if label.time == 0 { record.received } else { label.time });
            self.add_correction(event, label);
        }
        let answers: Vec<_> = event.answers.iter().collect();
        let harmful = answers.iter().filter(|(_, harmful)| *harmful).count() as u64;
        let safe = answers.len() as u64 - harmful;
        self.panel.add(safe, harmful);
        for (annotator, own) in &answers {
            let truth = event.truth(*annotator);
            let counted = self.of(*annotator);
            counted.answers += 1;
            counted.shared += u64::from(answers.len() > 1);
            counted.others.add(*own, false, safe - u64::from(!*own));
            counted.others.add(*own, true, harmful - u64::from(*own));
            if let Some(truth) = truth {
                counted.gold.add(truth == *own);
            }
        }
        self.add_pairs(&answers);
    }

    /// Counts a label that replaces another one, for the author of the other one.
    fn add_correction(&mut self, event: &LabelledEvent, label: &Label) {
        for id in [label.corrects.as_deref(), label.retracts.as_deref()].into_iter().flatten() {
            let replaced = event.labels.iter().map(|record| &record.label);
            for other in replaced.filter(|other| other.id == id && !std::ptr::eq(*other, label)) {
                let own = other.annotator == label.annotator;
                let counted = self.of(other.annotator.as_deref());
                if own {
                    counted.changed += 1;
                } else {
                    counted.corrected += 1;
                }
            }
        }
    }

    fn add_pairs(&mut self, answers: &[(Option<&str>, bool)]) {
        let named: Vec<_> =
            answers.iter().filter_map(|(name, own)| Some(((*name)?, *own))).take(MAX_PAIRED).collect();
        for (place, (first, own)) in named.iter().enumerate() {
            for (second, other) in named.iter().skip(place + 1) {
                let key = ((*first).to_owned(), (*second).to_owned());
                if self.pairs.len() < MAX_PAIRS || self.pairs.contains_key(&key) {
                    self.pairs.entry(key).or_default().add(*own, *other, 1);
                }
            }
        }
    }
}

/// Returns `true` if a value is on the side of unsafe.
fn is_harmful(value: f64) -> bool {
    value >= 0.5
}

/// Returns `true` if labels of this source are answers of a reviewer.
fn is_answer(source: Source) -> bool {
    matches!(source, Source::Review | Source::Calibration)
}

/// Returns the side of a label, if it has a value.
fn side(label: &Label, mapping: &Mapping) -> Option<bool> {
    mapping.value(label).map(is_harmful)
}

#[cfg(test)]
mod tests;
