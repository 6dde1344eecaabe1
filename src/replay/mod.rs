//! `aegis replay`: label streams folded offline. The format of streams is docs/replay-format.md.
//!
//! One thread reads and parses, the other fills the ledger and folds. Lines in order are folded as they
//! come; what comes in any other order is folded when it has come.

mod args;
mod avro;
mod ballot;
mod batch;
mod embed;
mod fields;
mod figures;
mod header;
mod label;
mod line;
mod load;
mod read;
pub mod report;
mod run;
mod savepoint;
mod shifts;
mod table;
mod trace;
mod value;
pub mod write;

use thiserror::Error;

pub use args::{Around, ReplayArgs, Topic};
pub use figures::{ExpertFigures, Figures, LearnerName, Summary};
pub use run::{fold_lines, run};

/// Why a replay gave no figures.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The flags cannot be meant so.
    #[error("{0}")]
    Usage(String),
    /// The streams cannot be folded.
    #[error("{0}")]
    Data(String),
    /// Something outside cannot be had.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of this program.
    #[error("{0}")]
    Internal(String),
}

impl ReplayError {
    /// The exit code of the process.
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
