//! Errors of the schema registry's client.

use crate::codec::DecodeError;

/// An error of the schema registry's client. The names are metric labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// A setting cannot be used.
    #[error("registry.{key}: {reason}")]
    Settings {
        /// The key in `[registry]`.
        key: &'static str,
        /// The problem, and what to write instead.
        reason: String,
    },
    /// The operating system did not start a thread.
    #[error("no thread for the schema registry: {reason}")]
    Thread {
        /// The operating system's error.
        reason: String,
    },
    /// The registry does not answer, or its answer cannot be used.
    #[error(
        "the schema registry is unavailable: {reason}. Nothing is lost: fix it, or registry.url, and start again"
    )]
    Unavailable {
        /// The last failure.
        reason: String,
    },
    /// The program was asked to stop while it waited for an answer.
    #[error("stopped while the schema registry's answer was awaited")]
    Interrupted,
    /// The registry refuses our schema.
    #[error(
        "the schema registry refuses the schema under {subject}: {reason}. Decisions of another program, or \
         of a version too far away, are registered there: choose another topic or registry.subjects"
    )]
    Conflict {
        /// The subject.
        subject: String,
        /// The registry's message.
        reason: String,
    },
    /// The registry does not have our schema, and registering it is turned off.
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
    /// Returns the registry's error that a decoding error stands for.
    ///
    /// For callers that wait for schemas: a schema that is still pending means that the wait was interrupted.
    ///
    /// # Errors
    /// Returns the decoding error itself if it is about the record.
    pub fn of(error: DecodeError) -> Result<Self, DecodeError> {
        match error {
            DecodeError::RegistryUnavailable { reason, .. } => Ok(Self::Unavailable { reason }),
            DecodeError::SchemaPending { .. } => Ok(Self::Interrupted),
            other => Err(other),
        }
    }

    /// Returns the error's name, which is a metric label.
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
