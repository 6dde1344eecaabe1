//! The review requests that are open: those whose event has no answer in the ledger.
//!
//! Events and labels are kept as 64-bit hashes with a key of this process, so that a million of them take a few dozen
//! megabytes. Two of ten million events have the same hash with a probability of three in a million.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;

use crate::core::label::Source;
use crate::core::ledger::{Edit, EditAction, LabelRecord, Record, RoundId};
use crate::core::review::ReviewRequest;

/// The hashes of a name in its tenant, and in all tenants.
type Marks = [u64; 2];

/// The label of an answer.
struct Answer {
    round: u64,
    /// `None` without an annotator.
    annotator: Option<Marks>,
}

/// The labels and edits of a ledger while it is read.
#[derive(Default)]
pub struct Answered {
    hasher: RandomState,
    /// The sources that teach, by policy.
    teaches: HashMap<String, BTreeSet<Source>>,
    answers: HashMap<u64, Answer>,
    /// The labels that were retracted, each with the annotators who did.
    retracted: HashMap<u64, Vec<Option<Marks>>>,
    quarantined: HashSet<u64>,
    erased: HashSet<u64>,
}

/// The events that need no further review, those that were passed on already, and the erased subjects.
pub struct Open {
    hasher: RandomState,
    done: HashSet<u64>,
    erased: HashSet<u64>,
}

/// The state of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// The event waits for an answer.
    Open,
    /// The event has an answer, or was passed on before.
    Done,
    /// The subject of the event was erased.
    Erased,
}

impl Answered {
    /// An empty ledger. `teaches` has the sources that teach, by policy: their labels answer a request, too.
    #[must_use]
    pub fn new(teaches: HashMap<String, BTreeSet<Source>>) -> Self {
        Self { teaches, ..Self::default() }
    }

    /// Adds a record of the ledger. A review or a gold label is an answer, a report or an appeal only if it teaches, and a
    /// calibration label never.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::Round(_) => {}
            Record::Label(record) => self.add_label(record),
            Record::Edit(Edit { action, .. }) => {
                let (set, tenant, name) = match action {
                    EditAction::Quarantine { tenant, annotator } => {
                        (&mut self.quarantined, tenant, annotator)
                    }
                    EditAction::Erase { tenant, subject } => (&mut self.erased, tenant, subject),
                };
                set.insert(self.hasher.hash_one((tenant, name)));
            }
        }
    }

    fn add_label(&mut self, record: &LabelRecord) {
        let label = &record.label;
        if !record.status.counts() {
            return;
        }
        let round = hash(&self.hasher, &label.round());
        let of = |id: &str| self.hasher.hash_one((round, id));
        let annotator = label.annotator.as_ref().map(|name| marks(&self.hasher, &label.tenant, name));
        if let Some(id) = &label.retracts {
            self.retracted.entry(of(id)).or_default().push(annotator);
        } else if is_answer(label.source, self.teaches.get(&label.policy)) {
            self.answers.insert(of(&label.id), Answer { round, annotator });
        }
    }

    /// Returns the events without an answer.
    #[must_use]
    pub fn open(self) -> Open {
        let trusted = |annotator: &Option<Marks>| {
            annotator.is_none_or(|marks| marks.iter().all(|mark| !self.quarantined.contains(mark)))
        };
        let is_retracted = |label| {
            self.retracted.get(label).is_some_and(|annotators: &Vec<_>| annotators.iter().any(trusted))
        };
        let kept =
            self.answers.iter().filter(|(label, answer)| trusted(&answer.annotator) && !is_retracted(*label));
        let done = kept.map(|(_, answer)| answer.round).collect();
        Open { done, erased: self.erased, hasher: self.hasher }
    }
}

impl Open {
    /// Returns the state of a request. An open one counts as passed on then.
    pub fn take(&mut self, request: &ReviewRequest) -> RequestState {
        let id = &request.id;
        let is_erased = request.subject.as_ref().is_some_and(|subject| {
            let marks = marks(&self.hasher, &id.tenant, subject);
            marks.iter().any(|mark| self.erased.contains(mark))
        });
        if is_erased {
            RequestState::Erased
        } else if self.done.insert(hash(&self.hasher, id)) {
            RequestState::Open
        } else {
            RequestState::Done
        }
    }
}

fn hash(hasher: &RandomState, round: &RoundId) -> u64 {
    hasher.hash_one((&round.tenant, &round.policy, &round.event))
}

/// An edit with the empty tenant applies to all tenants.
fn marks(hasher: &RandomState, tenant: &str, name: &str) -> Marks {
    [hasher.hash_one((tenant, name)), hasher.hash_one(("", name))]
}

fn is_answer(source: Source, teaches: Option<&BTreeSet<Source>>) -> bool {
    match source {
        Source::Review | Source::Gold => true,
        Source::Report | Source::Appeal => teaches.is_some_and(|sources| sources.contains(&source)),
        Source::Calibration => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decision::{Origin, ReviewReason, Sampling};
    use crate::core::label::{DecisionRef, Finding, Label};
    use crate::core::ledger::LabelStatus;
    use crate::core::policy::Action;

    fn round(event: &str) -> RoundId {
        RoundId { tenant: "t".into(), policy: "p".into(), event: event.into() }
    }

    fn request(id: RoundId, subject: Option<&str>) -> ReviewRequest {
        ReviewRequest {
            id,
            conversation: "c".into(),
            subject: subject.map(Into::into),
            origin: Origin { topic: "events".into(), partition: 0, offset: 0 },
            decision: DecisionRef { partition: 0, offset: 0 },
            round_time: 0,
            policy_version: "1".into(),
            action: Action::Allow,
            probability: None,
            threshold: 0.5,
            reasons: vec![ReviewReason::Audit],
            inclusion_probability: 1.0,
            sampling: Sampling::default(),
            categories: Vec::new(),
            trace: None,
        }
    }

    fn label(event: &str, id: &str) -> Label {
        Label::new(&round(event), id, Finding::Safe)
    }

    fn add(answered: &mut Answered, label: Label, status: LabelStatus) {
        answered.add(&Record::Label(LabelRecord { label, received: 0, status }));
    }

    fn edit(answered: &mut Answered, action: EditAction) {
        answered.add(&Record::Edit(Edit { id: format!("{action:?}"), action }));
    }

    #[test]
    fn an_event_is_open_until_it_has_an_answer_that_stands() {
        let mut answered = Answered::default();
        let mut add = |label, status| add(&mut answered, label, status);
        add(label("answered", "a"), LabelStatus::Accepted);
        add(label("waits", "a"), LabelStatus::Waiting);
        add(label("late", "a"), LabelStatus::TooLate);
        add(Label { source: Source::Report, ..label("reported", "a") }, LabelStatus::Accepted);
        add(Label { source: Source::Calibration, ..label("calibrated", "a") }, LabelStatus::Accepted);
        add(Label { retracts: Some("a".into()), ..label("retracted", "b") }, LabelStatus::Accepted);
        add(label("retracted", "a"), LabelStatus::Accepted);
        add(Label { retracts: Some("a".into()), ..label("kept", "b") }, LabelStatus::TooLate);
        add(label("kept", "a"), LabelStatus::Accepted);
        let mut open = answered.open();
        for (event, state) in [
            ("answered", RequestState::Done),
            ("waits", RequestState::Done),
            ("late", RequestState::Open),
            ("reported", RequestState::Open),
            ("calibrated", RequestState::Open),
            ("retracted", RequestState::Open),
            ("kept", RequestState::Done),
            ("new", RequestState::Open),
        ] {
            let request = request(round(event), Some("user"));
            assert_eq!(open.take(&request), state, "{event}");
            // An event that was decided twice has one request.
            assert_eq!(open.take(&request), RequestState::Done, "{event}");
        }
        let other = RoundId { tenant: "other".into(), ..round("answered") };
        assert_eq!(open.take(&request(other, None)), RequestState::Open);
    }

    #[test]
    fn a_source_that_teaches_answers_the_requests_of_its_policy() {
        let teaches = BTreeSet::from([Source::Review, Source::Report, Source::Calibration]);
        let mut answered = Answered::new(HashMap::from([("p".to_owned(), teaches)]));
        let other = |label: Label| Label { policy: "other".into(), ..label };
        for (event, source) in
            [("reported", Source::Report), ("appealed", Source::Appeal), ("calibrated", Source::Calibration)]
        {
            let label = Label { source, ..label(event, "a") };
            add(&mut answered, other(label.clone()), LabelStatus::Accepted);
            add(&mut answered, label, LabelStatus::Accepted);
        }
        let mut open = answered.open();
        let mut state = |id: RoundId| open.take(&request(id, None));
        assert_eq!(state(round("reported")), RequestState::Done);
        assert_eq!(state(RoundId { policy: "other".into(), ..round("reported") }), RequestState::Open);
        assert_eq!(state(round("appealed")), RequestState::Open);
        assert_eq!(state(round("calibrated")), RequestState::Open);
    }

    #[test]
    fn labels_of_quarantined_annotators_close_and_reopen_nothing() {
        let mut answered = Answered::default();
        let by = |annotator: &str, label: Label| Label { annotator: Some(annotator.into()), ..label };
        add(&mut answered, by("liar", label("lied", "a")), LabelStatus::Accepted);
        add(&mut answered, by("ann", label("kept", "a")), LabelStatus::Accepted);
        let retraction = Label { retracts: Some("a".into()), ..label("kept", "b") };
        add(&mut answered, by("liar", retraction), LabelStatus::Accepted);
        add(&mut answered, by("elsewhere", label("other", "a")), LabelStatus::Accepted);
        let quarantine = |tenant: &str, annotator: &str| EditAction::Quarantine {
            tenant: tenant.into(),
            annotator: annotator.into(),
        };
        edit(&mut answered, quarantine("", "liar"));
        edit(&mut answered, quarantine("another tenant", "elsewhere"));
        let mut open = answered.open();
        let mut state = |event: &str| open.take(&request(round(event), None));
        assert_eq!(state("lied"), RequestState::Open);
        assert_eq!(state("kept"), RequestState::Done);
        assert_eq!(state("other"), RequestState::Done);
    }

    #[test]
    fn requests_about_erased_subjects_are_not_open() {
        let mut answered = Answered::default();
        let erase = |tenant: &str, subject: &str| EditAction::Erase {
            tenant: tenant.into(),
            subject: subject.into(),
        };
        edit(&mut answered, erase("t", "here"));
        edit(&mut answered, erase("", "everywhere"));
        edit(&mut answered, erase("another tenant", "elsewhere"));
        let mut open = answered.open();
        let mut state = |subject: &str| open.take(&request(round(subject), Some(subject)));
        assert_eq!(state("here"), RequestState::Erased);
        assert_eq!(state("everywhere"), RequestState::Erased);
        assert_eq!(state("elsewhere"), RequestState::Open);
    }
}
