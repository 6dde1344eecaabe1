//! `aegis replay`: label streams folded offline. docs/replay-format.md describes their format.
//!
//! One thread reads and parses files, another fills the ledger and folds. Lines in order are folded while they come;
//! lines in any other order are folded at the end.
//!
//! [`run()`] goes through the stages: [`ingest`] takes batches from [`read`] and [`line`] and puts them into [`load`], whose
//! folds give the [`figures`] that [`table`], [`trace`] and [`report`] show.

mod args;
mod avro;
mod batch;
mod decisions;
mod embed;
mod fields;
mod figures;
mod header;
mod ingest;
mod label;
mod ledger;
mod line;
mod load;
mod read;
pub mod report;
mod run;
mod sampling;
mod savepoint;
mod selected;
mod shifts;
mod table;
mod trace;
mod value;
mod votes;
pub mod write;

use thiserror::Error;

pub use args::{ReplayArgs, ReplayContext, Topic};
pub use figures::{ExpertFigures, Figures, LearnerName, SelectionFigures, Summary};
pub use ledger::read_ledger;
pub use run::{fold_lines, run};

/// An error of a replay, as a text for the operator.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The flags are invalid.
    #[error("{0}")]
    Usage(String),
    /// The streams cannot be folded.
    #[error("{0}")]
    Data(String),
    /// A file, a topic or an expert is not available.
    #[error("{0}")]
    Unavailable(String),
    /// An error of this program.
    #[error("{0}")]
    Internal(String),
}

impl ReplayError {
    /// Returns the exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Data(_) => 65,
            Self::Unavailable(_) => 69,
            Self::Internal(_) => 70,
        }
    }

    fn reading(path: &std::path::Path, reason: &std::io::Error) -> Self {
        if reason.kind() == std::io::ErrorKind::InvalidData {
            return Self::Data(format!("{}: {reason}", path.display()));
        }
        Self::Unavailable(format!("{}: cannot be read: {reason}", path.display()))
    }

    fn writing(path: &std::path::Path, reason: &std::io::Error) -> Self {
        Self::Unavailable(format!("{}: cannot be written: {reason}", path.display()))
    }
}
