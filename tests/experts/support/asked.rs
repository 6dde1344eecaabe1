//! A panel of tiny experts, and its outcomes.

use std::time::{Duration, Instant};

use aegis::core::vote::{Abstention, Outcome, Vote};
use aegis::experts::{Panel, PanelConfig};

use super::{Folder, models};

/// A vote's score, or the reason of its abstention.
pub type Said = Result<f64, Abstention>;

/// Returns the configuration of a panel with two sessions for the experts of a folder.
pub fn config(folder: &Folder) -> PanelConfig {
    let runtime = models().join("runtime/libonnxruntime.so");
    PanelConfig { runtime, sessions: Some(2), ..PanelConfig::new(folder.path()) }
}

pub fn outcome(vote: &Vote) -> Said {
    match &vote.outcome {
        Outcome::Voted { score, .. } => Ok(*score),
        Outcome::Abstained(reason) => Err(*reason),
    }
}

/// Returns the outcome of each expert for each text.
pub fn outcomes(panel: &Panel, texts: &[&str]) -> Vec<Vec<Said>> {
    panel.ask(texts).iter().map(|answer| answer.votes.iter().map(outcome).collect()).collect()
}

/// Waits until a condition is `true`, because a panel signals nothing.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
