//! Why a learner cannot be had.

use super::spec::MOST_EXPERTS;
use super::{Name, Parameter};
use std::fmt;

/// Why a learner cannot be had.
#[derive(Debug, Clone, PartialEq)]
pub enum SpecError {
    /// No learner has this name.
    Unknown(String),
    /// This learner has no such parameter.
    NotTaken {
        /// The learner.
        name: Name,
        /// What was given.
        parameter: Parameter,
    },
    /// A value out of range.
    OutOfRange {
        /// What was given.
        parameter: Parameter,
        /// Its value.
        value: f64,
    },
    /// A value that does not read.
    Unreadable {
        /// What was given.
        parameter: Parameter,
        /// Its text.
        found: String,
    },
    /// Text that is no `name` or `name key=value ...`.
    Syntax(String),
    /// η and β of Weighted Majority that are not 1 - one another.
    EtaAgainstBeta,
    /// Prior masses that do not name every expert once, or do not add up to 1.
    Prior,
    /// No expert at all.
    NoExperts,
    /// More experts than [`MOST_EXPERTS`].
    TooManyExperts(usize),
    /// Experts that are not in the strict order of their UTF-8 bytes.
    ExpertOrder {
        /// The id that is not above the one before it.
        at: String,
    },
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => {
                write!(f, "no learner is called {text:?}; there are")?;
                Name::ALL.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Self::NotTaken { name, parameter } => {
                write!(f, "the learner {name} takes no {parameter}")?;
                match name.takes() {
                    [] => f.write_str(" (it has no parameters)"),
                    takes => {
                        f.write_str(" (it takes")?;
                        takes.iter().try_for_each(|parameter| write!(f, " {parameter}"))?;
                        f.write_str(")")
                    }
                }
            }
            Self::OutOfRange { parameter, value } => {
                write!(f, "{parameter} = {value} is out of range: {}", parameter.expected())
            }
            Self::Unreadable { parameter, found } => {
                write!(f, "{parameter} cannot be {found:?}: {}", parameter.expected())
            }
            Self::Syntax(text) => write!(f, "{text:?} is not a parameter: expected key=value"),
            Self::EtaAgainstBeta => f.write_str("eta and beta contradict: beta is 1 - eta; give one of them"),
            Self::Prior => write!(f, "the prior must be {}", Parameter::Prior.expected()),
            Self::NoExperts => f.write_str("a learner needs at least one expert"),
            Self::TooManyExperts(n) => write!(f, "{n} experts are more than {MOST_EXPERTS}"),
            Self::ExpertOrder { at } => {
                write!(
                    f,
                    "experts must be in the order of their ids' bytes, each once: {at:?} is out of place"
                )
            }
        }
    }
}

impl std::error::Error for SpecError {}
