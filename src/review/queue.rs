//! The queue of review requests: which are open, who has which, and which is next. Pure: the caller gives the time.
//!
//! # Order
//!
//! Each policy has three [lanes](Lane), and each lane is ordered by age. Of four requests that are served, two are from the
//! lane of held events, one is an audit, and one is uncertain, as long as each lane has requests; the share of an empty
//! lane goes to the others. So no lane can starve another.
//!
//! # Claims
//!
//! A reviewer has one claim at a time. A request is served to as many reviewers as answers are missing: one, or two with a
//! second opinion, one after the other or at the same time. A claim that expires is served again to anyone. Its reviewer
//! can still answer unless another one has the request by then.

mod answers;
mod claims;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::claim::Reviewer;
use super::entry::{Gone, Lane, Place, Rules, Status};
use super::shelves::{Dropped, Shelves};
use crate::core::event::{MAX_ID, Millis};
use crate::core::label::{Label, Source};
use crate::core::ledger::{EditAction, RoundId};
use crate::core::review::ReviewRequest;

/// The settings of a queue.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The greatest number of open requests; also of those with a reference answer, and of closed ones.
    pub requests: usize,
    /// The duration of a claim, in milliseconds.
    pub claim: Millis,
    /// The share of requests that get a second opinion.
    pub second_opinions: f64,
    /// The share of served requests with a reference answer.
    pub gold: f64,
    /// A secret of this process, from which the names of claims follow.
    pub secret: [u8; 32],
}

/// A request that was served.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// The name of the claim.
    pub token: String,
    /// The time at which the claim expires.
    pub expires: Millis,
    /// The request.
    pub request: Arc<ReviewRequest>,
}

/// The result of asking for a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// A request.
    Served(Served),
    /// There is none for this reviewer.
    Empty {
        /// The number of open requests that the reviewer skipped, has answered, or that others have.
        others: usize,
    },
}

/// An answer that may be sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Prepared {
    /// The label to send has this id and source.
    Send {
        /// The request.
        request: Arc<ReviewRequest>,
        /// The id of the label.
        label: String,
        /// The source of the label.
        source: Source,
    },
    /// The brokers have the answer already.
    Sent {
        /// The label.
        label: Box<Label>,
        /// The request.
        request: Arc<ReviewRequest>,
    },
}

/// A retraction that may be sent.
#[derive(Debug, Clone, PartialEq)]
pub enum PreparedUndo {
    /// The retraction to send.
    Send(Box<Label>),
    /// The brokers have the retraction already.
    Undone(Box<Label>),
}

/// Names by tenant. The empty tenant stands for all.
type ByTenant = BTreeMap<String, BTreeSet<String>>;

/// The counts of a queue since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Claims that expired.
    pub claims_expired: u64,
    /// Requests that were skipped.
    pub skipped: u64,
    /// Requests whose text is gone.
    pub expired: u64,
    /// Open audits that were dropped.
    pub dropped_audit: u64,
    /// Other open requests that were dropped.
    pub dropped_open: u64,
    /// Requests with a reference answer that were dropped.
    pub dropped_gold: u64,
    /// Labels that an event had too many of.
    pub dropped_labels: u64,
}

/// The queue.
pub struct Queue {
    settings: Settings,
    rules: BTreeMap<String, Rules>,
    shelves: Shelves,
    reviewers: BTreeMap<String, Reviewer>,
    /// The virtual time of each policy's lanes.
    passes: BTreeMap<String, [u64; 3]>,
    /// The annotators whose labels do not count, by tenant; the empty one stands for all.
    quarantined: ByTenant,
    /// The subjects whose data was erased, by tenant.
    erased: ByTenant,
    /// `true` if edits were read that the shelves do not follow yet.
    edited: bool,
    tokens: u64,
    counts: Counts,
}

impl Queue {
    /// Creates an empty queue.
    #[must_use]
    pub fn new(settings: Settings, rules: BTreeMap<String, Rules>) -> Self {
        Self {
            settings,
            rules,
            shelves: Shelves::default(),
            reviewers: BTreeMap::new(),
            passes: BTreeMap::new(),
            quarantined: ByTenant::new(),
            erased: ByTenant::new(),
            edited: false,
            tokens: 0,
            counts: Counts::default(),
        }
    }

    /// Forgets all events, labels and edits, which will be read again. Reviewers keep their claims.
    pub fn reset(&mut self) {
        self.shelves = Shelves::default();
        self.quarantined.clear();
        self.erased.clear();
    }

    /// Replaces the rules of the policies.
    pub fn set_rules(&mut self, rules: BTreeMap<String, Rules>) {
        self.rules = rules;
        self.reshelve_all();
    }

    /// The counts since the start.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The events, for metrics.
    #[must_use]
    pub fn shelves(&self) -> &Shelves {
        &self.shelves
    }

    /// The number of claims that have not expired.
    #[must_use]
    pub fn claims(&self, now: Millis) -> usize {
        let current = self.reviewers.values().filter_map(|reviewer| reviewer.current.as_ref());
        current.filter(|claim| claim.expires > now).count()
    }

    /// Adds a request that was read. Returns `false` if its policy is not known.
    pub fn on_request(&mut self, request: ReviewRequest, place: Place) -> bool {
        if !self.rules.contains_key(&request.id.policy) {
            return false;
        }
        let id = request.id.clone();
        self.shelves.entry(&id).set_request(request, place);
        self.reshelve(&id);
        self.drop_excess();
        true
    }

    /// Adds a label of any tool. Returns `false` if its policy is not known.
    pub fn on_label(&mut self, label: &Label) -> bool {
        let Some(rules) = self.rules.get(&label.policy) else { return false };
        let id = label.round();
        let dropped = !self.shelves.entry(&id).add_label(label, rules);
        self.counts.dropped_labels += u64::from(dropped);
        self.reshelve(&id);
        self.drop_excess();
        true
    }

    /// Applies an edit of the ledger. It counts at once; the shelves follow with the next [`Self::expire`], because a ledger
    /// can have thousands of edits.
    pub fn on_edit(&mut self, action: &EditAction) {
        let (all, tenant, name) = match action {
            EditAction::Quarantine { tenant, annotator } => (&mut self.quarantined, tenant, annotator),
            EditAction::Erase { tenant, subject } => (&mut self.erased, tenant, subject),
        };
        all.entry(tenant.clone()).or_default().insert(name.clone());
        self.edited = true;
    }

    /// Closes the request of a claim, because its text was deleted.
    pub fn on_expired(&mut self, id: &RoundId) {
        if self.shelves.get(id).is_some_and(|entry| !entry.expired) {
            self.shelves.entry(id).expired = true;
            self.counts.expired += 1;
            self.reshelve(id);
        }
    }

    /// Returns the request that the reviewer has, or the next one of the policy. There is none of a tenant for which the
    /// reviewer is in quarantine.
    pub fn next(&mut self, reviewer: &str, policy: &str, now: Millis) -> Next {
        self.expire(now);
        if let Some(served) = self.resume(reviewer, policy, now) {
            return Next::Served(served);
        }
        let found = match self.next_gold(reviewer, policy) {
            Some(id) => Some(id),
            None => self.next_open(reviewer, policy),
        };
        match found.and_then(|id| self.claim(reviewer, &id, now)) {
            Some(served) => Next::Served(served),
            None => Next::Empty { others: self.open_of(policy) },
        }
    }

    /// The number of open requests of a policy.
    #[must_use]
    pub fn open_of(&self, policy: &str) -> usize {
        self.shelves.policy(policy).map_or(0, |shelves| shelves.lanes.values().map(BTreeMap::len).sum())
    }

    /// Returns `true` if the person's labels do not count for this tenant.
    #[must_use]
    pub fn is_quarantined(&self, tenant: &str, annotator: &str) -> bool {
        has(&self.quarantined, tenant, annotator)
    }

    /// Returns `true` if the person's labels do not count for some tenant.
    #[must_use]
    pub fn is_quarantined_anywhere(&self, annotator: &str) -> bool {
        self.quarantined.values().any(|names| names.contains(annotator))
    }

    /// Returns the status of an event.
    #[must_use]
    pub fn status(&self, id: &RoundId) -> Status {
        let (Some(entry), Some(rules)) = (self.shelves.get(id), self.rules.get(&id.policy)) else {
            return Status::NoRequest;
        };
        let subject = entry.request.as_deref().and_then(|request| request.subject.as_deref());
        if subject.is_some_and(|subject| has(&self.erased, &id.tenant, subject)) {
            return Status::Gone(Gone::Erased);
        }
        let quarantined = |annotator: &str| has(&self.quarantined, &id.tenant, annotator);
        entry.status(rules, self.settings.second_opinions, quarantined)
    }

    /// Ends the claims whose time is over, and moves the events that edits have closed or opened.
    pub fn expire(&mut self, now: Millis) {
        if std::mem::take(&mut self.edited) {
            self.reshelve_all();
        }
        let expired =
            self.reviewers.values_mut().map(|reviewer| u64::from(reviewer.expire(now))).sum::<u64>();
        self.counts.claims_expired += expired;
    }

    fn reshelve(&mut self, id: &RoundId) {
        let status = self.status(id);
        self.shelves.put(id, status);
    }

    fn reshelve_all(&mut self) {
        for id in self.shelves.ids() {
            self.reshelve(&id);
        }
    }

    fn drop_excess(&mut self) {
        for dropped in self.shelves.drop_excess(self.settings.requests) {
            match dropped {
                Dropped::Open(Lane::Audit) => self.counts.dropped_audit += 1,
                Dropped::Open(_) => self.counts.dropped_open += 1,
                Dropped::Gold => self.counts.dropped_gold += 1,
                // A closed request is kept only so that it can be opened again.
                Dropped::Idle => {}
            }
        }
    }
}

/// Returns `true` if the name is among those of the tenant, or of all tenants.
fn has(all: &ByTenant, tenant: &str, name: &str) -> bool {
    [tenant, ""].into_iter().filter_map(|tenant| all.get(tenant)).any(|names| names.contains(name))
}

/// The id of the label with this number that a reviewer gives an event. It is unique within the event.
fn label_id(reviewer: &str, number: usize) -> String {
    let id = format!("console/{reviewer}/{number}");
    if id.len() <= MAX_ID {
        id
    } else {
        format!("console/{}/{number}", hex::encode(Sha256::digest(reviewer)))
    }
}
