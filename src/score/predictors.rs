//! The predictors, followed on their compacted topic: the newest of each policy combines its votes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::codec;
use crate::config::Policies;
use crate::core::predictor::{Predictor, PredictorError};
use crate::kafka::{Followed, Follower, SourceError};

/// The predictor of each policy.
pub struct Predictors {
    follower: Follower,
    /// With the secret of its keyed draws.
    by_policy: BTreeMap<String, (Option<Vec<u8>>, Predictor)>,
}

impl Predictors {
    /// Starts with untaught predictors over the panel's experts.
    ///
    /// # Errors
    /// Where a policy's learner refuses these experts.
    pub fn new(follower: Follower, policies: &Policies, experts: &[String]) -> Result<Self, PredictorError> {
        let untaught = |policy: &crate::core::policy::Policy| {
            let predictor = Predictor::untaught(&policy.learner, &policy.name, experts)?;
            Ok((policy.name.clone(), (policy.learner.seed.clone(), predictor)))
        };
        let by_policy = policies.policies.values().map(untaught).collect::<Result<_, PredictorError>>()?;
        Ok(Self { follower, by_policy })
    }

    /// Takes what has been published. With `patience` zero only what is there already.
    ///
    /// # Errors
    /// Where the topic cannot be followed.
    pub fn follow(&mut self, patience: Duration) -> Result<(), SourceError> {
        let mut patience = patience;
        while let Followed::Record(record) = self.follower.poll(patience)? {
            patience = Duration::ZERO;
            // A tombstone ends a policy's predictor; scoring goes on with the last one.
            let Some(payload) = &record.payload else { continue };
            let mut published = match codec::decode_published(payload) {
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
            let Some((seed, slot)) = self.by_policy.get_mut(&published.policy) else { continue };
            // The secret of keyed draws never travels: it is in both roles' policies.
            published.learner.seed.clone_from(seed);
            match Predictor::published(&published) {
                Ok(predictor) => *slot = predictor,
                Err(error) => {
                    tracing::error!(policy = published.policy, %error, "a predictor cannot be used");
                }
            }
        }
        Ok(())
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
