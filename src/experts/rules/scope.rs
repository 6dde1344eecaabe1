//! The texts in which an entry of a rule file counts, by their language.

use serde::Deserialize;

use super::parse::Problem;
use crate::core::language::Language;

/// The texts in which the entries of a language count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CountsIn {
    /// Texts of all languages.
    #[default]
    All,
    /// Texts of the entry's language, and texts of unknown language.
    OwnOrUnknown,
    /// Texts that are known to be in the entry's language.
    Own,
}

/// The language of an entry and the texts in which it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope {
    /// `Unknown` for entries of no language.
    pub(super) language: Language,
    counts_in: CountsIn,
}

impl Scope {
    /// The scope of an entry.
    ///
    /// # Errors
    /// Returns the key with its problem and remedy if the language is unknown, or if it is missing although `counts_in`
    /// refers to it.
    pub(super) fn new(code: Option<&str>, counts_in: CountsIn) -> Result<Self, (&'static str, Problem)> {
        let Some(code) = code else {
            if counts_in == CountsIn::All {
                return Ok(Self { language: Language::Unknown, counts_in });
            }
            let problem = "it refers to the entry's language, and there is none".to_owned();
            return Err(("counts_in", (problem, "add `language`, or remove `counts_in`".to_owned())));
        };
        let language = code.parse().map_err(|_| {
            let known: Vec<_> = Language::KNOWN.iter().map(|known| known.code()).collect();
            (
                "language",
                (format!("{code:?} is no known language"), format!("give one of {}", known.join(", "))),
            )
        })?;
        Ok(Self { language, counts_in })
    }

    /// Returns `true` if the entry counts in a text of this language.
    pub(super) fn includes(self, language: Language) -> bool {
        match self.counts_in {
            CountsIn::All => true,
            CountsIn::OwnOrUnknown => language == Language::Unknown || language == self.language,
            CountsIn::Own => language == self.language,
        }
    }
}
