//! The condition of the models: the experts that abstain whatever the text is, and the models that are loaded later.

use std::time::Duration;

use super::Scheduler;
use super::model::ModelExpert;
use crate::core::vote::Abstention;
use crate::experts::backend::ModelBackend;
use crate::experts::loader::MissingParts;

impl Scheduler {
    /// The experts that abstain whatever the text is, with the reasons: those whose breaker or whose model's breaker is
    /// open, and those that could not be loaded.
    pub(in crate::experts) fn down(&self) -> Vec<(usize, Abstention)> {
        let mut down = Vec::new();
        for model in &self.state().models {
            down.extend(model.missing.experts.iter().map(|&expert| (expert, Abstention::NotLoaded)));
            let whole = model.breaker.down();
            let reason =
                |expert: &ModelExpert| Some((expert.expert_index, whole.or_else(|| expert.breaker.down())?));
            down.extend(model.experts.iter().filter_map(reason));
        }
        down
    }

    /// The experts that are disabled for as long as the panel lives, alone or with their model.
    pub(in crate::experts) fn disabled(&self) -> Vec<usize> {
        let state = self.state();
        let experts =
            state.models.iter().flat_map(|model| model.experts.iter().map(move |expert| (model, expert)));
        let disabled =
            experts.filter(|(model, expert)| model.breaker.is_disabled() || expert.breaker.is_disabled());
        disabled.map(|(_, expert)| expert.expert_index).collect()
    }

    /// By model: the parts that could not be loaded.
    pub(in crate::experts) fn missing(&self) -> Vec<MissingParts> {
        self.state().models.iter().map(|model| model.missing.clone()).collect()
    }

    /// Waits for `pause`, then returns the models that lack something, by number and name. Returns `None` as soon as no
    /// model lacks anything, or the scheduler closes.
    pub(in crate::experts) fn wait_for_missing(
        &self,
        pause: Duration,
    ) -> Option<Vec<(usize, String, MissingParts)>> {
        if self.missing().iter().all(MissingParts::is_empty) || self.closes_within(pause) {
            return None;
        }
        let state = self.state();
        let models = state.models.iter().enumerate().filter(|(_, model)| !model.missing.is_empty());
        let missing: Vec<_> =
            models.map(|(number, model)| (number, model.name.clone(), model.missing.clone())).collect();
        (!missing.is_empty()).then_some(missing)
    }

    /// Hands out the backends of a model that was loaded again, one for each worker, which install them before their
    /// next run. Returns `false` if workers were added meanwhile, because one would lack the model forever.
    pub(in crate::experts) fn install(
        &self,
        model: usize,
        backends: Vec<ModelBackend>,
        missing: MissingParts,
    ) -> bool {
        let mut state = self.state();
        if backends.len() != state.reloaded.len() {
            return false;
        }
        for (reloaded, backend) in state.reloaded.iter_mut().zip(backends) {
            reloaded.push((model, backend));
        }
        let model = &mut state.models[model];
        model.breaker.set_not_loaded(missing.whole_model);
        model.missing = missing;
        true
    }
}
