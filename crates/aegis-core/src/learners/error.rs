//! The errors of building a learner.

use super::spec::MAX_EXPERTS;
use super::{Name, Parameter};
use std::fmt;

/// The reason for which a learner cannot be built.
#[derive(Debug, Clone, PartialEq)]
pub enum SpecError {
    /// No learner has this name.
    Unknown(String),
    /// This learner has no such parameter.
    NotTaken {
        /// The learner.
        name: Name,
        /// The parameter given.
        parameter: Parameter,
    },
    /// A value is out of range.
    OutOfRange {
        /// The parameter.
        parameter: Parameter,
        /// Its value.
        value: f64,
    },
    /// A value cannot be parsed.
    Unreadable {
        /// The parameter.
        parameter: Parameter,
        /// The text of its value.
        found: String,
    },
    /// A word is not `key=value`, or the key is unknown.
    Syntax(String),
    /// The η and β of Weighted Majority do not sum to one.
    EtaAgainstBeta,
    /// The prior masses do not name every expert once, or do not sum to one.
    Prior,
    /// There is no expert.
    NoExperts,
    /// There are more experts than [`MAX_EXPERTS`].
    TooManyExperts(usize),
    /// The experts are not in the strict order of their UTF-8 bytes.
    ExpertOrder {
        /// The id that is not greater than the one before it.
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
            Self::TooManyExperts(n) => write!(f, "{n} experts are more than {MAX_EXPERTS}"),
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
