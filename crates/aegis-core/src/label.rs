//! Human labels and their algebra: which of them are live, and what they teach.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::event::Millis;

/// What a person found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// Nothing wrong.
    Safe,
    /// Breaks the policy.
    Unsafe,
    /// Neither: each policy says what it counts as.
    NeedsCaution,
}

impl Finding {
    /// All findings, in the schema's order.
    pub const ALL: [Self; 3] = [Self::Safe, Self::Unsafe, Self::NeedsCaution];

    /// The finding's word in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unsafe => "unsafe",
            Self::NeedsCaution => "needs_caution",
        }
    }
}

/// Where a human label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A reviewer was asked.
    Review,
    /// Someone reported it unasked.
    Report,
    /// Someone contests a decision.
    Appeal,
    /// A reference answer.
    Gold,
}

impl Source {
    /// All sources, in the schema's order.
    pub const ALL: [Self; 4] = [Self::Review, Self::Report, Self::Appeal, Self::Gold];

    /// The source's word in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Report => "report",
            Self::Appeal => "appeal",
            Self::Gold => "gold",
        }
    }
}

/// Where a decision lies in the decisions topic. It locates, and never picks a round's votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionRef {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// A human label as sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Unique within its event.
    pub id: String,
    /// Tenant of the event.
    pub tenant: String,
    /// Policy of the event.
    pub policy: String,
    /// The labelled event's id.
    pub event: String,
    /// Who labelled; all labels without one count as one nameless annotator's.
    pub annotator: Option<String>,
    /// What was found; decides over `severity` where both are given.
    pub verdict: Option<Finding>,
    /// How unsafe, in \[0,1\].
    pub severity: Option<f64>,
    /// Categories found, by slug.
    pub categories: Vec<String>,
    /// When it was given; 0 where its sender has no time.
    pub time: Millis,
    /// Where it comes from.
    pub source: Source,
    /// The probability with which its event had been picked for review, in (0,1\].
    pub inclusion_probability: Option<f64>,
    /// Where the decision lies, if the sender knows.
    pub decision: Option<DecisionRef>,
    /// The label that this one replaces, whoever gave it.
    pub corrects: Option<String>,
    /// The label that this one takes back; a retraction teaches nothing itself.
    pub retracts: Option<String>,
}

impl Label {
    /// The order "newer": by time, then by content, so that of two labels either is the newer or they
    /// teach the same. The decision reference is left out: it only locates.
    #[must_use]
    pub fn newer(&self, other: &Self) -> Ordering {
        let content = |label: &Self| {
            (
                label.verdict,
                label.severity.map(order_bits),
                label.source,
                label.inclusion_probability.map(order_bits),
            )
        };
        self.time
            .cmp(&other.time)
            .then_with(|| self.id.cmp(&other.id))
            .then_with(|| content(self).cmp(&content(other)))
            .then_with(|| self.annotator.cmp(&other.annotator))
            .then_with(|| self.corrects.cmp(&other.corrects))
            .then_with(|| self.retracts.cmp(&other.retracts))
            .then_with(|| self.categories.cmp(&other.categories))
    }
}

/// The bits of a non-negative float, ordered as the float is.
fn order_bits(value: f64) -> u64 {
    value.to_bits()
}

/// How labels become a target. A policy's thresholds and costs are not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// What Needs Caution counts as, in \[0,1\].
    pub needs_caution: f64,
    /// The sources that teach.
    pub teaches: BTreeSet<Source>,
}

impl Default for Mapping {
    /// Needs Caution is unsafe; reviews and gold labels teach, reports and appeals do not.
    fn default() -> Self {
        Self { needs_caution: 1.0, teaches: BTreeSet::from([Source::Review, Source::Gold]) }
    }
}

impl Mapping {
    /// The mapping in one line, as it enters the state hash.
    #[must_use]
    pub fn canonical(&self) -> String {
        let sources: Vec<_> = self.teaches.iter().map(|source| source.word()).collect();
        format!("needs_caution={};teaches={}", self.needs_caution, sources.join(","))
    }

    /// What one label says, in \[0,1\]; `None` for a retraction and for a label that says nothing.
    #[must_use]
    pub fn value(&self, label: &Label) -> Option<f64> {
        if label.retracts.is_some() {
            return None;
        }
        self.says(label.verdict, label.severity)
    }

    /// What a verdict or, without one, a severity says, in \[0,1\].
    #[must_use]
    pub fn says(&self, verdict: Option<Finding>, severity: Option<f64>) -> Option<f64> {
        match verdict {
            Some(Finding::Safe) => Some(0.0),
            Some(Finding::Unsafe) => Some(1.0),
            Some(Finding::NeedsCaution) => Some(self.needs_caution),
            None => severity,
        }
    }
}

/// The live labels of one event with what each says, one per annotator, in annotator order.
///
/// `labels` are all labels accepted for the event, several per id allowed, in any order. The steps,
/// in order: quarantined annotators' labels are as if never given; per id the newest is kept; what a
/// kept one corrects or retracts is dead; sources that do not teach drop out; per annotator the newest
/// is live.
pub fn live<'a>(
    labels: impl IntoIterator<Item = &'a Label>,
    mapping: &Mapping,
    quarantined: impl Fn(&str) -> bool,
) -> Vec<(&'a Label, f64)> {
    let mut kept: BTreeMap<&str, &Label> = BTreeMap::new();
    for label in labels {
        if label.annotator.as_deref().is_some_and(&quarantined) {
            continue;
        }
        let best = kept.entry(&label.id).or_insert(label);
        if label.newer(best).is_gt() {
            *best = label;
        }
    }
    let dead: BTreeSet<&str> = kept
        .values()
        .flat_map(|label| [label.corrects.as_deref(), label.retracts.as_deref()])
        .flatten()
        .collect();
    let mut newest: BTreeMap<Option<&str>, (&Label, f64)> = BTreeMap::new();
    for (id, label) in kept {
        if dead.contains(id) || !mapping.teaches.contains(&label.source) {
            continue;
        }
        let Some(value) = mapping.value(label) else { continue };
        let best = newest.entry(label.annotator.as_deref()).or_insert((label, value));
        if label.newer(best.0).is_gt() {
            *best = (label, value);
        }
    }
    newest.into_values().collect()
}

/// The target of a round: the mean of its live labels, in \[0,1\]; `None` where none is live.
pub fn target<'a>(
    labels: impl IntoIterator<Item = &'a Label>,
    mapping: &Mapping,
    quarantined: impl Fn(&str) -> bool,
) -> Option<f64> {
    let live = live(labels, mapping, quarantined);
    if live.is_empty() {
        return None;
    }
    let sum: f64 = live.iter().map(|(_, value)| value).sum();
    #[expect(clippy::cast_precision_loss, reason = "a round has few labels")]
    Some(sum / live.len() as f64)
}

#[cfg(any(test, feature = "examples"))]
impl Label {
    /// A nameless reviewer's label number `number` of that time, for tests.
    #[must_use]
    pub fn example(round: &super::ledger::RoundId, number: Millis, verdict: Option<Finding>) -> Self {
        Self {
            id: format!("l{number}"),
            tenant: round.tenant.clone(),
            policy: round.policy.clone(),
            event: round.event.clone(),
            annotator: None,
            verdict,
            severity: None,
            categories: Vec::new(),
            time: number,
            source: Source::Review,
            inclusion_probability: None,
            decision: None,
            corrects: None,
            retracts: None,
        }
    }
}
