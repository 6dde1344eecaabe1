//! The verification of all topics.

use std::collections::BTreeMap;

use super::VerifyError;
use super::outcome_reader::OutcomeReader;
use super::refold::{PendingCheck, PredictorCheck, Refold, hash_of_state};
use super::report::Report;
use super::topic_reader::{Item, TopicReader};
use super::violations::{Place, ViolationKind, Violations};
use crate::codec::{self, Schemas};
use crate::config::{Config, Policies};
use crate::core::event::Millis;
use crate::core::hash::hex;
use crate::core::learners::LearnerSpec;
use crate::core::predictor::FORMAT;
use crate::kafka::{Connection, Consumed};

/// The greatest number of folds of the ledger. It is folded again if newer predictors are published meanwhile.
const MAX_FOLDS: usize = 3;

/// A verification and its inputs.
pub struct Verify<'a> {
    /// The configuration, for the names of topics and groups.
    pub config: &'a Config,
    /// The policies of the running learner.
    pub policies: &'a Policies,
    /// The connection to the brokers.
    pub connection: &'a Connection,
    /// The source of the schemas of decisions and review requests. It waits for pending answers.
    pub schemas: Option<&'a dyn Schemas>,
    /// The time from which on records are verified; `None` for all. The ledger is always read from its beginning.
    pub from: Option<Millis>,
    /// Receives the kind of the records that are being read, and their number so far.
    pub progress: &'a mut dyn FnMut(&'static str, usize),
}

/// The newest predictors, and those that cannot be decoded.
type Predictors = (Vec<PendingCheck>, Violations);

impl Verify<'_> {
    /// Reads all topics and reports the violations.
    ///
    /// # Errors
    /// Returns an error if a topic cannot be read to its end.
    pub fn run(mut self) -> Result<Report, VerifyError> {
        let (config, connection) = (self.config, self.connection);
        // The consumers of the outcomes are closed before the ledger is folded, which needs the most memory.
        let (counts, mut violations, (review, more)) = {
            let mut reader =
                OutcomeReader::open(config, connection, self.schemas, self.from, &mut *self.progress)?;
            reader.read(&mut *self.progress)?;
            // With a start time, the caller states that the outcomes since then are kept.
            if self.from.is_none() {
                reader.exclude_deleted(config, connection)?;
            }
            reader.await_missing()?;
            let (counts, violations) = reader.outcomes.close(&config.score.group, self.from.is_none());
            (counts, violations, reader.requests.close())
        };
        violations.merge(more);
        let (predictors, ledger_records, more) = self.verify_predictors()?;
        violations.merge(more);
        let holds = violations.is_empty();
        Ok(Report { holds, from: self.from, counts, review, ledger_records, predictors, violations })
    }

    /// Folds the ledger up to the offsets that the newest predictors reflect. While a learner is running, it may publish
    /// newer ones, and compaction may remove records that an older predictor was made of. Then the newer ones are
    /// verified.
    fn verify_predictors(&mut self) -> Result<(Vec<PredictorCheck>, u64, Violations), VerifyError> {
        let mut pending = self.predictors()?;
        for _ in 1..MAX_FOLDS {
            let checked = self.refold(&pending)?;
            if checked.0.iter().all(|check| check.holds) {
                return Ok(checked);
            }
            let newer = self.predictors()?;
            if are_same(&newer, &pending) {
                return Ok(checked);
            }
            pending = newer;
        }
        self.refold(&pending)
    }

    fn refold(
        &mut self,
        (pending, undecodable): &Predictors,
    ) -> Result<(Vec<PredictorCheck>, u64, Violations), VerifyError> {
        let mut ledger = self.open("ledger", &self.config.topics.rounds)?;
        let end = ledger.ends.values().copied().max().unwrap_or(0);
        let mut refold = Refold::new(&ledger.topic, pending.clone());
        while let Some(item) = ledger.next(self.progress)? {
            let Item::Record { record: Consumed { offset, payload: Some(payload), .. }, late: false } = item
            else {
                continue;
            };
            match codec::decode_record(&payload) {
                Ok(record) => refold.record(offset, &record),
                Err(error) => refold.unreadable(offset, &error.to_string()),
            }
        }
        let (checked, records, mut violations) = refold.finish(end);
        violations.merge(undecodable.clone());
        Ok((checked, records, violations))
    }

    /// The newest predictor of each policy, which is folded again. A pinned predictor is compared with the state that it
    /// carries: compaction may have removed records that it was made of.
    fn predictors(&mut self) -> Result<Predictors, VerifyError> {
        let mut weights = self.open("predictors", &self.config.topics.weights)?;
        let mut newest: BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)> = BTreeMap::new();
        while let Some(item) = weights.next(self.progress)? {
            if let Item::Record { record: Consumed { offset, key: Some(key), payload, .. }, .. } = item {
                newest.insert(key, (offset, payload));
            }
        }
        let (mut pending, mut violations) = (Vec::new(), Violations::default());
        for (key, (offset, payload)) in newest {
            let at = Place::new(&weights.topic, 0, offset);
            if let Some(policy) = codec::pin_policy(&key) {
                if let Some((kind, what)) =
                    payload.and_then(|payload| verify_pin(self.policies, &policy, &payload))
                {
                    violations.add(kind, at, || what);
                }
                continue;
            }
            match payload.as_deref().map(codec::decode_published) {
                Some(Ok(published)) => {
                    let policy = self.policies.get(&published.policy).cloned();
                    pending.push(PendingCheck { published, at, policy });
                }
                Some(Err(error)) => violations.add(ViolationKind::Unreadable, at, || error.to_string()),
                // A tombstone takes back the policy's predictor.
                None => {}
            }
        }
        Ok((pending, violations))
    }

    fn open(&self, kind: &'static str, topic: &str) -> Result<TopicReader, VerifyError> {
        TopicReader::open(self.connection, kind, topic, None)
    }
}

/// Returns `true` if both lists have the same predictors, by their offsets.
fn are_same(one: &Predictors, other: &Predictors) -> bool {
    one.0.iter().map(|check| check.at.offset).eq(other.0.iter().map(|check| check.at.offset))
}

/// Returns the violation of a pin: a record that cannot be read or is of another policy, a policy that is not known, or a
/// predictor whose state has another hash than it says.
fn verify_pin(policies: &Policies, policy: &str, payload: &[u8]) -> Option<(ViolationKind, String)> {
    let unreadable = |why: String| Some((ViolationKind::Unreadable, why));
    let read =
        codec::decode_pin(payload).and_then(|pin| Ok((codec::decode_published(&pin.predictor)?, pin.policy)));
    let (published, of) = match read {
        Ok(read) => read,
        Err(error) => return unreadable(error.to_string()),
    };
    if of != policy || published.policy != policy {
        return unreadable(format!("the pin of policy {policy} is of another policy than its key"));
    }
    if published.format != FORMAT {
        let format = published.format;
        return unreadable(format!(
            "the pinned predictor has the format {format}, and this version reads {FORMAT}"
        ));
    }
    let Some(known) = policies.get(policy) else {
        let what =
            format!("a predictor of policy {policy} is pinned, and the policies file has no such policy");
        return Some((ViolationKind::Policy, what));
    };
    let seed = known.learner.seed.clone();
    let carried = hash_of_state(&published, &LearnerSpec { seed, ..published.learner.clone() });
    let (says, has) = (hex(&published.state_hash), hex(&carried));
    (carried != published.state_hash).then(|| {
        let what =
            format!("the pinned predictor of policy {policy} has the hash {says}, and its state has {has}");
        (ViolationKind::Hash, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Encoding;
    use crate::core::predictor::{Pin, Published};
    use crate::verify::refold::tests::{ledger, published};

    #[test]
    fn a_pin_is_compared_with_the_state_that_it_carries() {
        let right = published(&ledger(5));
        let mut wrong = right.clone();
        wrong.state[0] += 0.5;
        let check_of = |policy: &str, predictor: Vec<u8>| {
            let pin = Pin {
                policy: policy.into(),
                predictor,
                offset: 3,
                published: None,
                by: "ann".into(),
                reason: "a test".into(),
                time: 9,
            };
            let payload = codec::encode_pin(&pin, Encoding::Avro).unwrap();
            verify_pin(&Policies::default(), policy, &payload).map(|(kind, _)| kind)
        };
        let check = |predictor| check_of("default", predictor);
        let written = |published| codec::encode_published(published, Encoding::Avro).unwrap();
        assert_eq!(check(written(&right)), None);
        assert_eq!(check(written(&wrong)), Some(ViolationKind::Hash));
        assert_eq!(check(vec![1, 2, 3]), Some(ViolationKind::Unreadable));
        let later = Published { format: FORMAT + 1, ..right.clone() };
        assert_eq!(check(written(&later)), Some(ViolationKind::Unreadable));
        assert_eq!(check_of("other", written(&right)), Some(ViolationKind::Unreadable));
        let of_other = Published { policy: "other".into(), ..right.clone() };
        assert_eq!(check(written(&of_other)), Some(ViolationKind::Unreadable));
        assert_eq!(check_of("other", written(&of_other)), Some(ViolationKind::Policy));
        let no_pin = verify_pin(&Policies::default(), "default", &written(&right));
        assert_eq!(no_pin.map(|(kind, _)| kind), Some(ViolationKind::Unreadable));
    }
}
