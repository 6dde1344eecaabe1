//! The predictors in use. They are followed on their compacted topic, and the newest usable one of each policy combines
//! the policy's votes.
//!
//! A predictor that cannot be used is counted. Readiness names it if its policy has no older one to continue with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ScoreError;
use crate::codec;
use crate::config::Policies;
use crate::core::event::Millis;
use crate::core::policy::Policy;
use crate::core::predictor::{Predictor, PredictorError, Published};
use crate::kafka::{Consumed, Followed, Follower};
use crate::ops::{Health, metrics};

/// The predictors of all policies.
pub struct Predictors {
    follower: Follower,
    policies: Arc<Policies>,
    experts: Vec<String>,
    by_policy: BTreeMap<String, PolicyPredictor>,
    /// The newest predictors of policies that this process does not have. It may have them after a reload.
    unknown_policies: BTreeMap<String, (RecordRef, Result<Published, Rejection>)>,
}

impl Drop for Predictors {
    /// Resets the metrics: a scorer that has ended uses no predictor.
    fn drop(&mut self) {
        for policy in self.by_policy.keys() {
            metrics::predictor_in_use(policy, None, 0, true);
        }
    }
}

/// The predictor of one policy.
struct PolicyPredictor {
    /// The secret seed of keyed draws, which is never published.
    seed: Option<Vec<u8>>,
    predictor: Predictor,
    /// The record of the predictor, or `None` for the prior: no published predictor can be used.
    published: Option<RecordRef>,
    /// The reason for which the newest published predictor is not in use.
    rejection: Option<Rejection>,
}

impl PolicyPredictor {
    fn prior(policy: &Policy, experts: &[String]) -> Result<Self, PredictorError> {
        let predictor = Predictor::prior(&policy.learner, &policy.name, experts)?;
        Ok(Self { seed: policy.learner.seed.clone(), predictor, published: None, rejection: None })
    }
}

/// A record of the predictors' topic.
#[derive(Debug, Clone, Copy)]
struct RecordRef {
    offset: i64,
    /// The broker timestamp, in milliseconds since the Unix epoch.
    timestamp: Option<Millis>,
}

/// The reason for which a published predictor cannot be used.
#[derive(Debug, Clone, PartialEq)]
struct Rejection {
    /// The error's name, which is a metric label.
    reason: &'static str,
    message: String,
}

impl Predictors {
    /// Begins with the prior of each policy over the panel's experts.
    ///
    /// # Errors
    /// Returns an error if a policy's learner does not accept these experts.
    pub fn new(
        follower: Follower,
        policies: &Arc<Policies>,
        experts: Vec<String>,
    ) -> Result<Self, PredictorError> {
        let prior = |policy: &Policy| Ok((policy.name.clone(), PolicyPredictor::prior(policy, &experts)?));
        let by_policy = policies.policies.values().map(prior).collect::<Result<_, PredictorError>>()?;
        let policies = Arc::clone(policies);
        Ok(Self { follower, policies, experts, by_policy, unknown_policies: BTreeMap::new() })
    }

    /// Takes the predictors that were published, waiting at most `timeout` for the first of them.
    ///
    /// # Errors
    /// Returns an error if the topic cannot be read.
    pub fn follow(&mut self, timeout: Duration) -> Result<(), ScoreError> {
        let mut timeout = timeout;
        while let Followed::Record(record) = self.follower.poll(timeout)? {
            timeout = Duration::ZERO;
            self.on_record(&record)?;
        }
        Ok(())
    }

    fn on_record(&mut self, record: &Consumed) -> Result<(), PredictorError> {
        let at = RecordRef { offset: record.offset, timestamp: record.timestamp };
        let key = std::str::from_utf8(record.key.as_deref().unwrap_or_default());
        let Some(payload) = &record.payload else {
            return key.map_or(Ok(()), |policy| self.on_tombstone(policy));
        };
        match (codec::decode_published(payload), key) {
            (Ok(published), _) => self.on_published(at, published),
            (Err(error), Ok(policy)) => {
                let message = format!("{error}; run one version of score and learn");
                self.reject(policy, at, Rejection { reason: error.name(), message });
            }
            (Err(error), Err(_)) => {
                let (reason, offset) = (error.name(), record.offset);
                tracing::error!(reason, offset, "a predictor cannot be read, and its key names no policy");
            }
        }
        Ok(())
    }

    fn on_published(&mut self, at: RecordRef, mut published: Published) {
        let policy = published.policy.clone();
        let Some(current) = self.by_policy.get_mut(&policy) else {
            self.unknown_policies.insert(policy, (at, Ok(published)));
            return;
        };
        // The secret of keyed draws is never published: both roles have it in their policies.
        published.learner.seed.clone_from(&current.seed);
        match Predictor::published(&published) {
            Ok(predictor) => {
                (current.predictor, current.published, current.rejection) = (predictor, Some(at), None);
            }
            Err(error) => {
                let fix = match error {
                    PredictorError::Format { .. } => "",
                    _ => "; run score and learn with the same version and policies",
                };
                let rejection = Rejection { reason: error.name(), message: format!("{error}{fix}") };
                self.reject(&policy, at, rejection);
            }
        }
    }

    /// Counts a published predictor that cannot be used. An older one stays in use, if there is one.
    fn reject(&mut self, policy: &str, at: RecordRef, rejection: Rejection) {
        let Some(current) = self.by_policy.get_mut(policy) else {
            self.unknown_policies.insert(policy.to_owned(), (at, Err(rejection)));
            return;
        };
        metrics::PREDICTOR_REJECTED.with([policy, rejection.reason]).increment(1);
        // A learner publishes every second, so a repeated rejection is only counted.
        if current.rejection.as_ref() != Some(&rejection) {
            let (reason, error, offset) = (rejection.reason, &rejection.message, at.offset);
            let in_use = current.published.map(|published| published.offset);
            tracing::error!(policy, reason, offset, in_use, error, "a predictor cannot be used");
        }
        current.rejection = Some(rejection);
    }

    /// Returns to the prior: nothing is learned for this policy, or nothing any more.
    fn on_tombstone(&mut self, policy: &str) -> Result<(), PredictorError> {
        self.unknown_policies.remove(policy);
        self.reset(policy)?;
        if let Some(current) = self.by_policy.get_mut(policy) {
            current.rejection = None;
        }
        Ok(())
    }

    /// Replaces a policy's predictor by its prior. A policy that this process does not have is ignored.
    fn reset(&mut self, name: &str) -> Result<(), PredictorError> {
        let Some(policy) = self.policies.get(name) else { return Ok(()) };
        let prior = PolicyPredictor::prior(policy, &self.experts)?;
        let rejection = self.by_policy.remove(name).and_then(|current| current.rejection);
        self.by_policy.insert(name.to_owned(), PolicyPredictor { rejection, ..prior });
        Ok(())
    }

    /// Takes policies and the experts of the panel after either has changed. A policy with a published predictor
    /// continues with that one until its learner publishes the next; a new expert has no weight in it before its first
    /// labelled round. Any other policy begins with its prior, or with the predictor that was published for it.
    ///
    /// # Errors
    /// Returns an error if a policy's learner does not accept the experts.
    pub fn on_reload(
        &mut self,
        policies: &Arc<Policies>,
        experts: Vec<String>,
    ) -> Result<(), PredictorError> {
        self.policies = Arc::clone(policies);
        self.experts = experts;
        for policy in policies.policies.values() {
            match self.by_policy.get_mut(&policy.name).filter(|current| current.published.is_some()) {
                Some(current) => current.seed.clone_from(&policy.learner.seed),
                None => self.reset(&policy.name)?,
            }
            match self.unknown_policies.remove(&policy.name) {
                Some((at, Ok(published))) => self.on_published(at, published),
                Some((at, Err(rejection))) => self.reject(&policy.name, at, rejection),
                None => {}
            }
        }
        Ok(())
    }

    /// Returns `true` if everything that was published before the start has been taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.follower.at_end()
    }

    /// Returns the predictor of the policy of an accepted event.
    ///
    /// # Errors
    /// Returns [`ScoreError::Invariant`] if the policy has none: every policy in force has a predictor, and a reload
    /// cannot remove a policy.
    pub fn get_mut(&mut self, policy: &str) -> Result<&mut Predictor, ScoreError> {
        match self.by_policy.get_mut(policy) {
            Some(current) => Ok(&mut current.predictor),
            None => Err(ScoreError::Invariant { what: format!("policy {policy} has a predictor") }),
        }
    }

    /// Reports to metrics which predictors are in use and their age at `now`, and to health whether each policy with
    /// published predictors can use one of them.
    pub fn report(&self, health: &Health, now: Millis) {
        let mut notes = Vec::new();
        let mut usable = true;
        for (policy, current) in &self.by_policy {
            let published = current.published;
            let age = published.and_then(|at| at.timestamp).map_or(0, |then| now.saturating_sub(then));
            let offset = published.map(|at| at.offset);
            metrics::predictor_in_use(policy, offset, age, current.rejection.is_none());
            let Some(Rejection { reason, message }) = &current.rejection else { continue };
            usable &= published.is_some();
            let older = if published.is_some() { ", and an older one is in use" } else { "" };
            notes.push(format!("policy {policy}: {reason}: {message}{older}"));
        }
        health.note("predictors usable", usable, &notes.join("; "));
    }
}
