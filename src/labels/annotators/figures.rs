//! The figures about annotators as they are shown.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Counted, Counting, Group, Settings};
use crate::core::agreement::{Pairs, exact_interval};
use crate::core::event::Millis;
use crate::core::label::Source;

/// The confidence of intervals.
const CONFIDENCE: f64 = 0.95;

/// An interval of a share, with a confidence of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// The answers about events whose answer is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Gold {
    /// The number of them.
    pub answers: u64,
    /// Those that were right.
    pub right: u64,
}

impl Gold {
    pub(super) fn add(&mut self, right: bool) {
        self.answers += 1;
        self.right += u64::from(right);
    }

    /// The share of right answers; `None` without one.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        (self.answers > 0).then(|| self.right as f64 / self.answers as f64)
    }

    /// The interval of the share (Clopper and Pearson), which is wide for few answers.
    #[must_use]
    pub fn interval(&self) -> Interval {
        let (low, high) = exact_interval(self.right, self.answers, CONFIDENCE);
        Interval { low, high }
    }
}

/// The intervals between consecutive labels of one annotator. The ledger has no times of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// The number of intervals. Breaks, and labels with the same time, are left out.
    pub intervals: usize,
    /// The median, in milliseconds.
    pub median_ms: Millis,
    /// The interval that nine of ten do not exceed, in milliseconds.
    pub nine_in_ten_ms: Millis,
}

impl Pace {
    /// Returns the pace of labels given at these times; `None` without an interval.
    fn of(mut times: Vec<Millis>, longest_gap: Millis) -> Option<Self> {
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let mut gaps: Vec<_> = gaps.filter(|gap| *gap > 0 && *gap <= longest_gap).collect();
        gaps.sort_unstable();
        let at = |tenths: usize| gaps.get((gaps.len().saturating_sub(1)) * tenths / 10).copied();
        Some(Self { intervals: gaps.len(), median_ms: at(5)?, nine_in_ten_ms: at(9)? })
    }
}

/// The figures of one annotator.
#[derive(Debug, Serialize)]
pub struct Annotator {
    /// The name; `None` for labels without an annotator.
    pub annotator: Option<String>,
    /// The labels of all sources.
    pub labels: u64,
    /// The labels by source.
    pub sources: BTreeMap<&'static str, u64>,
    /// The events with an answer.
    pub answers: u64,
    /// The events with an answer that others have answered too.
    pub shared: u64,
    /// The share of others' answers about these that are the same.
    pub agreement: Option<f64>,
    /// Cohen's kappa against all others together.
    pub kappa: Option<f64>,
    /// The answers about events with gold labels.
    pub gold: Gold,
    /// The share of them that are right.
    pub gold_accuracy: Option<f64>,
    /// Its interval; `None` without gold labels.
    pub gold_interval: Option<Interval>,
    /// The labels that others corrected or retracted.
    pub corrected: u64,
    /// The labels that the annotator corrected or retracted.
    pub changed: u64,
    /// The intervals between labels.
    pub pace: Option<Pace>,
    /// `true` if the annotator is in quarantine already.
    pub quarantined: bool,
    /// `true` if even the upper bound of the gold accuracy is below the floor.
    pub below_floor: bool,
}

/// The agreement of two annotators.
#[derive(Debug, Serialize)]
pub struct PairFigures {
    /// The two.
    pub annotators: [String; 2],
    /// The events that both answered.
    pub events: u64,
    /// The share of equal answers.
    pub agreement: Option<f64>,
    /// Cohen's kappa.
    pub kappa: Option<f64>,
}

/// The figures of a group before they are named.
pub(super) struct Finished(Group);

impl Finished {
    pub(super) fn group(self, policy: Option<String>, tenant: Option<String>) -> Group {
        Group { policy, tenant, ..self.0 }
    }
}

impl Counting {
    pub(super) fn finish(self, settings: &Settings<'_>, quarantined: &dyn Fn(&str) -> bool) -> Finished {
        let annotators = self.annotators.into_iter();
        let annotators = annotators.map(|(name, counted)| annotator(name, counted, settings, quarantined));
        let pair = |([first, second], pairs): ([String; 2], Pairs)| PairFigures {
            annotators: [first, second],
            events: pairs.events(),
            agreement: pairs.agreement(),
            kappa: pairs.kappa(),
        };
        let pairs = self.pairs.into_iter().map(|((first, second), pairs)| pair(([first, second], pairs)));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by(|one, other| {
            other.events.cmp(&one.events).then_with(|| one.annotators.cmp(&other.annotators))
        });
        Finished(Group {
            policy: None,
            tenant: None,
            shared_events: self.panel.events(),
            alpha: self.panel.alpha(),
            annotators: annotators.collect(),
            pairs,
        })
    }
}

fn annotator(
    name: Option<String>,
    counted: Counted,
    settings: &Settings<'_>,
    quarantined: &dyn Fn(&str) -> bool,
) -> Annotator {
    let gold = counted.gold;
    let interval = (gold.answers > 0).then(|| gold.interval());
    let sources = Source::ALL.into_iter().zip(counted.sources).filter(|(_, count)| *count > 0);
    Annotator {
        quarantined: name.as_deref().is_some_and(quarantined),
        annotator: name,
        labels: counted.sources.iter().sum(),
        sources: sources.map(|(source, count)| (source.word(), count)).collect(),
        answers: counted.answers,
        shared: counted.shared,
        agreement: counted.others.agreement(),
        kappa: counted.others.kappa(),
        gold,
        gold_accuracy: gold.accuracy(),
        gold_interval: interval,
        corrected: counted.corrected,
        changed: counted.changed,
        pace: Pace::of(counted.times, settings.longest_gap),
        below_floor: interval.is_some_and(|interval| interval.high < settings.floor),
    }
}
