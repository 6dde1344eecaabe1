//! The fold allocates only for its checkpoints, as counted by the allocator.

use aegis_core::fold::{Fold, Settings};
use aegis_core::label::{DecisionRef, Finding, Mapping, Source};
use aegis_core::ledger::LabelStatus;
use aegis_core::ledger_state::{LabelEntry, LedgerState, Score, VotesEntry};

use super::COUNT;

#[test]
fn no_round_allocates() {
    let rounds = 20_000i64;
    let mut ledger = LedgerState::new();
    let policy = ledger.policy("p");
    let panel = ledger.panel(policy, ["a", "b", "c"].into_iter()).unwrap();
    for number in 0..rounds {
        let scores =
            [0.1, 0.5, 0.9].map(|score| Score::new(Some(score), number % 3 == 0 && score > 0.8).unwrap());
        let features = [number as i8; 384];
        let votes = VotesEntry {
            subject: None,
            round_time: number,
            decision: DecisionRef { partition: 0, offset: number },
            panel,
            scores: &scores,
            features: (number % 2 == 0).then_some((&[1; 32], &features)),
        };
        let label = LabelEntry {
            id: "label",
            annotator: Some("ann"),
            verdict: Some(if number % 5 < 2 { Finding::Unsafe } else { Finding::Safe }),
            severity: None,
            categories: &[],
            time: 0,
            source: Source::Review,
            inclusion_probability: None,
            decision: None,
            corrects: None,
            retracts: None,
            received: 0,
            status: LabelStatus::Accepted,
        };
        let row = ledger.intern(policy, "t", &format!("event-{number}")).unwrap();
        ledger.insert_votes(policy, row, &votes, &mut Vec::new()).unwrap();
        ledger.insert_label(policy, row, &label, &mut Vec::new()).unwrap();
    }
    for learner in ["hedge", "default"] {
        let mut fold = Fold::new(Settings::new("p", learner.parse().unwrap(), Mapping::default()));
        fold.mark_all_changed(&ledger);
        fold.advance(&ledger, 1_000).unwrap(); // sorts, builds the learner, warms up
        let before = COUNT.get();
        assert!(fold.advance(&ledger, usize::MAX).unwrap());
        let counted = COUNT.get() - before;
        // A checkpoint allocates its state and the experts of its tally, and the list of checkpoints grows at times.
        let allowed = 3 * fold.progress().checkpoints as u64 + 40;
        assert!(counted <= allowed, "{learner}: {counted} allocations in {rounds} rounds, {allowed} allowed");
    }
}
