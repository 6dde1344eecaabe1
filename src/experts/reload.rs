//! What could not be loaded is tried again while the panel works: after a pause, and after twice as long each time
//! that it fails.

use std::time::Duration;

use super::backend::onnx::Station;
use super::breaker::longer;
use super::error::PanelError;
use super::load::Want;
use super::scheduler::Desk;

/// A lane that has been loaded again.
pub(super) struct Remade {
    /// One for each worker.
    pub(super) stations: Vec<Station>,
    /// What it still lacks.
    pub(super) want: Want,
    /// Why it does.
    pub(super) reason: String,
}

/// Loads the lane of this number again, for so many workers.
pub(super) type Remake = Box<dyn Fn(usize, usize) -> Result<Remade, PanelError> + Send>;

/// Loads lanes that lack something until there are none, or the desk closes. `first`: the first pause.
pub(super) fn mend(desk: &Desk, first: Duration, remake: &Remake) {
    let mut pause = first;
    while let Some(wanting) = desk.wanting(pause) {
        let mut lacking = false;
        for (lane, name, want) in wanting {
            let reason = match remake(lane, desk.workers()) {
                Ok(made) if made.want.is_none() => {
                    if desk.deliver(lane, made.stations, made.want) {
                        tracing::info!(experts = name, "loaded now");
                        continue;
                    }
                    "a worker was added meanwhile".to_owned()
                }
                Ok(made) => {
                    if made.want != want
                        && made.want.is_within(&want)
                        && desk.deliver(lane, made.stations, made.want)
                    {
                        tracing::info!(experts = name, "some of them loaded now");
                    }
                    made.reason
                }
                Err(error) => error.to_string(),
            };
            lacking = true;
            tracing::warn!(
                experts = name,
                reason,
                seconds = longer(pause).as_secs(),
                "could not be loaded; tried again later"
            );
        }
        pause = if lacking { longer(pause) } else { first };
    }
}
