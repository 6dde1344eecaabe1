//! `aegis evaluate`: every expert, plain majority and the learner on labelled text.
//!
//! With files, [`samples`] reads labelled rows. [`extract`] reads a row by a [`layout`], which flags or [`presets`] give.
//! [`files`] asks the panel about the rows and about [`attacks`] on them, [`evaluation`] has the judges, [`figures`]
//! measures, and [`report`] writes text, JSON and a page. Without files, [`held_out`] evaluates Aegis's own sets: [`sets`]
//! reads the texts, and [`page`] writes the tables of docs/panel-quality.md. Both share [`ask`], which gets the panel's
//! votes, [`judge`], which adds the scores of majority and the learner, [`measures`], [`curves`], and [`streams`], which
//! writes label streams for `aegis replay`.

mod args;
mod ask;
mod attacks;
mod curves;
mod evaluation;
mod extract;
mod figures;
mod files;
mod held_out;
mod judge;
mod labels;
mod layout;
mod measures;
mod page;
mod presets;
mod report;
mod samples;
mod sets;
mod streams;
mod table;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

pub use self::args::EvaluateArgs;
pub use self::attacks::Attack;
use crate::experts::{Panel, PanelConfig};

/// The time that a run of an expert may take. No decision waits for it, so a slow machine must not leave texts without votes.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);
/// The number of texts of a held-out set without `--texts`.
const HELD_OUT_TEXTS: usize = 300;

/// An error of an evaluation, as a text for the operator.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// A file or an expert is missing, or a file cannot be written.
    #[error("{0}")]
    Unavailable(String),
    /// Data is invalid.
    #[error("{0}")]
    Data(String),
    /// An attack costs more recall than `--max-recall-loss` allows.
    #[error("{0}")]
    Gate(String),
}

/// The configured experts.
pub struct EvaluateContext {
    /// The panel; `None` for the experts in the folder `--models`.
    pub panel: Option<PanelConfig>,
    /// Returns the ids of the experts in shadow mode. They are measured, and majority and the learner do not use their
    /// votes. Aegis's own sets are measured without them.
    pub in_shadow: InShadow,
}

/// Returns the ids of a panel's experts in shadow mode, or an error if the configuration does not fit the panel.
pub type InShadow = Box<dyn Fn(&Panel) -> Result<BTreeSet<String>, EvaluateError>>;

/// Evaluates, prints the tables, and writes the files that the flags name.
///
/// # Errors
/// Returns an error if experts or texts are missing, if a file cannot be written, if rows or fields are wrong, if an attack
/// costs too much recall, or, for the held-out sets, if two experts are too similar.
pub fn run(args: &EvaluateArgs, context: EvaluateContext) -> Result<(), EvaluateError> {
    let EvaluateContext { panel, in_shadow } = context;
    let config = panel.unwrap_or_else(|| PanelConfig::new(&args.models));
    let open = |only: Option<Vec<String>>| {
        let only = only.or_else(|| config.only.clone());
        let config =
            PanelConfig { only, require_all: true, cache: 0, timeout: RUN_TIMEOUT, ..config.clone() };
        Panel::open(config)
            .map_err(|error| EvaluateError::Unavailable(format!("{error} (`make setup` brings the experts)")))
    };
    let limit = args.texts.map(|texts| texts as usize);
    if args.files.is_empty() {
        let mut panel = open(None)?;
        let shadow = in_shadow(&panel)?;
        if !shadow.is_empty() {
            let ids = panel.experts().iter().map(|expert| &expert.id);
            panel = open(Some(ids.filter(|id| !shadow.contains(*id)).cloned().collect()))?;
        }
        return held_out::run(args, &panel, limit.unwrap_or(HELD_OUT_TEXTS));
    }
    let open = || {
        let panel = open(None)?;
        let shadow = in_shadow(&panel)?;
        Ok((panel, shadow))
    };
    files::run(args, limit, &open)
}

fn unavailable(path: &Path, error: &std::io::Error) -> EvaluateError {
    EvaluateError::Unavailable(format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), EvaluateError> {
    std::fs::write(path, text).map_err(|error| unavailable(path, &error))
}
