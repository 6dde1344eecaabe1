//! The protocol of score and learn as a model, explored in full: docs/guarantees.md explains it.

mod kafka;
mod learn;
mod score;
mod world;

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
    /// sled is written after the commit, with what was read back.
    SledAfterCommit,
    /// After restoring, labels that wait in the ledger are looked up in the index: another learner, whose
    /// index was behind, may have put them there.
    Search,
}

#[test]
fn probe() {
    use stateright::{Checker, Model};
        let at = std::time::Instant::now();
        let checker = learn::Learning { without: None }.checker().threads(2).target_state_count(100_000_000).finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs().join();
        println!("learn: {} states, {} depth, {:?}", checker.unique_state_count(), checker.max_depth(), at.elapsed());
        for (name, path) in checker.discoveries() { if !name.starts_with("it") {println!("{name}: {:?}", path.clone().into_actions());}  }
        checker.assert_properties();
}
