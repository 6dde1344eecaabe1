//! Answers to texts that were asked before, within a bound of bytes.
//!
//! The key is the lane and the token ids themselves, so two texts share an answer only where a graph could not
//! tell them apart. A panel's lanes lead to graphs of fixed hashes for its whole life; another panel has its own
//! cache. Only full answers are kept: what failed is tried again.

use quick_cache::Weighter;
use quick_cache::sync::Cache as Kept;

use super::backend::onnx::RowResult;
use super::scheduler::Same;

/// What an answer takes beside its ids, features and scores: roughly.
const OVERHEAD: usize = 256;
/// What a score of a category takes.
const SCORE: usize = 48;

#[derive(Clone)]
struct Bytes;

impl Weighter<Same, RowResult> for Bytes {
    fn weight(&self, run: &Same, result: &RowResult) -> u64 {
        let judgements = result.outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
        let scores: usize = judgements.map(|(_, categories)| SCORE * (1 + categories.len())).sum();
        let features = result.features.as_ref().map_or(0, |features| size_of_val(features.as_ref()));
        (OVERHEAD + 4 * run.ids.len() + scores + features) as u64
    }
}

/// The answers.
pub(super) struct Cache(Option<Kept<Same, RowResult, Bytes>>);

impl Cache {
    /// At most so many bytes; zero keeps nothing.
    pub(super) fn new(bytes: usize) -> Self {
        let kept = || Kept::with_weighter((bytes / 1_024).max(1), bytes as u64, Bytes);
        Self((bytes > 0).then(kept))
    }

    /// The answer to an equal text.
    pub(super) fn get(&self, run: &Same) -> Option<RowResult> {
        self.0.as_ref()?.get(run)
    }

    /// Keeps an answer, where it is one of experts, and full.
    pub(super) fn keep(&self, run: Same, result: RowResult) {
        if let Some(kept) = &self.0
            && run.heads
            && result.outcomes.iter().all(|(_, outcome)| outcome.is_ok())
        {
            kept.insert(run, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::vote::Abstention;

    fn same(id: u32) -> Same {
        Same { lane: 0, ids: [id; 100].into(), heads: true }
    }

    fn voted(score: f64) -> RowResult {
        RowResult { outcomes: vec![(0, Ok((score, Vec::new())))], features: None }
    }

    #[test]
    fn full_answers_are_kept_and_failures_are_not() {
        let cache = Cache::new(100_000);
        cache.keep(same(1), voted(0.25));
        cache.keep(same(2), RowResult { outcomes: vec![(0, Err(Abstention::Failed))], features: None });
        cache.keep(Same { heads: false, ..same(3) }, RowResult::default());
        assert_eq!(cache.get(&same(1)).unwrap().outcomes, voted(0.25).outcomes);
        assert!(cache.get(&Same { lane: 1, ..same(1) }).is_none());
        assert!(cache.get(&same(2)).is_none() && cache.get(&Same { heads: false, ..same(3) }).is_none());
    }

    #[test]
    fn no_more_is_kept_than_fits() {
        let cache = Cache::new(100_000);
        (0..1_000).for_each(|id| cache.keep(same(id), voted(0.5)));
        let kept = (0..1_000).filter(|&id| cache.get(&same(id)).is_some()).count();
        // Each weighs 704 bytes.
        assert!((50..=142).contains(&kept), "{kept}");
        let none = Cache::new(0);
        none.keep(same(1), voted(0.5));
        assert!(none.get(&same(1)).is_none());
    }
}
