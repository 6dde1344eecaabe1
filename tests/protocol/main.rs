//! The protocol of score and learn as a model, explored in full: docs/guarantees.md explains it.
//!
//! `kafka` is what the brokers promise; `score` and `learn` are the two roles, one step for each of theirs;
//! `world` is what core makes of a handful of labels.

mod kafka;
mod learn;
mod score;
mod world;

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use learn::Learning;
use score::Scoring;

/// What keeps the promises, and can be taken out to see them broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// An old epoch of a transactional id is refused.
    Fencing,
    /// All records are acknowledged before the commit is asked for.
    Drain,
    /// The proof of membership is taken afresh for each commit.
    FreshMetadata,
    /// After a commit without an answer the producer is made anew.
    NewProducer,
    /// The unit under way ends before a partition is given back: until then nothing of it is let go or taken again.
    EndsFirst,
    /// sled is written after the commit, with what was read back.
    SledAfterCommit,
    /// What another learner has written to the ledger is looked up in the index before it is kept: its own
    /// index may have been behind.
    Search,
}

/// Two scorers with an id each, and one that takes another's place while that may still be alive.
const OWN: [usize; 2] = [0, 1];
const REPLACED: [usize; 2] = [0, 0];
/// Faults in one run of learn. score takes any number.
const FAULTS: u8 = 2;

fn scoring(ids: [usize; 2], without: Option<Safeguard>) -> Scoring {
    Scoring { ids, without }
}

fn learning(without: Option<Safeguard>) -> Learning {
    Learning { faults: FAULTS, without }
}

/// Explores the whole space: every promise holds in every state.
fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let started = Instant::now();
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    checker.assert_properties();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!(
        "{name}: {states} states, the longest way {depth} steps, all explored in {:.0?}",
        started.elapsed()
    );
}

/// Finds a way to break one of these promises, a shortest one.
fn breaks<M>(model: M, promises: &[&'static str])
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = promises.iter().find_map(|promise| Some((promise, checker.discovery(promise)?)));
    let (promise, path) = found.expect("without its safeguard one of these promises breaks");
    println!("broken: {promise}\n  by {:?}", path.into_actions());
}

#[test]
fn protocol_of_score_keeps_its_promises() {
    holds("score", scoring(OWN, None));
    holds("score, one in another's place", scoring(REPLACED, None));
}

#[test]
fn protocol_of_learn_keeps_its_promises() {
    holds("learn", learning(None));
}

#[test]
fn protocol_without_fencing_breaks() {
    breaks(scoring(REPLACED, Some(Safeguard::Fencing)), &[score::NEVER_TWO]);
    breaks(
        learning(Some(Safeguard::Fencing)),
        &[learn::NEVER_TWO, learn::NEVER_NONE, learn::FOLD, learn::REST],
    );
}

#[test]
fn protocol_without_the_drain_breaks() {
    breaks(scoring(OWN, Some(Safeguard::Drain)), &[score::NEVER_NONE]);
    breaks(learning(Some(Safeguard::Drain)), &[learn::NEVER_NONE]);
}

#[test]
fn protocol_without_fresh_group_metadata_breaks() {
    breaks(scoring(OWN, Some(Safeguard::FreshMetadata)), &[score::NEVER_TWO]);
}

#[test]
fn protocol_without_a_new_producer_breaks() {
    breaks(scoring(OWN, Some(Safeguard::NewProducer)), &[score::NEVER_TWO]);
}

#[test]
fn protocol_with_a_unit_that_outlives_its_tenure_breaks() {
    breaks(scoring(OWN, Some(Safeguard::EndsFirst)), &[score::NEVER_TWO]);
}

#[test]
fn protocol_with_sled_before_the_commit_breaks() {
    breaks(learning(Some(Safeguard::SledAfterCommit)), &[learn::SLED]);
}

#[test]
fn protocol_without_the_search_after_restoring_breaks() {
    breaks(learning(Some(Safeguard::Search)), &[learn::REST]);
}
