//! The predictors in use. They are followed on their compacted topic. The newest usable one of each policy combines the
//! policy's votes, or the one that a person has pinned.
//!
//! A predictor that cannot be used is counted. Readiness names it if its policy has no older one to continue with, and
//! in any case if it is pinned.

mod policy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ScoreError;
use crate::codec;
use crate::config::Policies;
use crate::core::event::Millis;
use crate::core::predictor::{Predictor, PredictorError, Published};
use crate::kafka::{Consumed, Followed, Follower};
use crate::ops::{Health, metrics};
pub use policy::PanelIdentity;
use policy::{PolicyPredictor, RecordRef, Rejection};

/// The addition to errors of records that another version wrote.
const ONE_VERSION: &str = "run one version of score, learn and `aegis weights`";

/// The predictors of all policies.
pub struct Predictors {
    follower: Follower,
    policies: Arc<Policies>,
    panel: PanelIdentity,
    by_policy: BTreeMap<String, PolicyPredictor>,
    /// The newest predictors of policies that this process does not have. It may have them after a reload.
    unknown_policies: BTreeMap<String, (RecordRef, Result<Published, Rejection>)>,
    /// The pins of policies that this process does not have.
    unknown_pins: BTreeMap<String, (RecordRef, Vec<u8>)>,
}

impl Drop for Predictors {
    /// Resets the metrics: a scorer that has ended uses no predictor.
    fn drop(&mut self) {
        for policy in self.by_policy.keys() {
            metrics::predictor_in_use(policy, None, 0, true);
            metrics::predictor_pinned(policy, None, 0);
        }
    }
}

impl Predictors {
    /// Begins with the prior of each policy over the panel's experts.
    ///
    /// # Errors
    /// Returns an error if a policy's learner does not accept these experts.
    pub fn new(
        follower: Follower,
        policies: &Arc<Policies>,
        panel: PanelIdentity,
    ) -> Result<Self, PredictorError> {
        let by_policy = policy::priors(policies, &panel.experts)?;
        let policies = Arc::clone(policies);
        let (unknown_policies, unknown_pins) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { follower, policies, panel, by_policy, unknown_policies, unknown_pins })
    }

    /// Takes the predictors and pins that were published, waiting at most `timeout` for the first of them. It is called
    /// between two decisions, so that each decision has one predictor.
    ///
    /// # Errors
    /// Returns an error if the topic cannot be read.
    pub fn follow(&mut self, timeout: Duration) -> Result<(), ScoreError> {
        let mut timeout = timeout;
        while let Followed::Record(record) = self.follower.poll(timeout)? {
            timeout = Duration::ZERO;
            self.on_record(&record);
        }
        Ok(())
    }

    fn on_record(&mut self, record: &Consumed) {
        let at = RecordRef { offset: record.offset, timestamp: record.timestamp };
        let key = record.key.as_deref().unwrap_or_default();
        if let Some(policy) = codec::pin_policy(key) {
            return self.on_pin(&policy, at, record.payload.as_deref());
        }
        let key = std::str::from_utf8(key);
        let Some(payload) = &record.payload else {
            return key.map_or((), |policy| self.on_withdrawn(policy));
        };
        match (codec::decode_published(payload), key) {
            (Ok(published), _) => self.on_published(at, published),
            (Err(error), Ok(policy)) => {
                let message = format!("{error}; {ONE_VERSION}");
                self.reject(policy, at, Rejection { reason: error.name(), message });
            }
            (Err(error), Err(_)) => {
                let (reason, offset) = (error.name(), record.offset);
                tracing::error!(reason, offset, "a predictor cannot be read, and its key names no policy");
            }
        }
    }

    fn on_published(&mut self, at: RecordRef, published: Published) {
        let policy = published.policy.clone();
        match self.by_policy.get_mut(&policy) {
            None => drop(self.unknown_policies.insert(policy, (at, Ok(published)))),
            Some(current) => {
                if let Err(rejection) = current.on_published(at, published) {
                    self.reject(&policy, at, rejection);
                }
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
        if current.on_rejected(&rejection) {
            let (reason, error, offset) = (rejection.reason, &rejection.message, at.offset);
            let in_use = current.in_use().offset;
            tracing::error!(policy, reason, offset, in_use, error, "a predictor cannot be used");
        }
    }

    /// Withdraws the published predictors of a policy: nothing is learned, or nothing any more.
    fn on_withdrawn(&mut self, policy: &str) {
        self.unknown_policies.remove(policy);
        if let Some(current) = self.by_policy.get_mut(policy) {
            current.on_withdrawn();
        }
    }

    /// Takes the pin of a policy, or its end. From the next decision on the pinned predictor is in use.
    fn on_pin(&mut self, policy: &str, at: RecordRef, payload: Option<&[u8]>) {
        let Some(current) = self.by_policy.get_mut(policy) else {
            match payload {
                Some(payload) => drop(self.unknown_pins.insert(policy.to_owned(), (at, payload.to_vec()))),
                None => drop(self.unknown_pins.remove(policy)),
            }
            return;
        };
        let Some(payload) = payload else {
            tracing::info!(policy, offset = at.offset, "the predictor is not pinned any more");
            current.on_unpinned();
            return;
        };
        let pinned = read_pin(policy, payload);
        match current.on_pin(at, pinned) {
            Ok(()) => {
                let rounds = current.get_mut().reference().rounds;
                tracing::info!(policy, offset = at.offset, rounds, "a predictor is pinned");
            }
            Err(Rejection { reason, message }) => {
                metrics::PREDICTOR_REJECTED.with([policy, reason]).increment(1);
                let in_use = current.in_use().offset;
                let (offset, error) = (at.offset, &message);
                tracing::error!(policy, reason, offset, in_use, error, "a pinned predictor cannot be used");
            }
        }
    }

    /// Takes policies and the panel after either has changed. A policy with a published predictor continues with that one
    /// until its learner publishes the next; a new expert has no weight in it before its first labelled round. A policy that
    /// is new begins with its prior, or with the predictor that was published or pinned for it.
    ///
    /// # Errors
    /// Returns an error if a policy's learner does not accept the experts.
    pub fn on_reload(
        &mut self,
        policies: &Arc<Policies>,
        panel: PanelIdentity,
    ) -> Result<(), PredictorError> {
        self.policies = Arc::clone(policies);
        // A change of the group's encoder is set at the start, and stays.
        self.panel = PanelIdentity { changes_encoder: self.panel.changes_encoder, ..panel };
        for policy in policies.policies.values() {
            if let Some(current) = self.by_policy.get_mut(&policy.name) {
                current.on_reload(policy, &self.panel.experts)?;
                continue;
            }
            let prior = PolicyPredictor::new(policy, &self.panel.experts)?;
            self.by_policy.insert(policy.name.clone(), prior);
            // The pin is first: if it cannot be used, the published predictor must not come into use.
            if let Some((at, payload)) = self.unknown_pins.remove(&policy.name) {
                self.on_pin(&policy.name, at, Some(&payload));
            }
            match self.unknown_policies.remove(&policy.name) {
                Some((at, Ok(published))) => self.on_published(at, published),
                Some((at, Err(rejection))) => self.reject(&policy.name, at, rejection),
                None => {}
            }
        }
        Ok(())
    }

    /// Returns `true` if everything that was published before the start has been taken, and the predictor in use
    /// of each policy fits the panel: a scorer does not begin with another one than that.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.follower.at_end() && self.by_policy.values().all(|current| current.is_in_use_usable(&self.panel))
    }

    /// Returns the predictor in use of the policy of an accepted event.
    ///
    /// # Errors
    /// Returns [`ScoreError::Invariant`] if the policy has none: every policy in force has a predictor, and a reload
    /// cannot remove a policy.
    pub fn get_mut(&mut self, policy: &str) -> Result<&mut Predictor, ScoreError> {
        match self.by_policy.get_mut(policy) {
            Some(current) => Ok(current.get_mut()),
            None => Err(ScoreError::Invariant { what: format!("policy {policy} has a predictor") }),
        }
    }

    /// Reports to metrics which predictors are in use and their age at `now`, and to health whether each policy can use
    /// the predictor that it should use.
    pub fn report(&self, health: &Health, now: Millis) {
        let mut notes = Vec::new();
        let mut usable = true;
        for (policy, current) in &self.by_policy {
            let in_use = current.in_use();
            let since = |time: Option<Millis>| time.map_or(0, |then| now.saturating_sub(then));
            let is_current = current.is_current(&self.panel);
            metrics::predictor_in_use(policy, in_use.offset, since(in_use.published), is_current);
            let pinned = in_use.pinned.then(|| since(in_use.pinned_since));
            metrics::predictor_pinned(policy, pinned, in_use.rounds_behind);
            let (is_usable, more) = current.describe(policy, &self.panel);
            usable &= is_usable;
            notes.extend(more);
        }
        health.note("predictors usable", usable, &notes.join("; "));
    }
}

/// Reads the predictor of a pin, and the time at which it was published.
fn read_pin(policy: &str, payload: &[u8]) -> Result<(Published, Option<Millis>), Rejection> {
    let unreadable = |error: codec::DecodeError| Rejection {
        reason: error.name(),
        message: format!("{error}; {ONE_VERSION}"),
    };
    let pin = codec::decode_pin(payload).map_err(unreadable)?;
    let published = codec::decode_published(&pin.predictor).map_err(unreadable)?;
    if pin.policy != policy || published.policy != policy {
        let message = "it is of another policy than the key of its record".to_owned();
        return Err(Rejection { reason: "BadValue", message });
    }
    Ok((published, pin.published))
}

#[cfg(test)]
mod tests {
    use super::policy::tests::{panel, policy, published};
    use super::*;
    use crate::codec::Encoding;
    use crate::core::policy::{Policy, Release};
    use crate::core::predictor::Pin;
    use crate::kafka::embedded::Embedded;
    use crate::kafka::{Connection, From};

    fn encoded(published: &Published) -> Vec<u8> {
        codec::encode_published(published, Encoding::Avro).unwrap()
    }

    fn pinned(policy: &str, published: &Published) -> Vec<u8> {
        let pin = Pin {
            policy: policy.into(),
            predictor: encoded(published),
            offset: 3,
            published: Some(7),
            by: "ann".into(),
            reason: "a test".into(),
            time: 9,
        };
        codec::encode_pin(&pin, Encoding::Avro).unwrap()
    }

    /// Predictors of these policies, to which records are given by hand.
    struct Site {
        predictors: Predictors,
        offset: i64,
        _broker: Embedded,
    }

    impl Site {
        fn new(policies: &[Policy]) -> Self {
            let broker = Embedded::start(&[("weights", 1)]).unwrap();
            let timeout = Duration::from_secs(30);
            let connection = Connection::new(broker.bootstrap());
            let follower = Follower::open(&connection, "weights", &From::Beginning, timeout).unwrap();
            let predictors = Predictors::new(follower, &of(policies), panel()).unwrap();
            Self { predictors, offset: 0, _broker: broker }
        }

        fn give(&mut self, key: impl Into<Vec<u8>>, payload: Option<Vec<u8>>) {
            self.predictors.on_record(&Consumed {
                topic: "weights".into(),
                partition: 0,
                offset: self.offset,
                key: Some(key.into()),
                payload,
                headers: Vec::new(),
                timestamp: Some(self.offset),
            });
            self.offset += 1;
        }

        fn in_use(&mut self, policy: &str) -> (u64, bool) {
            let reference = self.predictors.get_mut(policy).unwrap().reference();
            (reference.rounds, reference.pinned)
        }
    }

    fn of(policies: &[Policy]) -> Arc<Policies> {
        let policies = policies.iter().map(|policy| (policy.name.clone(), policy.clone())).collect();
        Arc::new(Policies { policies, ..Policies::default() })
    }

    #[test]
    fn a_pin_has_a_key_that_no_policy_and_no_earlier_version_takes_for_one_of_theirs() {
        let house = policy("house", Release::Automatic);
        let key = codec::pin_key("house");
        assert!(std::str::from_utf8(&key).is_err(), "the name of a policy is UTF-8");
        assert_eq!(codec::pin_policy(&key).as_deref(), Some("house"));
        assert_eq!(codec::pin_policy(b"pin:house"), None, "a policy may have that name");
        let record = pinned("house", &published(&house, 3));
        assert!(codec::decode_published(&record).is_err(), "earlier versions read no predictor");
        assert!(codec::decode_pin(&encoded(&published(&house, 3))).is_err());
    }

    #[test]
    fn pins_are_kept_apart_by_policy_and_wait_for_a_policy_that_is_not_there_yet() {
        let (one, other) = (policy("one", Release::Automatic), policy("other", Release::Automatic));
        let mut site = Site::new(std::slice::from_ref(&one));
        for policy in [&one, &other] {
            site.give(policy.name.clone(), Some(encoded(&published(policy, 8))));
            site.give(codec::pin_key(&policy.name), Some(pinned(&policy.name, &published(policy, 3))));
        }
        assert_eq!(site.in_use("one"), (3, true));
        site.predictors.on_reload(&of(&[one.clone(), other.clone()]), panel()).unwrap();
        assert_eq!(site.in_use("other"), (3, true), "the pin has waited");
        site.give(codec::pin_key("other"), None);
        assert_eq!((site.in_use("one"), site.in_use("other")), ((3, true), (8, false)));
        // A pin that ended before the policy appeared is gone.
        let third = policy("third", Release::Automatic);
        site.give("third", Some(encoded(&published(&third, 8))));
        site.give(codec::pin_key("third"), Some(pinned("third", &published(&third, 3))));
        site.give(codec::pin_key("third"), None);
        site.predictors.on_reload(&of(&[one, other, third]), panel()).unwrap();
        assert_eq!(site.in_use("third"), (8, false));
    }

    #[test]
    fn a_new_policy_whose_pin_cannot_be_used_begins_with_its_prior() {
        let one = policy("one", Release::Automatic);
        let mut site = Site::new(&[]);
        site.give("one", Some(encoded(&published(&one, 8))));
        site.give(codec::pin_key("one"), Some(b"garbage".to_vec()));
        site.predictors.on_reload(&of(std::slice::from_ref(&one)), panel()).unwrap();
        assert_eq!(site.in_use("one"), (0, false));
        site.give(codec::pin_key("one"), None);
        assert_eq!(site.in_use("one"), (8, false));
    }

    #[test]
    fn a_scorer_does_not_begin_before_each_pinned_predictor_can_be_used() {
        let one = policy("one", Release::Automatic);
        let mut site = Site::new(std::slice::from_ref(&one));
        assert!(site.predictors.is_ready());
        site.give("one", Some(encoded(&published(&one, 3))));
        let of_another = pinned("one", &published(&policy("other", Release::Automatic), 3));
        for unusable in [b"garbage".to_vec(), encoded(&published(&one, 3)), of_another] {
            site.give(codec::pin_key("one"), Some(unusable));
            assert!(!site.predictors.is_ready());
            site.give("one", Some(encoded(&published(&one, 8))));
            assert_eq!(site.in_use("one"), (3, false), "no other one comes into use meanwhile");
        }
        site.give(codec::pin_key("one"), Some(pinned("one", &published(&one, 2))));
        assert!(site.predictors.is_ready());
        assert_eq!(site.in_use("one"), (2, true));
        site.give(codec::pin_key("one"), None);
        assert_eq!(site.in_use("one"), (8, false));
    }
}
