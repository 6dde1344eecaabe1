//! The report: what is printed as text, as JSON and as a page. The JSON is stable; docs/report.md describes it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::groups::Dimension;

/// The version of the JSON form. It changes if a field is removed or gets another meaning.
pub const FORMAT: u32 = 1;

/// An estimate with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The estimate.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// The number of labels behind it.
    pub labels: u64,
    /// The number of labels of a simple random sample with the same variance; `None` if every decision has a label.
    pub effective: Option<f64>,
    /// The least and the greatest estimate that any answers to the unanswered requests could give; equal without such
    /// requests. They do not include the sampling error.
    pub unanswered: (f64, f64),
}

/// The estimates for one set of decisions. A figure is `None` if no label bears on it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figures {
    /// The number of requested labels behind the figures.
    pub labels: u64,
    /// The share of unsafe events.
    pub prevalence: Option<Figure>,
    /// The share of unsafe events among those that were not allowed.
    pub precision: Option<Figure>,
    /// The share of events that were not allowed among the unsafe ones.
    pub recall: Option<Figure>,
    /// The share of events that were not allowed among the safe ones.
    pub false_positive_rate: Option<Figure>,
    /// The share of events that were decided wrongly.
    pub error_rate: Option<Figure>,
}

impl Figures {
    /// The figures with their names, in the order of output.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<Figure>); 5] {
        [
            ("prevalence", self.prevalence),
            ("precision", self.precision),
            ("recall", self.recall),
            ("false positives", self.false_positive_rate),
            ("errors", self.error_rate),
        ]
    }
}

/// The numbers of a set of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Counts {
    /// The decisions.
    pub decisions: u64,
    /// The decisions that were not to allow.
    pub flagged: u64,
    /// The review requests.
    pub requests: u64,
    /// The requests that a review answered.
    pub answered: u64,
    /// The decisions that could not have been requested: their probability was 0. The intervals allow for all of them being
    /// safe, and for all of them being unsafe.
    pub uncovered: u64,
}

impl Counts {
    /// The share of requests that were answered; `None` without requests.
    #[must_use]
    pub fn response_rate(&self) -> Option<f64> {
        share(self.answered, self.requests)
    }
}

/// The share of a number in another; `None` of nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of decisions are far below 2^52")]
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The figures of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The dimension.
    pub by: Dimension,
    /// The name within the dimension.
    pub name: String,
    /// The numbers.
    #[serde(flatten)]
    pub counts: Counts,
    /// The estimates; `None` with fewer labels than the least number.
    pub figures: Option<Figures>,
}

/// A point of the curve over thresholds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The threshold that p is compared with.
    pub threshold: f64,
    /// The decisions with at least this p, and those that something else than the threshold flags.
    pub flagged: u64,
    /// The estimates if exactly these decisions were not allowed.
    pub figures: Figures,
}

/// A number of decisions that another policy changes in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The action as decided.
    pub from: &'static str,
    /// The action of the other policy.
    pub to: &'static str,
    /// The number of decisions.
    pub decisions: u64,
}

/// The effect of another policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreviewReport {
    /// The changes that are previewed, in words.
    pub changes: Vec<String>,
    /// The threshold of the other policy.
    pub threshold: f64,
    /// The decisions with another action, by both actions.
    pub changed: Vec<Changed>,
    /// The decisions with the same action.
    pub unchanged: u64,
    /// The decisions whose action is not certain, because an expert was skipped that could matter under the other policy.
    pub uncertain: u64,
    /// The decisions that another version of the policy made. They may change because of that too.
    pub other_versions: u64,
    /// The estimates under the other policy.
    pub figures: Figures,
}

/// The figures of an expert in one period.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ExpertPeriod {
    /// The votes that count.
    pub votes: u64,
    /// The votes that do not: the expert was asked because its vote could change the decision. If votes were explored, those
    /// of the time in which it was always asked do not count either.
    pub not_counted: u64,
    /// The mean of the votes that count; `None` without any.
    pub mean_score: Option<f64>,
    /// The estimates if the expert alone decided, at the policy's threshold.
    pub figures: Figures,
    /// The share of events on which the expert is on the side of people.
    pub agreement: Option<Figure>,
}

/// The change of a figure from the period before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// The change.
    pub value: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end of its 95 % interval.
    pub high: f64,
}

/// An expert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpertReport {
    /// The id.
    pub expert: String,
    /// The figures of the period.
    #[serde(flatten)]
    pub period: ExpertPeriod,
    /// The figures of the period before, if the report has one.
    pub before: Option<ExpertPeriod>,
    /// The change of the error rate, if both periods have one.
    pub drift: Option<Change>,
}

/// The report about one policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyReport {
    /// The name.
    pub policy: String,
    /// `false` if the policies file does not have it. Its labels are then read with the default values.
    pub known: bool,
    /// The threshold in force.
    pub threshold: f64,
    /// The least recall that the policy aims at, if it states one.
    pub recall_target: Option<f64>,
    /// The numbers of the decisions about events with something to judge.
    #[serde(flatten)]
    pub counts: Counts,
    /// The other decisions, which no figure is about.
    pub nothing_to_judge: u64,
    /// All decisions by action.
    pub actions: BTreeMap<&'static str, u64>,
    /// The share of requests that were answered.
    pub response_rate: Option<f64>,
    /// The events with a label and without a review request. Their labels are not used.
    pub unrequested_labels: u64,
    /// The estimates.
    pub figures: Figures,
    /// The groups, by dimension and falling number of decisions.
    pub groups: Vec<Group>,
    /// The curve over thresholds.
    pub curve: Vec<Point>,
    /// The preview, if one was requested.
    pub preview: Option<PreviewReport>,
    /// The experts, by id.
    pub experts: Vec<ExpertReport>,
    /// The data that no decision of the policy has, so that there are no figures of it: `categories`, `languages`, `votes`, or
    /// review `requests`.
    pub lacks: Vec<&'static str>,
}

impl PolicyReport {
    /// The missing data in words; `None` if nothing is missing.
    #[must_use]
    pub fn lacks_text(&self) -> Option<String> {
        let mut words: Vec<&str> = self.lacks.iter().map(|name| lack(name)).collect();
        let last = words.pop()?;
        let before = if words.is_empty() { String::new() } else { format!("{} and ", words.join(", ")) };
        Some(format!("the decisions have {before}{last}, and there are no figures of them"))
    }

    /// The recall target with the verdict about it; `None` without a target or an estimate of the recall.
    #[must_use]
    pub fn recall_verdict(&self) -> Option<(f64, &'static str)> {
        let (target, recall) = (self.recall_target?, self.figures.recall?);
        let verdict = if recall.high < target {
            "missed"
        } else if recall.low >= target {
            "reached"
        } else {
            "open: the interval contains it"
        };
        Some((target, verdict))
    }
}

fn lack(name: &str) -> &str {
    match name {
        "categories" => "no scores of categories",
        "languages" => "no languages",
        "votes" => "no votes",
        _ => "no review requests",
    }
}

/// The decisions outside of the period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// The number of decisions.
    pub decisions: u64,
    /// The least of their times, in RFC 3339.
    pub first: String,
    /// The greatest of their times, in RFC 3339.
    pub last: String,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// The time from which on decisions are counted, in RFC 3339; `None` for all.
    pub since: Option<String>,
    /// The time before which decisions are counted; `None` for all.
    pub until: Option<String>,
    /// The start of the period before, which experts are compared with.
    pub before: Option<String>,
    /// The least number of labels for figures of a group.
    pub min_labels: u64,
    /// The policies, by name.
    pub policies: Vec<PolicyReport>,
    /// The records that could not be used, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// The decisions that were read and lie outside of the period; `None` if there are none.
    pub outside: Option<Outside>,
}
