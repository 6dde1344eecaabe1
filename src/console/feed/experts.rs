//! The votes and abstentions of each expert, over the last hours.

use std::collections::BTreeMap;

use super::MAX_POLICIES;
use crate::core::decision::Decision;
use crate::core::event::Millis;
use crate::core::vote::{Abstention, Outcome};

/// The width of a bucket.
const BUCKET: Millis = 10 * 60_000;
/// The number of experts of a policy that are counted.
const MAX_EXPERTS: usize = 256;

/// The counts of one expert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// The votes.
    pub votes: u64,
    /// The votes of .5 or more.
    pub flagged: u64,
    /// The abstentions by reason, in the order of [`Abstention::ALL`].
    pub abstained: [u64; Abstention::ALL.len()],
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.votes += other.votes;
        self.flagged += other.flagged;
        for (sum, count) in self.abstained.iter_mut().zip(other.abstained) {
            *sum += count;
        }
    }

    /// Returns the abstentions that are faults of the expert, not of the text or the configuration.
    #[must_use]
    pub fn failures(&self) -> u64 {
        let is_failure = |reason: &Abstention| {
            matches!(
                reason,
                Abstention::NotLoaded
                    | Abstention::Failed
                    | Abstention::TimedOut
                    | Abstention::NotFinite
                    | Abstention::WrongShape
                    | Abstention::OutOfMemory
            )
        };
        let pairs = Abstention::ALL.iter().zip(self.abstained);
        pairs.filter(|(reason, _)| is_failure(reason)).map(|(_, count)| count).sum()
    }
}

/// The newest decision's view of an expert.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Newest {
    /// `true` if the expert is in shadow mode.
    pub shadow: bool,
    /// The share of the aggregation.
    pub weight: f64,
}

/// The counts by policy and expert.
type Bucket = BTreeMap<(String, String), Counts>;

/// The experts as decisions show them. Its memory is bounded.
#[derive(Debug)]
pub struct Experts {
    kept: i64,
    buckets: BTreeMap<i64, Bucket>,
    /// The experts of the newest decision of each policy.
    newest: BTreeMap<String, (Millis, BTreeMap<String, Newest>)>,
}

impl Experts {
    /// Creates counters of this many hours.
    #[must_use]
    pub fn new(hours: u32) -> Self {
        Self {
            kept: i64::from(hours) * 3_600_000 / BUCKET,
            buckets: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    /// Counts a decision.
    pub fn decision(&mut self, decision: &Decision, time: Millis, now: Millis) {
        let policy = &decision.id.policy;
        let known = self.newest.get(policy).map(|(time, _)| *time);
        if known.is_some_and(|known| known <= time) || (known.is_none() && self.newest.len() < MAX_POLICIES) {
            let of = |weighed: &crate::core::decision::WeighedVote| {
                let newest = Newest { shadow: weighed.vote.shadow, weight: weighed.weight };
                (weighed.vote.expert.clone(), newest)
            };
            self.newest
                .insert(policy.clone(), (time, decision.votes.iter().take(MAX_EXPERTS).map(of).collect()));
        }
        let (bucket, current) = (time.div_euclid(BUCKET), now.div_euclid(BUCKET));
        if bucket <= current - self.kept || bucket > current + 1 {
            return;
        }
        while self.buckets.first_key_value().is_some_and(|(oldest, _)| *oldest <= current - self.kept) {
            self.buckets.pop_first();
        }
        let counts = self.buckets.entry(bucket).or_default();
        for weighed in decision.votes.iter().take(MAX_EXPERTS) {
            let key = (policy.clone(), weighed.vote.expert.clone());
            if counts.len() >= MAX_POLICIES * MAX_EXPERTS && !counts.contains_key(&key) {
                continue;
            }
            let mine = counts.entry(key).or_default();
            match weighed.vote.outcome {
                Outcome::Voted { score, .. } => {
                    mine.votes += 1;
                    mine.flagged += u64::from(score >= 0.5);
                }
                Outcome::Abstained(reason) => {
                    let at = Abstention::ALL.iter().position(|known| *known == reason);
                    mine.abstained[at.unwrap_or_default()] += 1;
                }
            }
        }
    }

    /// Returns the policies that have decisions.
    pub fn policies(&self) -> impl Iterator<Item = &String> {
        self.newest.keys()
    }

    /// Returns the experts of a policy's newest decision.
    #[must_use]
    pub fn newest(&self, policy: &str) -> Option<&BTreeMap<String, Newest>> {
        self.newest.get(policy).map(|(_, experts)| experts)
    }

    /// Returns the counts of a policy's expert over all hours, and those of the newest bucket in which it was asked.
    #[must_use]
    pub fn counts(&self, policy: &str, expert: &str) -> (Counts, Counts) {
        let key = (policy.to_owned(), expert.to_owned());
        let (mut total, mut newest) = (Counts::default(), Counts::default());
        for counts in self.buckets.values().filter_map(|bucket| bucket.get(&key)) {
            total.add(counts);
            newest = counts.clone();
        }
        (total, newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decision::WeighedVote;
    use crate::core::ledger::RoundId;
    use crate::core::vote::Vote;

    #[test]
    fn votes_and_abstentions_are_counted_for_their_hours() {
        let mut experts = Experts::new(1);
        let weighed = |vote: Vote| WeighedVote { vote, weight: 0.5, contribution: 0.0 };
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: "e".into() };
        let votes = vec![
            weighed(Vote::scored("a", [0; 32], 0.9, Vec::new())),
            weighed(Vote { shadow: true, ..Vote::abstained("b", None, Abstention::TimedOut) }),
            weighed(Vote::abstained("c", None, Abstention::NotNeeded)),
        ];
        let decision = Decision { votes, ..Decision::example(id, 0) };
        let now = 100 * BUCKET;
        experts.decision(&decision, now, now);
        experts.decision(&decision, now - 7 * BUCKET, now);
        let (all, _) = experts.counts("p", "a");
        assert_eq!((all.votes, all.flagged, all.failures()), (1, 1, 0));
        assert_eq!(experts.counts("p", "b").0.failures(), 1);
        assert_eq!(experts.counts("p", "c").0.failures(), 0, "it was not needed");
        assert!(experts.newest("p").unwrap()["b"].shadow);
        experts.decision(&decision, now + 6 * BUCKET, now + 6 * BUCKET);
        assert_eq!(experts.counts("p", "a").0.votes, 1, "the first is over");
    }
}
