//! A panel over such experts, and what it says.

use aegis::core::vote::{Abstention, Outcome, Vote};
use aegis::experts::{Panel, PanelConfig};

use super::{Folder, models};

/// A vote's score, or why there is none.
pub type Said = Result<f64, Abstention>;

/// Two sessions over a folder's experts.
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

/// Each expert's outcome on each text.
pub fn outcomes(panel: &Panel, texts: &[&str]) -> Vec<Vec<Said>> {
    panel.ask(texts).iter().map(|answer| answer.votes.iter().map(outcome).collect()).collect()
}
