//! The queue of a model, and the condition of its experts.

use std::time::{Duration, Instant};

use crate::core::vote::Abstention;
use crate::experts::backend::Profile;
use crate::experts::backend::result::TextResult;
use crate::experts::batcher::Limits;
use crate::experts::batcher::queue::BatchQueue;
use crate::experts::breaker::CircuitBreaker;
use crate::experts::cache::RequestKey;
use crate::experts::loader::MissingParts;

/// A model, as the scheduler needs it.
pub(crate) struct ModelSpec {
    pub(crate) limits: Limits,
    pub(crate) profile: Profile,
    /// The experts of the model with their indexes in the panel.
    pub(crate) experts: Vec<(usize, String)>,
    /// The first pause after a failure.
    pub(crate) pause: Duration,
    /// The parts that could not be loaded.
    pub(crate) missing: MissingParts,
}

impl ModelSpec {
    pub(super) fn into_queue(self) -> ModelQueue {
        let Self { limits, profile, experts, pause, missing } = self;
        let name = experts.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>().join(", ");
        let expert =
            |(expert_index, id)| ModelExpert { expert_index, id, breaker: CircuitBreaker::new(pause) };
        let mut breaker = CircuitBreaker::new(pause);
        breaker.set_not_loaded(missing.whole_model);
        let experts = experts.into_iter().map(expert).collect();
        ModelQueue { name, experts, profile, queue: BatchQueue::new(limits), breaker, missing }
    }
}

/// An expert of a model.
pub(crate) struct ModelExpert {
    pub(crate) expert_index: usize,
    pub(crate) id: String,
    /// The breaker of this expert alone, because a head may fail while its encoder works.
    pub(crate) breaker: CircuitBreaker,
}

/// The queue of a model, with the condition of the model and its experts.
pub(crate) struct ModelQueue {
    /// The ids of the experts.
    pub(crate) name: String,
    pub(crate) experts: Vec<ModelExpert>,
    pub(crate) profile: Profile,
    pub(crate) queue: BatchQueue<RequestKey, Instant>,
    pub(crate) breaker: CircuitBreaker,
    /// The parts that could not be loaded.
    pub(crate) missing: MissingParts,
}

impl ModelQueue {
    /// The result of a text that does not run.
    pub(crate) fn abstention(&self, reason: Abstention) -> TextResult {
        TextResult::abstained(self.experts.iter().map(|expert| expert.expert_index), reason)
    }

    /// The result of a text whose run was cancelled: what is known of it, and an abstention of every other expert.
    pub(super) fn complete(&self, known: Option<&TextResult>, reason: Abstention) -> TextResult {
        let mut result = known.cloned().unwrap_or_default();
        for ModelExpert { expert_index, .. } in &self.experts {
            if !result.outcomes.iter().any(|(known, _)| known == expert_index) {
                result.outcomes.push((*expert_index, Err(reason)));
            }
        }
        result
    }

    /// The experts that are not asked now, with the reasons.
    pub(crate) fn refused(&mut self, now: Instant, until: Instant) -> Vec<(usize, Abstention)> {
        let refused =
            |expert: &mut ModelExpert| Some((expert.expert_index, expert.breaker.admit(now, until).err()?));
        self.experts.iter_mut().filter_map(refused).collect()
    }
}
