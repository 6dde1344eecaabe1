//! The languages that an expert reads.

use std::fmt;

use crate::core::language::Language;
use crate::language::Detection;

/// The languages of judged texts on which an expert votes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Languages {
    /// Any language. The manifest names none.
    #[default]
    All,
    /// These languages, by their codes.
    Only(Vec<Language>),
}

impl Languages {
    /// The languages with these codes. Returns `None` if there is none, if one is unknown, or if one is there twice.
    pub(super) fn of_codes(codes: &[String]) -> Option<Self> {
        let mut languages = codes.iter().map(|code| code.parse().ok()).collect::<Option<Vec<Language>>>()?;
        languages.sort_unstable();
        let is_set = !languages.is_empty() && languages.is_sorted_by(|a, b| a < b);
        is_set.then_some(Self::Only(languages))
    }

    /// Returns `true` if the expert votes on a text: it is in one of these languages, or may be.
    #[must_use]
    pub fn include(&self, detection: &Detection) -> bool {
        match self {
            Self::All => true,
            Self::Only(languages) => languages.iter().any(|language| detection.may_be(*language)),
        }
    }
}

impl fmt::Display for Languages {
    /// Writes the codes, or `all`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Only(languages) => {
                let codes: Vec<_> = languages.iter().map(|language| language.code()).collect();
                f.write_str(&codes.join(", "))
            }
        }
    }
}
