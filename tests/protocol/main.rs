//! A model of the protocol of score and learn, whose states are explored in full. docs/guarantees.md explains it.
//!
//! `kafka` models the guarantees of the brokers. `score` and `learn` model the two roles, with one step for each of
//! theirs. `world` holds a few labels and applies core to them.

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

/// The safeguards of the protocol. Each can be removed to show which guarantee then breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// An old epoch of a transactional id is refused.
    Fencing,
    /// All records are acknowledged before the commit is requested.
    Drain,
    /// The proof of membership is read again for each commit.
    FreshMetadata,
    /// After a commit without an answer a new producer is created.
    NewProducer,
    /// The open batch ends before a partition is revoked. Until then none of its events is dropped or read again.
    EndsFirst,
    /// sled is written after the commit, with the records that were read back.
    SledAfterCommit,
    /// Records that another learner wrote to the ledger are looked up in the index before they are stored, because the
    /// other's index may have been behind.
    Search,
}

/// Two scorers with one id each, and a scorer that takes the id of another that may still be alive.
const OWN: [usize; 2] = [0, 1];
const REPLACED: [usize; 2] = [0, 0];
/// The number of faults in one run of learn. That of score is not limited.
const FAULTS: u8 = 2;

fn scoring(ids: [usize; 2], without: Option<Safeguard>) -> Scoring {
    Scoring { ids, without }
}

fn learning(without: Option<Safeguard>) -> Learning {
    Learning { faults: FAULTS, without }
}

/// Explores all states, and checks that every guarantee holds in each.
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

/// Finds a shortest path to a state in which one of these guarantees does not hold.
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
