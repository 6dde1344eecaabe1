//! The decisions and labels of the last days, in bounded memory.

use std::collections::BTreeMap;

use super::alarms::{Alarms, Audited, Raised};
use crate::config::Policies;
use crate::core::decision::Decision;
use crate::core::estimate::{Accumulator, Observed, Review, Thresholds};
use crate::core::event::Millis;
use crate::core::ledger::Record;
use crate::core::policy::Policy;
use crate::report::collect::answers;
use crate::report::estimates::{in_force, is_requested, observed_in_force, review};
use crate::report::headline::Headline;
use crate::report::keys::{Keys, RoundKey};
use crate::report::labels::Labels;
use crate::report::tally::{SubjectKey, subject_key};

/// A day in milliseconds.
pub(super) const DAY: Millis = 86_400_000;
/// The greatest number of requests of a policy. With more, the oldest day is dropped.
const MAX_REQUESTS: usize = 500_000;

/// A review request of a day.
#[derive(Debug)]
struct Request {
    key: RoundKey,
    subject: Option<SubjectKey>,
    observed: Observed,
    /// The votes, if the event was audited and its label has not arrived.
    audited: Option<Audited>,
}

/// The decisions of one day.
#[derive(Debug)]
struct Day {
    unrequested: Accumulator,
    requests: Vec<Request>,
}

/// The decisions of one policy, by day.
#[derive(Debug)]
struct PolicyWindow {
    thresholds: Thresholds,
    days: BTreeMap<i64, Day>,
    requests: usize,
    alarms: Alarms,
    /// The time of the newest alarm of each value.
    raised: BTreeMap<String, Millis>,
}

/// The window of all policies.
#[derive(Debug)]
pub(super) struct Window {
    days: i64,
    today: i64,
    keys: Keys,
    labels: Labels,
    policies: BTreeMap<String, PolicyWindow>,
}

/// An alarm of a policy, and the time of the decision, or of the newest label, that raised it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PolicyAlarm {
    pub(super) policy: String,
    pub(super) raised: Raised,
    pub(super) time: Millis,
}

impl PolicyWindow {
    fn new() -> Self {
        Self {
            thresholds: Thresholds::new(&[]),
            days: BTreeMap::new(),
            requests: 0,
            alarms: Alarms::default(),
            raised: BTreeMap::new(),
        }
    }

    /// Drops the days before `oldest`, and further ones while there are too many requests. Returns `true` if there were.
    fn shrink(&mut self, oldest: i64) -> bool {
        let mut is_too_large = false;
        while let Some(first) = self.days.first_entry() {
            let too_many = self.requests > MAX_REQUESTS;
            if *first.key() >= oldest && !too_many {
                break;
            }
            is_too_large |= *first.key() >= oldest;
            self.requests -= first.remove().requests.len();
        }
        is_too_large
    }
}

impl Window {
    /// An empty window of `days` days, which ends at `now`.
    pub(super) fn new(days: u32, now: Millis) -> Self {
        Self {
            days: i64::from(days),
            today: now.div_euclid(DAY),
            keys: Keys::default(),
            labels: Labels::default(),
            policies: BTreeMap::new(),
        }
    }

    /// The start of the window.
    pub(super) fn start(&self) -> Millis {
        (self.today - self.days + 1) * DAY
    }

    /// Moves the end of the window to `now`. Returns the policies whose window is shorter, because they have too many
    /// requests.
    pub(super) fn advance(&mut self, now: Millis) -> Vec<String> {
        let today = now.div_euclid(DAY);
        if today > self.today {
            self.today = today;
            self.labels.forget(self.start());
        }
        let oldest = self.today - self.days + 1;
        let shrunk =
            self.policies.iter_mut().filter_map(|(name, policy)| policy.shrink(oldest).then(|| name.clone()));
        shrunk.collect()
    }

    /// Adds a record of the ledger.
    pub(super) fn add_record(&mut self, record: &Record) {
        let is_old = matches!(record, Record::Label(label) if label.received < self.start());
        if !is_old {
            // A number out of range was refused by the learner already.
            let _ = self.labels.add_record(record, &self.keys);
        }
    }

    /// Adds a decision of a policy that the policies file has. Returns the alarms that it raises.
    pub(super) fn add_decision(&mut self, decision: &Decision) -> Vec<PolicyAlarm> {
        let (name, time) = (&decision.id.policy, decision.round_time);
        let day = time.div_euclid(DAY);
        // A sender's clock may be wrong. A day in the future would stay in the window until it has passed.
        if time < self.start() || day > self.today + 1 {
            return Vec::new();
        }
        if !self.policies.contains_key(name) {
            self.policies.insert(name.clone(), PolicyWindow::new());
        }
        let policy = self.policies.get_mut(name).expect("the policy was added");
        let raised = policy.alarms.add(decision);
        if !decision.nothing_to_judge {
            let thresholds = &policy.thresholds;
            let empty = || Day { unrequested: Accumulator::new(thresholds), requests: Vec::new() };
            let day = policy.days.entry(day).or_insert_with(empty);
            if is_requested(decision) {
                policy.requests += 1;
                day.requests.push(Request {
                    key: self.keys.of(&decision.id),
                    subject: subject_key(decision, &self.keys),
                    observed: observed_in_force(decision, Review::Unanswered),
                    audited: policy.alarms.audited(decision),
                });
            } else {
                day.unrequested.observe(&observed_in_force(decision, Review::NotRequested));
            }
        }
        let alarm = |raised: Raised| {
            policy.raised.insert(shown(&raised), time);
            PolicyAlarm { policy: name.clone(), raised, time }
        };
        raised.into_iter().map(alarm).collect()
    }

    /// Forgets the policies that the policies file no longer has. Returns their names.
    pub(super) fn remove_policies(&mut self, policies: &Policies) -> Vec<String> {
        let gone = |name: &&String| policies.get(name).is_none();
        let removed: Vec<String> = self.policies.keys().filter(gone).cloned().collect();
        self.policies.retain(|name, _| !removed.contains(name));
        removed
    }

    /// The headlines of all policies of the policies file, and the alarms that labels have raised since the last call.
    pub(super) fn headlines(
        &mut self,
        policies: &Policies,
        now: Millis,
    ) -> (Vec<Headline>, Vec<PolicyAlarm>) {
        let (mut headlines, mut alarms) = (Vec::new(), Vec::new());
        for (name, window) in &mut self.policies {
            let Some(policy) = policies.get(name) else { continue };
            let (headline, raised) = headline(window, policy, (&self.labels, &self.keys), now);
            headlines
                .push(Headline { recall_target: policies.recall_targets.get(name).copied(), ..headline });
            let alarm = |(raised, time)| PolicyAlarm { policy: name.clone(), raised, time };
            alarms.extend(raised.into_iter().map(alarm));
        }
        (headlines, alarms)
    }
}

/// The name of a watched value.
fn shown(raised: &Raised) -> String {
    let (word, expert) = (raised.watched.word(), raised.watched.expert());
    if expert.is_empty() { word.to_owned() } else { format!("{word} {expert}") }
}

/// The headline of one policy, and the alarms that labels raise, each with the time of the label.
fn headline(
    window: &mut PolicyWindow,
    policy: &Policy,
    (labels, keys): (&Labels, &Keys),
    now: Millis,
) -> (Headline, Vec<(Raised, Millis)>) {
    let answers = answers(labels, &policy.name, policy, keys);
    let mut all = Accumulator::new(&window.thresholds);
    let mut raised = Vec::new();
    for day in window.days.values_mut() {
        all.merge(&day.unrequested);
        for request in &mut day.requests {
            let erased = |(tenant, subject)| labels.erases(tenant, subject, keys);
            if request.subject.is_some_and(erased) {
                // The decision stays in the sums, as those without a request do. Its answer leaves them.
                request.audited = None;
                all.observe(&request.observed);
                continue;
            }
            let answer = answers.get(&request.key);
            let target = answer.map(|answer| answer.target);
            all.observe(&Observed { review: review(target), ..request.observed });
            if let Some(answer) = answer
                && let Some(audited) = request.audited.take()
            {
                let alarms = window.alarms.answered(&audited, answer.target, policy);
                raised.extend(alarms.into_iter().map(|raised| (raised, answer.received)));
            }
        }
    }
    for (raised, time) in &raised {
        let newest = window.raised.entry(shown(raised)).or_insert(*time);
        *newest = (*newest).max(*time);
    }
    window.raised.retain(|_, time| now.saturating_sub(*time) < DAY);
    let (counts, figures) = in_force(&all);
    let headline = Headline {
        policy: policy.name.clone(),
        counts,
        response_rate: counts.response_rate(),
        recall_target: None,
        figures,
        alarms: window.raised.keys().cloned().collect(),
    };
    (headline, raised)
}
