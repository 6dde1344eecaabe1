//! Human labels and their algebra: the choice of live labels, and the target that they give.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::event::Millis;
use super::ledger::RoundId;

/// The verdict of an annotator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// The event complies with the policy.
    Safe,
    /// The event violates the policy.
    Unsafe,
    /// The event is between both. [`Mapping::needs_caution`] gives its value.
    NeedsCaution,
}

impl Finding {
    /// All findings, in the schema's order.
    pub const ALL: [Self; 3] = [Self::Safe, Self::Unsafe, Self::NeedsCaution];

    /// The name of the finding in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unsafe => "unsafe",
            Self::NeedsCaution => "needs_caution",
        }
    }
}

/// The source of a human label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A review that was requested.
    Review,
    /// A report that was not requested.
    Report,
    /// An appeal against a decision.
    Appeal,
    /// A reference answer.
    Gold,
    /// A reviewer's answer to an event whose reference answer is known. It measures the reviewer.
    Calibration,
}

impl Source {
    /// All sources, in the schema's order.
    pub const ALL: [Self; 5] = [Self::Review, Self::Report, Self::Appeal, Self::Gold, Self::Calibration];

    /// The name of the source in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Report => "report",
            Self::Appeal => "appeal",
            Self::Gold => "gold",
            Self::Calibration => "calibration",
        }
    }
}

/// The position of a decision in the decisions topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionRef {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// A human label as sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The id, unique within the event.
    pub id: String,
    /// The tenant of the event.
    pub tenant: String,
    /// The policy of the event.
    pub policy: String,
    /// The id of the labelled event.
    pub event: String,
    /// The annotator. All labels without one count as those of one nameless annotator.
    pub annotator: Option<String>,
    /// The verdict. It takes precedence over `severity` if both are given.
    pub verdict: Option<Finding>,
    /// The severity, from 0 for safe to 1 for unsafe.
    pub severity: Option<f64>,
    /// The categories found, by slug.
    pub categories: Vec<String>,
    /// The time of the label; 0 if its sender gave none.
    pub time: Millis,
    /// The source.
    pub source: Source,
    /// The probability with which its event was selected for review, in (0,1\].
    pub inclusion_probability: Option<f64>,
    /// The position of the decision, if the sender gave it.
    pub decision: Option<DecisionRef>,
    /// The id of the label that this one replaces, of any annotator.
    pub corrects: Option<String>,
    /// The id of the label that this one retracts. A retraction has no value itself.
    pub retracts: Option<String>,
}

/// The end of the id of a decision about an appeal, after the id of the appeal and a slash.
pub const APPEAL_DECISION: &str = "decision";

impl Label {
    /// A verdict of a nameless reviewer on a round, without a time.
    #[must_use]
    pub fn new(round: &RoundId, id: impl Into<String>, verdict: Finding) -> Self {
        Self {
            id: id.into(),
            tenant: round.tenant.clone(),
            policy: round.policy.clone(),
            event: round.event.clone(),
            annotator: None,
            verdict: Some(verdict),
            severity: None,
            categories: Vec::new(),
            time: 0,
            source: Source::Review,
            inclusion_probability: None,
            decision: None,
            corrects: None,
            retracts: None,
        }
    }

    /// Returns `true` if the label is the decision about an appeal, by its id. If the appeal is upheld, it has the source of a
    /// review although no request asked for it. The default id of an annotator with the name [`APPEAL_DECISION`] is none.
    #[must_use]
    pub fn decides_appeal(&self) -> bool {
        let ending = self.id.rsplit_once('/').map(|(_, ending)| ending);
        ending == Some(APPEAL_DECISION) && self.annotator.as_deref() != Some(APPEAL_DECISION)
    }

    /// Compares labels by time, then by content: the greater is the newer. Labels that compare equal have equal
    /// values. The position of the decision is not compared.
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

/// The mapping of labels to targets. The thresholds and costs of a policy are not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// The value of [`Finding::NeedsCaution`], in \[0,1\].
    pub needs_caution: f64,
    /// The sources whose labels teach.
    pub teaches: BTreeSet<Source>,
    /// The cap s on the labels of one annotator that teach, in (0,1\]: at most 10 plus s/(1-s) times the labels of all
    /// others, whether these teach or not. 1 for no cap.
    pub max_annotator_share: f64,
}

impl Default for Mapping {
    /// Needs Caution counts as unsafe. Reviews and gold labels teach; the other sources do not. No annotator is capped.
    fn default() -> Self {
        let teaches = BTreeSet::from([Source::Review, Source::Gold]);
        Self { needs_caution: 1.0, teaches, max_annotator_share: 1.0 }
    }
}

impl Mapping {
    /// The mapping in one line, as it enters the state hash.
    #[must_use]
    pub fn canonical(&self) -> String {
        let sources: Vec<_> = self.teaches.iter().map(|source| source.word()).collect();
        let line = format!("needs_caution={};teaches={}", self.needs_caution, sources.join(","));
        // The line of a mapping without a cap is that of the versions before there was one.
        if self.caps() { format!("{line};max_annotator_share={}", self.max_annotator_share) } else { line }
    }

    /// Returns `true` if there is a cap on the share of one annotator.
    #[must_use]
    pub fn caps(&self) -> bool {
        self.max_annotator_share < 1.0
    }

    /// The value of a label, in \[0,1\]; `None` for a retraction, and for a label without verdict and severity.
    #[must_use]
    pub fn value(&self, label: &Label) -> Option<f64> {
        if label.retracts.is_some() {
            return None;
        }
        self.verdict_value(label.verdict, label.severity)
    }

    /// The value of a verdict, or of a severity if there is no verdict, in \[0,1\].
    #[must_use]
    pub fn verdict_value(&self, verdict: Option<Finding>, severity: Option<f64>) -> Option<f64> {
        match verdict {
            Some(Finding::Safe) => Some(0.0),
            Some(Finding::Unsafe) => Some(1.0),
            Some(Finding::NeedsCaution) => Some(self.needs_caution),
            None => severity,
        }
    }
}

/// Returns the live labels of one event with their values, one per annotator, in annotator order.
///
/// `labels` are all accepted labels of the event in any order, with possibly several per id. The steps are:
/// labels of quarantined annotators are dropped; of each id the newest is kept; labels that a kept one corrects
/// or retracts are dropped; labels of sources that do not teach are dropped; of each annotator the newest is
/// live.
pub fn live<'a>(
    labels: impl IntoIterator<Item = &'a Label>,
    mapping: &Mapping,
    quarantined: impl Fn(&str) -> bool,
) -> Vec<(&'a Label, f64)> {
    let mut by_id: BTreeMap<&str, &Label> = BTreeMap::new();
    for label in labels {
        if label.annotator.as_deref().is_some_and(&quarantined) {
            continue;
        }
        let best = by_id.entry(&label.id).or_insert(label);
        if label.newer(best).is_gt() {
            *best = label;
        }
    }
    let replaced: BTreeSet<&str> = by_id
        .values()
        .flat_map(|label| [label.corrects.as_deref(), label.retracts.as_deref()])
        .flatten()
        .collect();
    let mut newest: BTreeMap<Option<&str>, (&Label, f64)> = BTreeMap::new();
    for (id, label) in by_id {
        if replaced.contains(id) || !mapping.teaches.contains(&label.source) {
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

/// Returns the target of a round: the mean of its live labels, in \[0,1\]; `None` if none is live.
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
    /// The label `l{number}` of a nameless reviewer at the time `number`, for tests.
    #[must_use]
    pub fn example(round: &RoundId, number: Millis, verdict: Option<Finding>) -> Self {
        Self { verdict, time: number, ..Self::new(round, format!("l{number}"), Finding::Safe) }
    }
}
