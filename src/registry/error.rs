//! Why a registry is of no help.

use crate::codec::DecodeError;

/// Why a registry is of no help. The names are metric labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The settings are of no use.
    #[error("registry.{key}: {reason}")]
    Settings {
        /// The key in `[registry]`.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no thread to give.
    #[error("no thread for the schema registry: {reason}")]
    Thread {
        /// The system's words.
        reason: String,
    },
    /// It does not answer, or not what it is asked.
    #[error(
        "the schema registry does not help: {reason}. Nothing is lost: mend it, or registry.url, and start \
         again"
    )]
    Unavailable {
        /// What it did last.
        reason: String,
    },
    /// Its answer was awaited when the program was told to stop.
    #[error("stopped while the schema registry's answer was awaited")]
    Interrupted,
    /// It refuses our schema.
    #[error(
        "the schema registry refuses the schema under {subject}: {reason}. Decisions of another program, or \
         of a version too far away, are registered there: choose another topic or registry.subjects"
    )]
    Conflict {
        /// The subject.
        subject: String,
        /// The registry's words.
        reason: String,
    },
    /// It does not have our schema, and adding it is turned off.
    #[error(
        "the schema registry does not have this version's schema under {subject}: register the file in \
         schemas/ there, or set registry.register = true"
    )]
    NotRegistered {
        /// The subject.
        subject: String,
    },
}

impl RegistryError {
    /// What a decoding error says about the registry; the error itself where it is about the record. For
    /// those who wait for schemas: one that is still pending then was given up on request.
    ///
    /// # Errors
    /// The decoding error, as it was.
    pub fn of(error: DecodeError) -> Result<Self, DecodeError> {
        match error {
            DecodeError::RegistryUnavailable { reason, .. } => Ok(Self::Unavailable { reason }),
            DecodeError::SchemaPending { .. } => Ok(Self::Interrupted),
            other => Err(other),
        }
    }

    /// The error's name, as metric label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "Settings",
            Self::Thread { .. } => "Thread",
            Self::Unavailable { .. } => "Unavailable",
            Self::Interrupted => "Interrupted",
            Self::Conflict { .. } => "Conflict",
            Self::NotRegistered { .. } => "NotRegistered",
        }
    }
}
