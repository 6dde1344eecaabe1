//! Loads models that could not be loaded, while the panel works. The pause between two attempts doubles.

use std::time::Duration;

use super::breaker::next_pause;
use super::loader::{MissingParts, ModelLoader, ReloadedModel};
use super::scheduler::Scheduler;

/// Loads models that lack something until no model does, or the scheduler closes. `first_pause`: the pause before the
/// first attempt.
pub(super) fn reload_missing(scheduler: &Scheduler, first_pause: Duration, load_model: &ModelLoader) {
    let mut pause = first_pause;
    while let Some(models) = scheduler.wait_for_missing(pause) {
        let mut any_missing = false;
        for (model, name, missing) in models {
            let Err(reason) = reload(scheduler, model, &name, &missing, load_model) else {
                continue;
            };
            any_missing = true;
            tracing::warn!(
                experts = name,
                reason,
                seconds = next_pause(pause).as_secs(),
                "could not be loaded; tried again later"
            );
        }
        pause = if any_missing { next_pause(pause) } else { first_pause };
    }
}

/// Loads one model again, and installs it if it lacks less than before.
///
/// # Errors
/// Returns the reason if the model still lacks something.
fn reload(
    scheduler: &Scheduler,
    model: usize,
    name: &str,
    missing: &MissingParts,
    load_model: &ModelLoader,
) -> Result<(), String> {
    let ReloadedModel { backends, missing: still_missing, reason } =
        load_model(model, scheduler.worker_count()).map_err(|error| error.to_string())?;
    if still_missing.is_empty() {
        if !scheduler.install(model, backends, still_missing) {
            return Err("a worker was added meanwhile".to_owned());
        }
        tracing::info!(experts = name, "loaded now");
        return Ok(());
    }
    let is_less = still_missing != *missing && still_missing.is_subset(missing);
    if is_less && scheduler.install(model, backends, still_missing) {
        tracing::info!(experts = name, "some of them loaded now");
    }
    Err(reason)
}
