//! The predictors, followed on their compacted topic: the newest of each policy combines its votes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::codec;
use crate::config::Policies;
use crate::core::predictor::{Predictor, PredictorError, Published};
use crate::kafka::{Followed, Follower, SourceError};

/// The predictor of each policy.
pub struct Predictors {
    follower: Follower,
    policies: Arc<Policies>,
    experts: Vec<String>,
    /// With the secret of its keyed draws.
    by_policy: BTreeMap<String, (Option<Vec<u8>>, Predictor)>,
    /// The newest predictors of policies that this process does not have (yet).
    others: BTreeMap<String, Published>,
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
            let predictor = Predictor::untaught(&policy.learner, &policy.name, &experts)?;
            Ok((policy.name.clone(), (policy.learner.seed.clone(), predictor)))
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
            let Some(payload) = &record.payload else {
                self.forget(record.key.as_deref().unwrap_or_default());
                continue;
            };
            let published = match codec::decode_published(payload) {
                Ok(published) => published,
                Err(error) => {
                    tracing::error!(
                        reason = error.name(),
                        offset = record.offset,
                        "a predictor cannot be read"
                    );
                    continue;
                }
            };
            self.take(published);
        }
        Ok(())
    }

    fn take(&mut self, mut published: Published) {
        let Some((seed, slot)) = self.by_policy.get_mut(&published.policy) else {
            self.others.insert(published.policy.clone(), published);
            return;
        };
        // The secret of keyed draws never travels: it is in both roles' policies.
        published.learner.seed.clone_from(seed);
        match Predictor::published(&published) {
            Ok(predictor) => *slot = predictor,
            Err(error) => tracing::error!(policy = published.policy, %error, "a predictor cannot be used"),
        }
    }

    /// A tombstone: nothing is learned for this policy (any more).
    fn forget(&mut self, key: &[u8]) {
        let Ok(name) = std::str::from_utf8(key) else { return };
        self.others.remove(name);
        let policy = self.policies.get(name);
        let Some(policy) = policy else { return };
        match Predictor::untaught(&policy.learner, &policy.name, &self.experts) {
            Ok(predictor) => {
                self.by_policy.insert(policy.name.clone(), (policy.learner.seed.clone(), predictor));
            }
            Err(error) => tracing::error!(policy = policy.name, %error, "no untaught predictor"),
        }
    }

    /// Takes changed policies: a new one has learned nothing yet, and one that has learned goes on with what
    /// is published until its learner publishes anew.
    pub fn adopt(&mut self, policies: &Arc<Policies>) {
        self.policies = Arc::clone(policies);
        for policy in policies.policies.values() {
            let published = self.others.remove(&policy.name);
            let learned = self
                .by_policy
                .get_mut(&policy.name)
                .filter(|(_, predictor)| predictor.reference().ledger_offset >= 0);
            match learned {
                Some((seed, _)) => seed.clone_from(&policy.learner.seed),
                None => self.forget(policy.name.as_bytes()),
            }
            if let Some(published) = published {
                self.take(published);
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
        let untaught =
            |(_, predictor): &(Option<Vec<u8>>, Predictor)| predictor.reference().ledger_offset < 0;
        let names: Vec<String> =
            self.by_policy.iter().filter(|(_, held)| untaught(held)).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.forget(name.as_bytes()));
    }

    /// Whether everything that was published before the start has been taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.follower.at_end()
    }

    /// The predictor of a policy.
    pub fn of(&mut self, policy: &str) -> Option<&mut Predictor> {
        self.by_policy.get_mut(policy).map(|(_, predictor)| predictor)
    }
}
