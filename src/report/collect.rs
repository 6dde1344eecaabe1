//! The collection of labels and decisions, in bounded memory: one entry for each request, and sums over all other
//! decisions.

use std::collections::{BTreeMap, HashMap};

use super::figures::{FORMAT, Outside, Report};
use super::keys::{Keys, RoundKey};
use super::labels::{Answer, Labels};
use super::preview::Changes;
use super::tally::{Answers, PolicyTally, Shape, subject_key};
use crate::codec::time::format_millis;
use crate::config::Policies;
use crate::core::decision::Decision;
use crate::core::event::Millis;
use crate::core::label::Label;
use crate::core::ledger::Record;
use crate::core::policy::Policy;

/// The greatest number of policies. The decisions of further ones are counted as skipped.
const MAX_POLICIES: usize = 256;

/// The options of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The round time from which on decisions are counted; `None` for all.
    pub since: Option<Millis>,
    /// The round time before which decisions are counted; `None` for all.
    pub until: Option<Millis>,
    /// The only policy; `None` for all.
    pub policy: Option<String>,
    /// The least number of labels for figures of a group.
    pub min_labels: u64,
    /// The changes to preview.
    pub changes: Changes,
}

impl Default for Settings {
    /// All decisions of all policies, without a preview.
    fn default() -> Self {
        Self { since: None, until: None, policy: None, min_labels: 30, changes: Changes::default() }
    }
}

impl Settings {
    /// The start of the period before, which is as long as the period; `None` unless both ends are given.
    #[must_use]
    pub fn before(&self) -> Option<Millis> {
        let (since, until) = (self.since?, self.until?);
        Some(since.saturating_sub(until.saturating_sub(since)))
    }
}

/// Collects labels and decisions for a report. Labels are added first, so that a label on a decision without a review request
/// is found; the answers to requests may also come later.
#[derive(Debug)]
pub struct Collector {
    policies: Policies,
    settings: Settings,
    keys: Keys,
    labels: Labels,
    tallies: BTreeMap<String, PolicyTally>,
    skipped: BTreeMap<String, u64>,
    decisions: u64,
    /// The number of decisions outside of the period, and the least and the greatest of their times.
    outside: Option<(u64, Millis, Millis)>,
}

impl Collector {
    /// An empty report about decisions of these policies.
    #[must_use]
    pub fn new(policies: Policies, settings: Settings) -> Self {
        Self {
            policies,
            settings,
            keys: Keys::default(),
            labels: Labels::default(),
            tallies: BTreeMap::new(),
            skipped: BTreeMap::new(),
            decisions: 0,
            outside: None,
        }
    }

    /// Adds a label of a file.
    pub fn add_label(&mut self, label: Label) {
        if self.labels.add_label(label).is_err() {
            self.skip("labels with a number out of range");
        }
    }

    /// Adds a record of the ledger.
    pub fn add_record(&mut self, record: &Record) {
        if self.labels.add_record(record, &self.keys).is_err() {
            self.skip("ledger records with a number out of range");
        }
    }

    /// Counts a record that cannot be used.
    pub fn skip(&mut self, reason: &str) {
        *self.skipped.entry(reason.to_owned()).or_default() += 1;
    }

    /// The number of decisions in the period.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.decisions
    }

    /// The number of decisions that are kept: those that were requested. The others are summed.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.tallies.values().map(PolicyTally::kept).sum()
    }

    /// Adds a decision.
    pub fn add_decision(&mut self, decision: &Decision) {
        let settings = &self.settings;
        let time = decision.round_time;
        let is_other = settings.policy.as_ref().is_some_and(|only| *only != decision.id.policy);
        let is_before = settings.since.is_some_and(|since| time < since);
        let is_older = is_before && settings.before().is_none_or(|before| time < before);
        if is_other {
            return;
        }
        if is_older || settings.until.is_some_and(|until| time >= until) {
            let (number, first, last) = self.outside.unwrap_or((0, time, time));
            self.outside = Some((number + 1, first.min(time), last.max(time)));
            return;
        }
        let erased = |(tenant, subject)| self.labels.erases(tenant, subject, &self.keys);
        if subject_key(decision, &self.keys).is_some_and(erased) {
            return self.skip("decisions of erased subjects");
        }
        let Some(tally) =
            tally(&mut self.tallies, &decision.id.policy, &self.policies, &self.settings.changes)
        else {
            return self.skip("decisions of further policies: select one with --policy");
        };
        if is_before {
            return tally.add_before(decision, &self.keys);
        }
        self.decisions += 1;
        let labelled = self.labels.has_label(&decision.id, &tally.policy().mapping);
        tally.add(decision, labelled, &self.keys);
    }

    /// The report about everything that was added.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let refused = self.tallies.values().map(PolicyTally::refused_votes).sum();
        if refused > 0 {
            self.skipped.insert("votes of further experts".into(), refused);
        }
        let erased = |(tenant, subject)| self.labels.erases(tenant, subject, &self.keys);
        let before = self.settings.before();
        let outside = self.outside.map(|(decisions, first, last)| Outside {
            decisions,
            first: format_millis(first),
            last: format_millis(last),
        });
        let shape = Shape { min_labels: self.settings.min_labels, compares: before.is_some() };
        let report = |(name, tally): (String, PolicyTally)| {
            let answers = answers(&self.labels, &name, tally.policy(), &self.keys);
            let target = |key| answers.get(&key).map(|answer| answer.target);
            tally.report(shape, &Answers { target: &target, erased: &erased })
        };
        Report {
            format: FORMAT,
            since: self.settings.since.map(format_millis),
            until: self.settings.until.map(format_millis),
            before: before.map(format_millis),
            min_labels: self.settings.min_labels,
            policies: self.tallies.into_iter().map(report).collect(),
            skipped: self.skipped,
            outside,
        }
    }
}

/// The tally of a policy, which is added if it is new. `None` if there are too many policies.
fn tally<'a>(
    tallies: &'a mut BTreeMap<String, PolicyTally>,
    name: &str,
    policies: &Policies,
    changes: &Changes,
) -> Option<&'a mut PolicyTally> {
    if !tallies.contains_key(name) {
        if tallies.len() >= MAX_POLICIES {
            return None;
        }
        let policy = policies.get_or_default(name);
        let changes = Some(changes).filter(|changes| !changes.is_empty());
        let target = policies.recall_targets.get(name).copied();
        tallies
            .insert(name.to_owned(), PolicyTally::new(policy, policies.get(name).is_some(), target, changes));
    }
    tallies.get_mut(name)
}

/// The answers to the requests of a policy.
pub(super) fn answers(
    labels: &Labels,
    name: &str,
    policy: &Policy,
    keys: &Keys,
) -> HashMap<RoundKey, Answer> {
    let answers = labels.answers(name, &policy.mapping);
    answers.map(|(tenant, event, answer)| (keys.round(tenant, event), answer)).collect()
}
