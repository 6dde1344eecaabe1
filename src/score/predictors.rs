//! The predictors, followed on their compacted topic: the newest usable one of each policy combines its votes.
//!
//! One that cannot be used is counted, and named by readiness where the policy has no older one to go on with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::codec;
use crate::config::Policies;
use crate::core::event::Millis;
use crate::core::predictor::{Predictor, PredictorError, Published};
use crate::kafka::{Consumed, Followed, Follower, SourceError};
use crate::ops::{Health, metrics};

/// The predictor of each policy.
pub struct Predictors {
    follower: Follower,
    policies: Arc<Policies>,
    experts: Vec<String>,
    by_policy: BTreeMap<String, Held>,
    /// The newest predictors of policies that this process does not have (yet).
    others: BTreeMap<String, (Place, Result<Published, Refused>)>,
}

impl Drop for Predictors {
    /// A scorer that has ended uses no predictor.
    fn drop(&mut self) {
        for policy in self.by_policy.keys() {
            metrics::predictor_in_use(policy, None, 0, true);
        }
    }
}

/// A policy's predictor.
struct Held {
    /// The secret of its keyed draws.
    seed: Option<Vec<u8>>,
    predictor: Predictor,
    /// The record of the predictor in use; none while nothing that was published can be used.
    used: Option<Place>,
    /// Why the newest published one is not in use.
    refused: Option<Refused>,
}

/// A record of the predictors' topic.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: i64,
    /// Its broker timestamp.
    written: Option<Millis>,
}

/// Why a published predictor cannot be used.
#[derive(Debug, Clone, PartialEq)]
struct Refused {
    reason: &'static str,
    text: String,
}

impl Predictors {
    /// Starts with untaught predictors over the panel's experts.
    ///
    /// # Errors
    /// Where a policy's learner refuses these experts.
    pub fn new(
        follower: Follower,
        policies: &Arc<Policies>,
        experts: Vec<String>,
    ) -> Result<Self, PredictorError> {
        let untaught = |policy: &crate::core::policy::Policy| {
            let predictor = Predictor::prior(&policy.learner, &policy.name, &experts)?;
            let seed = policy.learner.seed.clone();
            Ok((policy.name.clone(), Held { seed, predictor, used: None, refused: None }))
        };
        let by_policy = policies.policies.values().map(untaught).collect::<Result<_, PredictorError>>()?;
        Ok(Self { follower, policies: Arc::clone(policies), experts, by_policy, others: BTreeMap::new() })
    }

    /// Takes what has been published. With `patience` zero only what is there already.
    ///
    /// # Errors
    /// Where the topic cannot be followed.
    pub fn follow(&mut self, patience: Duration) -> Result<(), SourceError> {
        let mut patience = patience;
        while let Followed::Record(record) = self.follower.poll(patience)? {
            patience = Duration::ZERO;
            self.read(&record);
        }
        Ok(())
    }

    fn read(&mut self, record: &Consumed) {
        let place = Place { offset: record.offset, written: record.timestamp };
        let key = std::str::from_utf8(record.key.as_deref().unwrap_or_default());
        let Some(payload) = &record.payload else {
            if let Ok(policy) = key {
                self.withdraw(policy);
            }
            return;
        };
        match (codec::decode_published(payload), key) {
            (Ok(published), _) => self.take(place, published),
            (Err(error), Ok(policy)) => {
                let text = format!("{error}; run one version of score and learn");
                self.refuse(policy, place, Refused { reason: error.name(), text });
            }
            (Err(error), Err(_)) => {
                let (reason, offset) = (error.name(), record.offset);
                tracing::error!(reason, offset, "a predictor cannot be read, and its key names no policy");
            }
        }
    }

    fn take(&mut self, place: Place, mut published: Published) {
        let policy = published.policy.clone();
        let Some(held) = self.by_policy.get_mut(&policy) else {
            self.others.insert(policy, (place, Ok(published)));
            return;
        };
        // The secret of keyed draws never travels: it is in both roles' policies.
        published.learner.seed.clone_from(&held.seed);
        match Predictor::published(&published) {
            Ok(predictor) => {
                (held.predictor, held.used, held.refused) = (predictor, Some(place), None);
            }
            Err(error) => {
                let fix = match error {
                    PredictorError::Format { .. } => "",
                    _ => "; run score and learn with the same version and policies",
                };
                self.refuse(&policy, place, Refused { reason: error.name(), text: format!("{error}{fix}") });
            }
        }
    }

    /// A published predictor cannot be used: the one from before, if there is one, stays in use.
    fn refuse(&mut self, policy: &str, place: Place, refused: Refused) {
        let Some(held) = self.by_policy.get_mut(policy) else {
            self.others.insert(policy.to_owned(), (place, Err(refused)));
            return;
        };
        metrics::PREDICTOR_REJECTED.with([policy, refused.reason]).increment(1);
        // A learner publishes each second: the same again is only counted.
        if held.refused.as_ref() != Some(&refused) {
            let (reason, error, offset) = (refused.reason, &refused.text, place.offset);
            let in_use = held.used.map(|place| place.offset);
            tracing::error!(policy, reason, offset, in_use, error, "a predictor cannot be used");
        }
        held.refused = Some(refused);
    }

    /// A tombstone: nothing is learned for this policy (any more).
    fn withdraw(&mut self, policy: &str) {
        self.others.remove(policy);
        self.reset(policy);
        if let Some(held) = self.by_policy.get_mut(policy) {
            held.refused = None;
        }
    }

    /// Goes back to an untaught predictor.
    fn reset(&mut self, name: &str) {
        let Some(policy) = self.policies.get(name) else { return };
        match Predictor::prior(&policy.learner, &policy.name, &self.experts) {
            Ok(predictor) => {
                let refused = self.by_policy.remove(name).and_then(|held| held.refused);
                let seed = policy.learner.seed.clone();
                self.by_policy.insert(name.to_owned(), Held { seed, predictor, used: None, refused });
            }
            Err(error) => tracing::error!(policy = policy.name, %error, "no untaught predictor"),
        }
    }

    /// Takes changed policies: a new one has learned nothing yet, and one that has learned goes on with what
    /// is published until its learner publishes anew.
    pub fn adopt(&mut self, policies: &Arc<Policies>) {
        self.policies = Arc::clone(policies);
        for policy in policies.policies.values() {
            match self.by_policy.get_mut(&policy.name).filter(|held| held.used.is_some()) {
                Some(held) => held.seed.clone_from(&policy.learner.seed),
                None => self.reset(&policy.name),
            }
            match self.others.remove(&policy.name) {
                Some((place, Ok(published))) => self.take(place, published),
                Some((place, Err(refused))) => self.refuse(&policy.name, place, refused),
                None => {}
            }
        }
    }

    /// Takes a changed panel: where nothing is learned yet the predictor is over its experts. What is published goes on,
    /// and knows a new expert from its first labelled round.
    pub fn seat(&mut self, experts: Vec<String>) {
        if experts == self.experts {
            return;
        }
        self.experts = experts;
        let untaught = self.by_policy.iter().filter(|(_, held)| held.used.is_none());
        let names: Vec<String> = untaught.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.reset(name));
    }

    /// Whether everything that was published before the start has been taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.follower.at_end()
    }

    /// The predictor of a policy.
    pub fn of(&mut self, policy: &str) -> Option<&mut Predictor> {
        self.by_policy.get_mut(policy).map(|held| &mut held.predictor)
    }

    /// Tells metrics which predictors are in use and how old they are at `now`, and readiness whether a policy has
    /// published predictors and can use none.
    pub fn tell(&self, health: &Health, now: Millis) {
        let mut notes = Vec::new();
        let mut usable = true;
        for (policy, held) in &self.by_policy {
            let age =
                held.used.and_then(|used| used.written).map_or(0, |written| now.saturating_sub(written));
            metrics::predictor_in_use(policy, held.used.map(|used| used.offset), age, held.refused.is_none());
            let Some(Refused { reason, text }) = &held.refused else { continue };
            usable &= held.used.is_some();
            let older = if held.used.is_some() { ", and an older one is in use" } else { "" };
            notes.push(format!("policy {policy}: {reason}: {text}{older}"));
        }
        health.note("predictors usable", usable, &notes.join("; "));
    }
}
