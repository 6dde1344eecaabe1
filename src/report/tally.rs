//! The running figures of one policy: sums over the decisions without a review request, and one entry for each request.

use std::collections::BTreeMap;

use super::estimates::{in_force, is_requested, observed, review};
use super::experts::{ExpertTallies, Period};
use super::figures::{Group, Point, PolicyReport};
use super::groups::{Dimension, Groups};
use super::keys::{Keys, RoundKey};
use super::preview::PreviewTally;
use crate::core::decision::Decision;
use crate::core::estimate::{Accumulator, Method, Observed, Review, Thresholds};
use crate::core::language::Language;
use crate::core::policy::{Action, Policy};

/// The number of equal steps of the curve between the thresholds 0 and 1.
const CURVE_STEPS: u32 = 250;

/// The tenant's and the subject's key.
pub(super) type SubjectKey = (u64, u64);

/// A decision that was sent to review.
#[derive(Debug, Clone)]
struct Requested {
    key: RoundKey,
    /// `None` without a subject.
    subject: Option<SubjectKey>,
    observed: Observed,
    /// `true` if the previewed policy does not allow the event.
    preview_flagged: bool,
    /// The numbers of its groups.
    groups: Box<[u32]>,
}

/// The answers to requests, and the erasures.
pub(super) struct Answers<'a> {
    /// The target of a request, in \[0,1\]; `None` if it is unanswered.
    pub(super) target: &'a dyn Fn(RoundKey) -> Option<f64>,
    /// Returns `true` for the decisions of an erased subject.
    pub(super) erased: &'a dyn Fn(SubjectKey) -> bool,
}

/// The options of a policy's report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The least number of labels for figures of a group.
    pub(super) min_labels: u64,
    /// `true` if experts are compared with the period before.
    pub(super) compares: bool,
}

/// The data that at least one decision has.
#[derive(Debug, Default)]
struct Found {
    categories: bool,
    languages: bool,
    votes: bool,
    requests: bool,
}

impl Found {
    fn add(&mut self, decision: &Decision) {
        self.categories |= !decision.categories.is_empty();
        self.languages |= decision.language != Language::Unknown;
        self.votes |= decision.votes.iter().any(|weighed| weighed.vote.score().is_some());
        self.requests |= is_requested(decision);
    }

    /// The names of what no decision has.
    fn lacks(&self) -> Vec<&'static str> {
        let all = [
            ("categories", self.categories),
            ("languages", self.languages),
            ("votes", self.votes),
            ("requests", self.requests),
        ];
        all.into_iter().filter(|(_, found)| !found).map(|(name, _)| name).collect()
    }
}

/// The decisions of one policy.
#[derive(Debug)]
pub(super) struct PolicyTally {
    policy: Policy,
    /// `false` if the policies file does not have it.
    known: bool,
    recall_target: Option<f64>,
    thresholds: Thresholds,
    actions: BTreeMap<&'static str, u64>,
    nothing_to_judge: u64,
    unrequested_labels: u64,
    found: Found,
    groups: Groups,
    /// The decisions that were not requested, by the groups' numbers.
    unrequested: Vec<Accumulator>,
    requested: Vec<Requested>,
    preview: Option<PreviewTally>,
    experts: ExpertTallies,
}

/// The thresholds of the curve for a policy: the steps between 0 and 1, and the one in force.
fn curve(policy: &Policy) -> Vec<f64> {
    let steps = (1..CURVE_STEPS).map(|step| f64::from(step) / f64::from(CURVE_STEPS));
    let mut all: Vec<f64> = steps.chain([policy.threshold()]).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The key of a decision's subject.
pub(super) fn subject_key(decision: &Decision, keys: &Keys) -> Option<SubjectKey> {
    let subject = decision.subject.as_deref()?;
    Some((keys.name(&decision.id.tenant), keys.name(subject)))
}

impl PolicyTally {
    /// A policy without decisions. `changes` are those of the preview.
    pub(super) fn new(
        policy: Policy,
        known: bool,
        recall_target: Option<f64>,
        changes: Option<&super::Changes>,
    ) -> Self {
        let thresholds = Thresholds::new(&curve(&policy));
        Self {
            known,
            recall_target,
            actions: Action::ALL.iter().map(|action| (action.word(), 0)).collect(),
            nothing_to_judge: 0,
            unrequested_labels: 0,
            found: Found::default(),
            groups: Groups::default(),
            unrequested: Vec::new(),
            requested: Vec::new(),
            preview: changes.map(|changes| PreviewTally::new(changes, &policy, &thresholds)),
            experts: ExpertTallies::new(&thresholds),
            thresholds,
            policy,
        }
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The number of requests, which are kept.
    pub(super) fn kept(&self) -> usize {
        self.requested.len()
    }

    /// The number of votes that were not counted, because there are too many experts.
    pub(super) fn refused_votes(&self) -> u64 {
        self.experts.refused
    }

    /// Adds a decision of the period before, for the comparison of experts.
    pub(super) fn add_before(&mut self, decision: &Decision, keys: &Keys) {
        self.experts.add(Period::Before, decision, keys);
    }

    /// Adds a decision of the period. `labelled` is `true` if it has a label.
    pub(super) fn add(&mut self, decision: &Decision, labelled: bool, keys: &Keys) {
        let asked = is_requested(decision);
        *self.actions.entry(decision.action.word()).or_default() += 1;
        if decision.nothing_to_judge {
            // Nothing can be found in it, so that it is neither safe nor unsafe.
            self.nothing_to_judge += 1;
            return;
        }
        self.unrequested_labels += u64::from(labelled && !asked);
        self.found.add(decision);
        self.experts.add(Period::Current, decision, keys);
        let groups = self.groups.of(decision, &self.policy);
        let thresholds = &self.thresholds;
        self.unrequested.resize_with(self.groups.names().len(), || Accumulator::new(thresholds));
        let observed = observed(decision, &self.policy, Review::NotRequested);
        let preview_flagged = match &mut self.preview {
            Some(preview) => preview.add(decision, &self.policy),
            None => observed.flagged,
        };
        if asked {
            self.requested.push(Requested {
                key: keys.of(&decision.id),
                subject: subject_key(decision, keys),
                observed,
                preview_flagged,
                groups: groups.into(),
            });
            return;
        }
        for group in groups {
            self.unrequested[group as usize].observe(&observed);
        }
        if let Some(preview) = &mut self.preview {
            preview.unrequested.observe(&under(preview_flagged, observed));
        }
    }

    /// The report, once all decisions have been added.
    pub(super) fn report(mut self, shape: Shape, answers: &Answers<'_>) -> PolicyReport {
        for requested in &self.requested {
            if requested.subject.is_some_and(answers.erased) {
                continue;
            }
            let observed = Observed { review: review((answers.target)(requested.key)), ..requested.observed };
            for group in &requested.groups {
                self.unrequested[*group as usize].observe(&observed);
            }
            if let Some(preview) = &mut self.preview {
                preview.unrequested.observe(&under(requested.preview_flagged, observed));
            }
        }
        let empty = Accumulator::new(&self.thresholds);
        let all = self.unrequested.first().unwrap_or(&empty);
        let (counts, figures) = in_force(all);
        let (groups, curve) = (self.group_reports(shape.min_labels), self.curve(all));
        PolicyReport {
            known: self.known,
            threshold: self.policy.threshold(),
            recall_target: self.recall_target,
            counts,
            actions: self.actions,
            response_rate: counts.response_rate(),
            nothing_to_judge: self.nothing_to_judge,
            unrequested_labels: self.unrequested_labels,
            figures,
            groups,
            curve,
            preview: self.preview.as_ref().map(PreviewTally::report),
            experts: self.experts.report(shape.compares, answers),
            lacks: self.found.lacks(),
            policy: self.policy.name,
        }
    }

    fn group_reports(&self, min_labels: u64) -> Vec<Group> {
        let named = self.groups.names().iter().zip(&self.unrequested).skip(1);
        let mut groups: Vec<Group> = named
            .map(|((by, name), accumulator)| {
                let (counts, figures) = in_force(accumulator);
                let figures = (counts.answered >= min_labels).then_some(figures);
                Group { by: *by, name: name.clone(), counts, figures }
            })
            .collect();
        let order = |group: &Group| (group.by, std::cmp::Reverse(group.counts.decisions));
        groups.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name)));
        // A policy whose decisions all have one tenant, or one language, has nothing to compare.
        for by in [Dimension::Tenant, Dimension::Language] {
            if groups.iter().filter(|group| group.by == by).count() == 1 {
                groups.retain(|group| group.by != by);
            }
        }
        groups
    }

    fn curve(&self, all: &Accumulator) -> Vec<Point> {
        let point = |threshold| {
            let estimates = all.at(threshold, Method::Assisted)?;
            let figures = super::estimates::figures(&estimates);
            Some(Point { threshold, flagged: estimates.flagged, figures })
        };
        curve(&self.policy).into_iter().filter_map(point).collect()
    }
}

/// The same decision under the previewed policy.
fn under(flagged: bool, observed: Observed) -> Observed {
    Observed { flagged, fixed: true, ..observed }
}
