//! The prefixes of a guard's prompts, with their keys and values.

use std::sync::Arc;

use super::causal::{CausalModel, GuardOptions, KeyValueCache, Rows, StepOptions};
use super::probe::{Probe, RunMode};
use super::verdict::VerdictIds;
use crate::experts::backend::result::RunError;

/// The token ids of each prefix, by its number in requests.
pub(crate) type PrefixIds = Arc<[Vec<u32>]>;

/// The prefixes of a guard. All sessions share them.
pub(crate) struct Prefixes {
    ids: PrefixIds,
    /// By prefix; `None` if the graph uses no cache, or if the prefix is empty.
    caches: Vec<Option<KeyValueCache>>,
    mode: RunMode,
}

impl Prefixes {
    /// Finds out how the model can run, and reads the prefixes if it can use a cache of them.
    ///
    /// # Errors
    /// Returns an error if the model does not run.
    pub(crate) fn read(
        model: &mut CausalModel,
        ids: PrefixIds,
        options: &GuardOptions,
        verdict: &VerdictIds,
    ) -> Result<Self, RunError> {
        let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
        // A prefix is longer than most texts, so the memory of its run is not kept.
        let run = options.of_run(model, longest, true)?;
        let options = StepOptions { run: &run, has_adapter: options.has_adapter() };
        let prefix = ids.iter().max_by_key(|ids| ids.len()).map_or(&[][..], Vec::as_slice);
        let mode = Probe { model, options, verdict, prefix }.run()?;
        let mut caches = Vec::new();
        for ids in ids.iter() {
            let cache = if mode.cached && !ids.is_empty() {
                model.run(&Rows::alone(&[ids], None), options, true)?.cache
            } else {
                None
            };
            caches.push(cache);
        }
        Ok(Self { ids, caches, mode })
    }

    /// The number of prefixes.
    pub(super) fn count(&self) -> usize {
        self.ids.len()
    }

    /// The token ids of a prefix.
    pub(super) fn ids(&self, prefix: usize) -> &[u32] {
        self.ids.get(prefix).map_or(&[], Vec::as_slice)
    }

    /// The tokens of the longest prefix if it is read with each prompt, or 0.
    pub(crate) fn read_again(&self) -> usize {
        let longest = || self.ids.iter().map(Vec::len).max().unwrap_or(0);
        if self.mode.cached { 0 } else { longest() }
    }

    /// The keys and values of a prefix.
    pub(super) fn cache(&self, prefix: usize) -> Option<&KeyValueCache> {
        self.caches.get(prefix)?.as_ref()
    }

    /// The way in which the model runs.
    pub(crate) fn mode(&self) -> RunMode {
        self.mode
    }
}
