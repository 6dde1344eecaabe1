//! The fold allocates for its checkpoints and for nothing else, counted by the allocator itself.
#![allow(unsafe_code)] // a counting allocator is one

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use aegis_core::fold::{Fold, Settings};
use aegis_core::label::{DecisionRef, Finding, Mapping, Source};
use aegis_core::ledger::LabelStatus;
use aegis_core::ledger_state::{LabelEntry, LedgerState, Score, VotesEntry};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn no_round_allocates() {
    let rounds = 20_000i64;
    let mut book = LedgerState::new();
    let policy = book.policy("p");
    let panel = book.panel(policy, ["a", "b", "c"].into_iter()).unwrap();
    for number in 0..rounds {
        let scores =
            [0.1, 0.5, 0.9].map(|score| Score::new(Some(score), number % 3 == 0 && score > 0.8).unwrap());
        let features = [number as i8; 384];
        let sitting = VotesEntry {
            subject: None,
            round_time: number,
            decision: DecisionRef { partition: 0, offset: number },
            panel,
            scores: &scores,
            reading: (number % 2 == 0).then_some((&[1; 32], &features)),
        };
        let filing = LabelEntry {
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
            standing: LabelStatus::Accepted,
        };
        let row = book.intern(policy, "t", &format!("event-{number}")).unwrap();
        book.insert_votes(policy, row, &sitting, &mut Vec::new()).unwrap();
        book.insert_label(policy, row, &filing, &mut Vec::new()).unwrap();
    }
    for learner in ["hedge", "default"] {
        let mut fold = Fold::new(Settings::new("p", learner.parse().unwrap(), Mapping::default()));
        fold.all(&book);
        fold.advance(&book, 1_000).unwrap(); // sorts, builds the learner, warms up
        let before = COUNT.get();
        assert!(fold.advance(&book, usize::MAX).unwrap());
        let counted = COUNT.get() - before;
        // A checkpoint takes its state and its tally's experts; a list of them grows now and then.
        let allowed = 3 * fold.progress().checkpoints as u64 + 40;
        assert!(counted <= allowed, "{learner}: {counted} allocations in {rounds} rounds, {allowed} allowed");
    }
}
