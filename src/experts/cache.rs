//! Cached results of texts that were run before, within a bound of bytes.
//!
//! The key holds the model and the token ids themselves, so two texts share a result only if a graph cannot tell them
//! apart. The graphs of a panel are the same for its whole life, and another panel has a cache of its own. Only complete
//! results are kept, so that failures are tried again.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::backend::result::TextResult;
use super::features::EncoderFeatures;

/// Bytes of a result besides its ids, features and scores, roughly.
const OVERHEAD_BYTES: usize = 256;
/// Bytes of a category's score.
const SCORE_BYTES: usize = 48;

/// The identity of a request: equal keys share one run and one result.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RequestKey {
    /// The number of the model in the panel.
    pub(super) model: usize,
    /// The token ids or characters.
    pub(super) ids: Arc<[u32]>,
    /// Votes are wanted, and not only features.
    pub(super) votes: bool,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<RequestKey, TextResult> for Bytes {
    fn weight(&self, key: &RequestKey, result: &TextResult) -> u64 {
        let judgements = result.outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
        let scores: usize = judgements.map(|(_, categories)| SCORE_BYTES * (1 + categories.len())).sum();
        let features = result.features.as_ref().map_or(0, EncoderFeatures::size);
        (OVERHEAD_BYTES + 4 * key.ids.len() + scores + features) as u64
    }
}

/// The cached results.
pub(super) struct ResultCache(Option<Cache<RequestKey, TextResult, Bytes>>);

impl ResultCache {
    /// A cache of at most `bytes` bytes; with zero it keeps nothing.
    pub(super) fn new(bytes: usize) -> Self {
        let cache = || Cache::with_weighter((bytes / 1_024).max(1), bytes as u64, Bytes);
        Self((bytes > 0).then(cache))
    }

    /// The result of an equal request.
    pub(super) fn get(&self, key: &RequestKey) -> Option<TextResult> {
        self.0.as_ref()?.get(key)
    }

    /// Keeps a result if it is complete: it has votes, every expert voted, and no vote lacks categories.
    pub(super) fn insert(&self, key: RequestKey, result: TextResult) {
        if let Some(cache) = &self.0
            && key.votes
            && !result.incomplete
            && result.outcomes.iter().all(|(_, outcome)| outcome.is_ok())
        {
            cache.insert(key, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::vote::Abstention;

    fn key(id: u32) -> RequestKey {
        RequestKey { model: 0, ids: [id; 100].into(), votes: true }
    }

    fn voted(score: f64) -> TextResult {
        TextResult { outcomes: vec![(0, Ok((score, Vec::new())))], ..TextResult::default() }
    }

    #[test]
    fn complete_results_are_kept_and_failures_are_not() {
        let cache = ResultCache::new(100_000);
        cache.insert(key(1), voted(0.25));
        cache.insert(key(2), TextResult::abstained([0].into_iter(), Abstention::Failed));
        cache.insert(RequestKey { votes: false, ..key(3) }, TextResult::default());
        cache.insert(key(4), TextResult { incomplete: true, ..voted(0.75) });
        assert!(cache.get(&key(4)).is_none());
        assert_eq!(cache.get(&key(1)).unwrap().outcomes, voted(0.25).outcomes);
        assert!(cache.get(&RequestKey { model: 1, ..key(1) }).is_none());
        assert!(cache.get(&key(2)).is_none() && cache.get(&RequestKey { votes: false, ..key(3) }).is_none());
    }

    #[test]
    fn only_what_fits_is_kept() {
        let cache = ResultCache::new(100_000);
        (0..1_000).for_each(|id| cache.insert(key(id), voted(0.5)));
        let kept = (0..1_000).filter(|&id| cache.get(&key(id)).is_some()).count();
        // Each weighs 704 bytes.
        assert!((50..=142).contains(&kept), "{kept}");
        let none = ResultCache::new(0);
        none.insert(key(1), voted(0.5));
        assert!(none.get(&key(1)).is_none());
    }
}
