//! Errors of guard specs and prompts.

use thiserror::Error;

use crate::core::event::Role;

/// The reason why a guard spec cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// No bundled spec has this name.
    #[error(
        "no guard spec is called {name}; the bundled ones are: {known}; name one of them, or a file of the expert's folder"
    )]
    Unknown {
        /// The name.
        name: String,
        /// The names of the bundled specs.
        known: String,
    },
    /// A field of the spec is missing or invalid, or disagrees with the tokenizer.
    #[error("guard spec {spec}: {field}: {problem}; {remedy}")]
    Invalid {
        /// The name of the spec, or `?` if it could not be read.
        spec: String,
        /// The field, e.g. `verdict.unsafe`.
        field: String,
        /// The problem with it.
        problem: String,
        /// The way to correct it.
        remedy: String,
    },
}

impl SpecError {
    pub(super) fn invalid(spec: &str, field: &str, problem: impl Into<String>, remedy: &str) -> Self {
        Self::Invalid {
            spec: spec.to_owned(),
            field: field.to_owned(),
            problem: problem.into(),
            remedy: remedy.to_owned(),
        }
    }
}

/// The reason why a conversation has no prompt. No variant holds text of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PromptError {
    /// The guard does not judge turns of this role, or not by the next token.
    #[error("guard spec {spec} does not judge a turn of the role {}; restrict the expert's roles", role.word())]
    Role {
        /// The name of the spec.
        spec: String,
        /// The judged turn's role.
        role: Role,
    },
    /// The policy and the output rules leave no room for the judged turn.
    #[error(
        "guard spec {spec}: the prompt without the judged turn takes {fixed} of {budget} {unit}; allow more"
    )]
    NoRoom {
        /// The name of the spec.
        spec: String,
        /// The size of the fixed parts.
        fixed: usize,
        /// The greatest size of the prompt.
        budget: usize,
        /// The unit of both: tokens or bytes.
        unit: &'static str,
    },
    /// The spec has no form of prompt for a chat API.
    #[error("guard spec {spec} has no chat messages; use the server's completions API")]
    NoChat {
        /// The name of the spec.
        spec: String,
    },
    /// The template or the tokenizer failed.
    #[error("guard spec {spec}: the prompt cannot be made: {reason}; report it with the spec's version")]
    Failed {
        /// The name of the spec.
        spec: String,
        /// The reason.
        reason: String,
    },
}
