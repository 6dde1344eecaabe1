//! The judged text as experts read it.
//!
//! A text can hold characters that nobody sees, and letters that only a program takes for something else. [`reveal`]
//! returns the text that people and language models read, before any expert reads it. It runs in two passes:
//!
//! 1. Encoded text is decoded and styled letters become plain ones. Unicode Tag characters and runs of variation
//!    selectors hide whole sentences: what they encode is put behind the word that they stand in, so that the visible
//!    word stays in one piece. Enclosed, squared, mathematical and full-width letters become ASCII letters.
//! 2. Invisible characters are removed where nothing needs them ([`marks`]). Joiners stay in scripts that are written
//!    with them and in emoji.
//!
//! The result is never longer than the text, in bytes, and revealing it again changes nothing. Text without such
//! characters is borrowed, not copied.

mod letters;
mod marks;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

/// A way in which text was hidden from readers or from programs. The names stand in decisions and are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HiddenText {
    /// Unicode Tag characters outside of a flag.
    TagCharacters,
    /// Two or more variation selectors in a row, which can encode bytes.
    VariationSelectors,
    /// Invisible characters within a word, or several in a row.
    InvisibleCharacters,
    /// Controls that reverse the order in which text is shown.
    BidiControls,
    /// Two or more enclosed, squared or mathematical letters in a row.
    StyledLetters,
    /// A way that a later version of this program found.
    Other,
}

impl HiddenText {
    /// All ways, in the schema's order.
    pub const ALL: [Self; 6] = [
        Self::TagCharacters,
        Self::VariationSelectors,
        Self::InvisibleCharacters,
        Self::BidiControls,
        Self::StyledLetters,
        Self::Other,
    ];

    /// The word for it in records and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::TagCharacters => "tag_characters",
            Self::VariationSelectors => "variation_selectors",
            Self::InvisibleCharacters => "invisible_characters",
            Self::BidiControls => "bidi_controls",
            Self::StyledLetters => "styled_letters",
            Self::Other => "other",
        }
    }
}

/// A text as experts read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revealed<'a> {
    /// The text; borrowed if nothing changed.
    pub text: Cow<'a, str>,
    /// The ways in which text was hidden, in the order of [`HiddenText::ALL`], none twice.
    pub hidden: Vec<HiddenText>,
}

/// Returns the text that experts read: hidden text decoded, invisible characters removed, styled letters plain.
#[must_use]
pub fn reveal(text: &str) -> Revealed<'_> {
    if !text.chars().any(is_special) {
        return Revealed { text: Cow::Borrowed(text), hidden: Vec::new() };
    }
    let chars: Vec<char> = text.chars().collect();
    let mut hidden = BTreeSet::new();
    let decoded = letters::decode(&chars, &mut hidden);
    let settled = marks::settle(&decoded, &mut hidden);
    let text = if settled == text { Cow::Borrowed(text) } else { Cow::Owned(settled) };
    Revealed { text, hidden: hidden.into_iter().collect() }
}

/// Returns `true` if the text holds nothing to judge: it is empty, or only white space, control characters and
/// invisible characters that encode nothing. A run of variation selectors can encode bytes in any way, so a text that has
/// one is to be judged even if nothing of it can be decoded.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    let shows = |c: char| !is_empty_looking(c) && !letters::is_tag(c) && !marks::is_selector(c);
    if text.chars().any(shows) {
        return false;
    }
    let shown = reveal(text);
    !shown.hidden.contains(&HiddenText::VariationSelectors)
        && shown.text.chars().all(|c| is_empty_looking(c) || marks::is_selector(c))
}

/// Characters that show nothing by themselves.
fn is_empty_looking(c: char) -> bool {
    c.is_whitespace() || c.is_control() || marks::is_invisible(c) || letters::is_filler(c)
}

/// Characters that [`reveal`] looks at.
fn is_special(c: char) -> bool {
    c > '\u{ac}'
        && (marks::is_invisible(c)
            || marks::is_selector(c)
            || letters::is_tag(c)
            || letters::is_regional(c)
            || letters::is_filler(c)
            || letters::plain(c).is_some())
}
