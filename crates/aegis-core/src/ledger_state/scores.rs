//! The quality of each expert on its own, including shadow votes. It is reported, and does not affect the learner.

use std::collections::BTreeMap;

use super::{Edits, Rounds};
use crate::label::Mapping;

impl Rounds {
    /// The mean of (vote - target)² of each expert, by id, over the newest `limit` rounds that have votes and a
    /// target. Abstentions are not counted, and neither are decisive
    /// votes: an expert that is asked only when its vote matters is measured on the rounds for which it was drawn, which are
    /// like all others. The newest rounds are those that appeared last in the ledger.
    #[must_use]
    pub fn brier(&self, mapping: &Mapping, edits: &Edits, limit: usize) -> BTreeMap<String, f64> {
        // The sum and the number of votes, by panel, then by index in it.
        let mut sums: Vec<Vec<(f64, u32)>> = Vec::new();
        let labelled = self.rows().rev().filter(|row| !self.stored(*row).is_empty());
        let targets = labelled.filter_map(|row| {
            let (panel, scores) = self.votes(row)?;
            Some((panel, scores, self.target(row, mapping, edits)?))
        });
        for (panel, scores, target) in targets.take(limit) {
            if sums.len() <= panel.number() {
                sums.resize(panel.number() + 1, Vec::new());
            }
            let sums = &mut sums[panel.number()];
            sums.resize(scores.len(), (0.0, 0));
            for ((sum, count), score) in sums.iter_mut().zip(scores) {
                if let Some(vote) = score.measured() {
                    *sum += (vote - target) * (vote - target);
                    *count += 1;
                }
            }
        }
        let mut found: BTreeMap<&str, (f64, u32)> = BTreeMap::new();
        for (experts, sums) in self.panels().iter().zip(&sums) {
            for (expert, (sum, count)) in experts.iter().zip(sums) {
                let all = found.entry(expert).or_default();
                *all = (all.0 + sum, all.1 + count);
            }
        }
        let voted = found.into_iter().filter(|(_, (_, count))| *count > 0);
        voted.map(|(expert, (sum, count))| (expert.to_owned(), sum / f64::from(count))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::label::{DecisionRef, Finding, Label, Mapping, Source};
    use crate::ledger::{LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote};
    use crate::ledger_state::LedgerState;

    fn add(
        ledger: &mut LedgerState,
        number: i64,
        votes: &[(&str, Option<f64>, bool)],
        finding: Option<Finding>,
    ) {
        let id = RoundId { tenant: "t".into(), policy: "p".into(), event: format!("e{number}") };
        let vote = |(expert, score, shadow): &(&str, Option<f64>, bool)| RoundVote {
            expert: (*expert).to_owned(),
            score: *score,
            shadow: *shadow,
            decisive: expert.starts_with("decisive"),
        };
        let label = Label::example(&id, number, finding);
        let judged = RoundRecord {
            id,
            subject: None,
            round_time: number,
            decision: DecisionRef { partition: 0, offset: number },
            votes: votes.iter().map(vote).collect(),
            features: None,
        };
        ledger.apply(&Record::Round(judged), &mut Vec::new()).unwrap();
        if finding.is_some() {
            let filed = LabelRecord { label, received: number, status: LabelStatus::Accepted };
            ledger.apply(&Record::Label(filed), &mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn decisive_votes_are_not_scored() {
        let mut ledger = LedgerState::new();
        add(&mut ledger, 0, &[("a", Some(0.0), false), ("decisive", Some(0.5), false)], Some(Finding::Safe));
        let mapping =
            Mapping { needs_caution: 1.0, teaches: BTreeSet::from([Source::Review]), ..Mapping::default() };
        let rounds = ledger.rounds(ledger.find("p").unwrap()).unwrap();
        let found = rounds.brier(&mapping, ledger.edits(), 10);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 0.0)]);
    }

    #[test]
    fn shadow_votes_are_scored_like_others_and_abstentions_are_not() {
        let mut ledger = LedgerState::new();
        add(&mut ledger, 0, &[("a", Some(0.0), false)], Some(Finding::Unsafe));
        add(&mut ledger, 1, &[("a", Some(0.5), false), ("b", Some(1.0), true)], Some(Finding::Unsafe));
        add(&mut ledger, 2, &[("a", None, false), ("b", Some(0.6), true)], Some(Finding::Safe));
        add(&mut ledger, 3, &[("a", Some(1.0), false), ("b", Some(1.0), true)], None);
        let mapping =
            Mapping { needs_caution: 1.0, teaches: BTreeSet::from([Source::Review]), ..Mapping::default() };
        let rounds = ledger.rounds(ledger.find("p").unwrap()).unwrap();
        let all = rounds.brier(&mapping, ledger.edits(), 10);
        assert_eq!((all["a"], all["b"]), ((1.0 + 0.25) / 2.0, (0.0 + 0.36) / 2.0));
        // The newest two of the three labelled rounds.
        let newest = rounds.brier(&mapping, ledger.edits(), 2);
        assert_eq!((newest["a"], newest["b"]), (0.25, (0.0 + 0.36) / 2.0));
    }
}
