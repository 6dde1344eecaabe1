//! The protocol of score and learn as a model, explored in full: docs/guarantees.md explains it.

mod kafka;
mod score;

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
}

#[test]
fn probe() {
    use stateright::{Checker, Model};
    { let faults = 9; for ids in [[0, 1], [0, 0]] {
        let at = std::time::Instant::now();
        let checker = score::Scoring { ids, without: None }.checker().threads(2).target_state_count(40_000_000).spawn_bfs().join();
        println!("{faults} {ids:?}: {} states, {} depth, {:?}", checker.unique_state_count(), checker.max_depth(), at.elapsed());
        for (name, path) in checker.discoveries() { if !name.starts_with("it") {println!("{name}: {:?}", path.into_actions());} }
        checker.assert_properties();
    } }
}
