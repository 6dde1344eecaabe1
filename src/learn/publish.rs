//! Folds the ledger and publishes the predictor of each policy, at most once per interval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LearnError;
use super::ledger::Ledger;
use crate::codec;
use crate::core::fold::Fold;
use crate::core::ledger_state::LedgerState;
use crate::core::predictor::{Published, StateHash};
use crate::crash;
use crate::kafka::{Outbox, Produced};
use crate::ops::metrics;

/// The number of rounds of a policy that are folded between two reads of labels: some tens of milliseconds.
const ROUNDS_PER_STEP: usize = 20_000;

/// The number of newest rounds over which each expert is scored at each publishing: a millisecond or two.
const SCORED_ROUNDS: usize = 10_000;

const AVRO: codec::Encoding = codec::Encoding::Avro;

/// The outcome of publishing: the predictors on the topic reflect the whole ledger as read. It holds the time at which
/// publishing began, or `None` if no predictor had changed or publishing was aborted.
pub(super) struct Publishing(pub(super) Option<Instant>);

/// The publisher of predictors.
pub(super) struct Publisher {
    topic: Arc<str>,
    interval: Duration,
    rounds_per_step: usize,
    /// The time of the last publishing.
    last: Option<Instant>,
    /// The hash published last, by policy; `None` after a tombstone.
    published: BTreeMap<String, Option<StateHash>>,
}

impl Publisher {
    /// A publisher to `topic`, at most every `interval_ms`.
    pub(super) fn new(topic: &str, interval_ms: u64) -> Self {
        Self {
            topic: topic.into(),
            interval: Duration::from_millis(interval_ms),
            rounds_per_step: ROUNDS_PER_STEP,
            last: None,
            published: BTreeMap::new(),
        }
    }

    /// Folds a number of rounds of each policy. Publishes the predictors if all are current and the interval is over;
    /// otherwise returns `None`.
    ///
    /// # Errors
    /// Returns an error if a learner does not accept its experts, or if publishing fails.
    pub(super) fn advance(
        &mut self,
        ledger: &mut Ledger,
        outbox: &mut Outbox,
    ) -> Result<Option<Publishing>, LearnError> {
        let (state, folds) = ledger.folds();
        let mut current = true;
        for (policy, fold) in folds.iter_mut() {
            let started = Instant::now();
            let steps = fold.reorder(state)?;
            current &= fold.advance(state, self.rounds_per_step)?;
            if steps > 0 {
                metrics::folded(policy, steps, started.elapsed());
            }
        }
        if current && self.last.is_none_or(|last| last.elapsed() >= self.interval) {
            return self.publish(ledger, outbox).map(Some);
        }
        Ok(None)
    }

    /// Folds everything and publishes it, unless `aborted` returns `true` between two steps.
    ///
    /// # Errors
    /// Returns an error if a learner does not accept its experts, or if publishing fails.
    pub(super) fn finish(
        &mut self,
        ledger: &mut Ledger,
        outbox: &mut Outbox,
        aborted: impl Fn() -> bool,
    ) -> Result<Publishing, LearnError> {
        let (state, folds) = ledger.folds();
        for fold in folds.values_mut() {
            while !aborted() && !fold.advance(state, self.rounds_per_step)? {}
        }
        if aborted() {
            return Ok(Publishing(None));
        }
        self.publish(ledger, outbox)
    }

    /// Publishes the predictors that have changed, in one transaction.
    fn publish(&mut self, ledger: &mut Ledger, outbox: &mut Outbox) -> Result<Publishing, LearnError> {
        let began = Instant::now();
        let offset = ledger.offset();
        let (state, folds) = ledger.folds();
        let (mut records, mut hashes) = (Vec::new(), Vec::new());
        for (policy, fold) in folds.iter() {
            let published = fold.published(state, offset);
            let hash = published.as_ref().map(|published| published.state_hash);
            if self.published.get(policy) == Some(&hash) {
                continue;
            }
            report(policy, fold, published.as_ref(), state);
            hashes.push((policy.clone(), hash));
            // A policy without rounds has no state. A tombstone takes back a predictor that was published before.
            let payload =
                published.as_ref().map(|published| codec::encode_published(published, AVRO)).transpose()?;
            records.push(Produced {
                topic: Arc::clone(&self.topic),
                partition: Some(0),
                key: Some(policy.clone().into_bytes()),
                payload,
                headers: Vec::new(),
                timestamp: None,
            });
        }
        if records.is_empty() {
            return Ok(Publishing(None));
        }
        crash::point("learn.publish");
        outbox.commit(&records, None)?;
        crash::point("learn.published");
        self.published.extend(hashes);
        self.last = Some(Instant::now());
        Ok(Publishing(Some(began)))
    }
}

/// Reports a predictor and its experts to the metrics.
fn report(policy: &str, fold: &Fold, published: Option<&Published>, state: &LedgerState) {
    if let Some(published) = published {
        metrics::predictor(published, fold.experts(), fold.tally());
    }
    if let Some(rounds) = state.find(policy).and_then(|at| state.rounds(at)) {
        let brier = rounds.brier(&fold.settings().mapping, state.edits(), SCORED_ROUNDS);
        metrics::expert_brier(policy, &brier);
    }
    if let Some(certificate) = fold.certificate() {
        metrics::certificate(policy, &certificate);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::config::Policies;
    use crate::core::label::Finding;
    use crate::core::ledger::{Record, RoundId};
    use crate::core::policy::Policy;
    use crate::kafka::embedded::Embedded;
    use crate::kafka::{Connection, Delivery, Followed, Follower, From};
    use crate::store::Store;

    const ROUNDS: usize = 30;

    /// A round of the policy `policy`, and its label.
    fn round(policy: &str, number: usize) -> [Record; 2] {
        let event = format!("e{number:02}");
        let id = RoundId { tenant: "t".into(), policy: policy.into(), event };
        Record::examples(id, i64::try_from(number).unwrap(), &[("a", 0.8), ("b", 0.3)], Finding::Unsafe)
    }

    fn written(record: &Record) -> Produced {
        Produced {
            topic: "rounds".into(),
            partition: Some(0),
            key: Some(codec::encode_key(&record.key())),
            payload: Some(codec::encode_record(record, AVRO).unwrap()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    fn published(connection: &Connection) -> usize {
        let timeout = Duration::from_secs(30);
        let mut weights = Follower::open(connection, "weights", &From::Beginning, timeout).unwrap();
        let mut count = 0;
        while !matches!(weights.poll(timeout).unwrap(), Followed::End) {
            count += 1;
        }
        count
    }

    fn policies(names: &[&str]) -> Policies {
        let default = Policies::default().get("default").unwrap().clone();
        let of = |name: &&str| (name.to_string(), Policy { name: name.to_string(), ..default.clone() });
        Policies { policies: names.iter().map(of).collect(), ..Policies::default() }
    }

    /// A topic of weights, and a ledger topic with [`ROUNDS`] rounds of each policy.
    struct Site {
        connection: Connection,
        outbox: Outbox,
        store: Store,
        _broker: Embedded,
        _folder: tempfile::TempDir,
    }

    impl Site {
        fn new(policies: &[&str]) -> Self {
            let broker = Embedded::start(&[("rounds", 1), ("weights", 1)]).unwrap();
            let connection = Connection::new(broker.bootstrap());
            let mut outbox = Outbox::open(&connection, Delivery::AtLeastOnce).unwrap();
            let rounds =
                policies.iter().flat_map(|policy| (0..ROUNDS).flat_map(|number| round(policy, number)));
            outbox.commit(&rounds.map(|record| written(&record)).collect::<Vec<_>>(), None).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(&folder.path().join("store")).unwrap();
            Self { connection, outbox, store, _broker: broker, _folder: folder }
        }

        fn restore(&mut self, policies: &Policies) -> Ledger {
            let mut ledger =
                Ledger::restore(&self.connection, "rounds", &self.store, policies, 1 << 20).unwrap();
            assert!(ledger.read_to_end(&mut self.store, |_| false).unwrap());
            ledger
        }
    }

    /// An abort waits for one step at most, and a predictor of a part of the ledger is not published.
    #[test]
    fn an_abort_between_two_steps_publishes_nothing() {
        let mut site = Site::new(&["default"]);
        let mut ledger = site.restore(&policies(&["default"]));
        let mut publisher = Publisher { rounds_per_step: ROUNDS / 3, ..Publisher::new("weights", 0) };
        let calls = Cell::new(0);
        let aborted = || calls.replace(calls.get() + 1) > 0;
        let Publishing(began) = publisher.finish(&mut ledger, &mut site.outbox, aborted).unwrap();
        assert_eq!(began, None, "it was aborted");
        assert_eq!(ledger.folds().1["default"].progress().folded, ROUNDS / 3, "after one step");
        assert_eq!(published(&site.connection), 0);

        let Publishing(began) = publisher.finish(&mut ledger, &mut site.outbox, || false).unwrap();
        assert!(began.is_some(), "everything is folded now");
        assert_eq!(ledger.folds().1["default"].progress().folded, ROUNDS);
        assert_eq!(published(&site.connection), 1);
    }

    #[test]
    fn another_learner_or_mapping_folds_only_its_own_policy_again() {
        let mut site = Site::new(&["changed", "same"]);
        let before = policies(&["changed", "same"]);
        let mut ledger = site.restore(&before);
        let mut publisher = Publisher::new("weights", 0);
        publisher.finish(&mut ledger, &mut site.outbox, || false).unwrap();
        assert_eq!(published(&site.connection), 2);
        let hash = |ledger: &mut Ledger, policy: &str| {
            let (state, folds) = ledger.folds();
            folds[policy].state_hash(state)
        };
        let [changed, same] = ["changed", "same"].map(|policy| hash(&mut ledger, policy));

        let mut costs = before.clone();
        costs.policies.get_mut("changed").unwrap().cost_false_negative += 1.0;
        assert_eq!(ledger.set_policies(&costs), [""; 0], "costs do not affect what is learned");
        assert!(ledger.is_current());

        let mut after = before;
        after.policies.get_mut("changed").unwrap().mapping.needs_caution = 0.5;
        assert_eq!(ledger.set_policies(&after), ["changed"]);
        let folded = |ledger: &mut Ledger| {
            let folds = ledger.folds().1;
            ["changed", "same"].map(|policy| folds[policy].progress().folded)
        };
        assert_eq!(folded(&mut ledger), [0, ROUNDS], "the other fold is not touched");
        assert!(!ledger.is_current(), "the next tick folds without waiting for labels");
        publisher.advance(&mut ledger, &mut site.outbox).unwrap();
        assert_eq!(folded(&mut ledger), [ROUNDS, ROUNDS]);
        assert_eq!(published(&site.connection), 3, "the other predictor is not published again");

        let mut restored = site.restore(&after);
        publisher.finish(&mut restored, &mut site.outbox, || false).unwrap();
        for policy in ["changed", "same"] {
            assert_eq!(
                hash(&mut ledger, policy),
                hash(&mut restored, policy),
                "{policy}: as after a restore"
            );
        }
        assert_ne!(hash(&mut ledger, "changed"), changed);
        assert_eq!(hash(&mut ledger, "same"), same);
    }
}
