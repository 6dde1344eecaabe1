//! An event with its request and its labels, and the status that follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::decision::ReviewReason;
use crate::core::draw::Draws;
use crate::core::event::Millis;
use crate::core::label::{self, Label, Mapping, Source};
use crate::core::ledger::RoundId;
use crate::core::policy::{Action, Policy};
use crate::core::review::ReviewRequest;

/// The greatest number of labels that are kept of one event. Further ones are counted and do not change its status.
pub const MAX_LABELS: usize = 64;
/// The greatest number of category scores that are kept of one request, the highest first.
const MAX_SCORES: usize = 16;

/// The lane of an open request. Each lane has its share of the requests that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The audit draw came up. An estimate needs the answer.
    Audit,
    /// The action is review: the event waits for a person.
    Held,
    /// The event is near the threshold, or has another reason.
    Uncertain,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Held, Self::Uncertain];

    /// The lane of a request.
    fn of(request: &ReviewRequest) -> Self {
        if request.reasons.contains(&ReviewReason::Audit) {
            Self::Audit
        } else if request.action == Action::Review {
            Self::Held
        } else {
            Self::Uncertain
        }
    }
}

/// The place of a request in its lane: the older request comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The broker timestamp of the request.
    pub time: Millis,
    /// The partition of the request.
    pub partition: i32,
    /// The offset of the request.
    pub offset: i64,
}

/// The part of a policy that determines whether a request is answered.
#[derive(Debug, Clone)]
pub struct Rules {
    mapping: Mapping,
    draws: Draws,
}

impl Rules {
    /// The rules of a policy. A label answers a request if its source is review, or if it teaches.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let mut mapping = policy.mapping.clone();
        mapping.teaches.insert(Source::Review);
        // A reference answer is not an opinion, and a calibration answer concerns its reviewer alone.
        mapping.teaches.remove(&Source::Gold);
        mapping.teaches.remove(&Source::Calibration);
        let draws = Draws::new(policy.learner.seed.as_deref().unwrap_or_default(), &policy.name);
        Self { mapping, draws }
    }

    /// A number in (0,1) that depends on the event and the purpose alone.
    pub(super) fn draw(&self, id: &RoundId, purpose: &str) -> f64 {
        self.draws.uniform(&id.event, &id.tenant, purpose)
    }
}

/// The reason for which the text of a request is not available any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Retention has deleted the event.
    Expired,
    /// The event's subject was erased.
    Erased,
}

/// The status of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There are labels and no request.
    NoRequest,
    /// `missing` more people are to answer, of which at least one.
    Open {
        /// The number of answers that are missing.
        missing: usize,
    },
    /// The event has a reference answer, which reviewers are measured against.
    Gold,
    /// Enough people have answered.
    Answered,
    /// The text is not available.
    Gone(Gone),
}

/// An event of the queue.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The request, if it was read.
    pub request: Option<Arc<ReviewRequest>>,
    /// The place of the request.
    pub place: Option<Place>,
    /// `true` if retention has deleted the text.
    pub expired: bool,
    labels: Vec<Label>,
}

impl Entry {
    /// Takes the request over. A later decision about the same event replaces the earlier one and keeps its place.
    pub fn set_request(&mut self, mut request: ReviewRequest, place: Place) {
        // The event was sent again: what retention has deleted is its earlier record.
        if self.request.as_ref().is_some_and(|known| known.origin != request.origin) {
            self.expired = false;
        }
        request.categories.sort_by(|a, b| b.score.total_cmp(&a.score));
        request.categories.truncate(MAX_SCORES);
        self.place.get_or_insert(place);
        self.request = Some(Arc::new(request));
    }

    /// Adds a label. If the event has too many, the oldest report or appeal without an effect is dropped: anyone can send
    /// those, and they must not push out answers. Returns `false` if a label was dropped.
    pub fn add_label(&mut self, label: &Label, rules: &Rules) -> bool {
        let label = Label { categories: Vec::new(), ..label.clone() };
        if self.labels.contains(&label) {
            return true;
        }
        self.labels.push(label);
        if self.labels.len() <= MAX_LABELS {
            return true;
        }
        let without_effect = |label: &Label| {
            matches!(label.source, Source::Report | Source::Appeal)
                && !rules.mapping.teaches.contains(&label.source)
                && label.corrects.is_none()
                && label.retracts.is_none()
        };
        // If all have an effect, the one that came last is dropped.
        let dropped = self.labels.iter().position(without_effect).unwrap_or(MAX_LABELS);
        self.labels.remove(dropped);
        false
    }

    /// The lane of the request.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        self.request.as_deref().map(Lane::of)
    }

    /// Computes the status. `opinions` is the rate at which requests get a second opinion.
    #[must_use]
    pub fn status(&self, rules: &Rules, opinions: f64, quarantined: impl Fn(&str) -> bool) -> Status {
        let Some(request) = self.request.as_deref() else { return Status::NoRequest };
        if self.expired {
            return Status::Gone(Gone::Expired);
        }
        let gold = Mapping { teaches: BTreeSet::from([Source::Gold]), ..rules.mapping.clone() };
        if !label::live(&self.labels, &gold, &quarantined).is_empty() {
            return Status::Gold;
        }
        let live = label::live(&self.labels, &rules.mapping, quarantined);
        let wanted = if rules.draw(&request.id, "second opinion") >= opinions {
            1
        } else if live.iter().any(|(_, value)| *value >= 0.5) && live.iter().any(|(_, value)| *value < 0.5) {
            3
        } else {
            2
        };
        match wanted - live.len().min(wanted) {
            0 => Status::Answered,
            missing => Status::Open { missing },
        }
    }

    /// The labels by their ids, the newest of each, without those that another one corrects or retracts.
    fn standing(&self) -> impl Iterator<Item = &Label> {
        let mut by_id: BTreeMap<&str, &Label> = BTreeMap::new();
        for label in &self.labels {
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
        by_id
            .into_values()
            .filter(move |label| label.retracts.is_none() && !replaced.contains(label.id.as_str()))
    }

    /// Returns `true` if this person has answered and not retracted the answer.
    #[must_use]
    pub fn answered_by(&self, reviewer: &str) -> bool {
        let is_theirs = |label: &Label| label.annotator.as_deref() == Some(reviewer);
        // Most events have no label of this person, and are asked about in large numbers.
        self.labels.iter().any(is_theirs) && self.standing().any(is_theirs)
    }

    /// The label with this id that this person gave. Its categories are not kept.
    #[must_use]
    pub fn label_of(&self, reviewer: &str, id: &str) -> Option<&Label> {
        self.standing().find(|label| label.id == id && label.annotator.as_deref() == Some(reviewer))
    }

    /// The number that the next label of this person gets: one more than that of the labels known.
    #[must_use]
    pub fn next_number(&self, reviewer: &str) -> usize {
        let ids: BTreeSet<&str> = self
            .labels
            .iter()
            .filter(|label| label.annotator.as_deref() == Some(reviewer))
            .map(|label| label.id.as_str())
            .collect();
        ids.len() + 1
    }
}
