//! The judged text as experts read it.
//!
//! A text can hold invisible characters, and letters in styles that only programs take for other characters.
//! [`reveal`] returns the text that people and language models read, before any expert reads it. It runs in two passes:
//!
//! 1. Encoded text is decoded and styled letters become plain ones. Unicode Tag characters and runs of variation
//!    selectors can hide whole sentences. The decoded text is inserted after the word in which it was hidden, so that
//!    the visible word stays in one piece. Enclosed, squared, mathematical and full-width letters become ASCII letters.
//! 2. Invisible characters that have no use in the text are removed ([`marks`]). Joiners stay in scripts that are
//!    written with them and in emoji.
//!
//! The result is never longer than the text, in bytes, and revealing it again changes nothing. Text without such
//! characters is borrowed, not copied.

mod letters;
mod marks;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

/// A way in which text was hidden from readers or from programs. The names are part of decisions and metric labels.
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
    /// A way that only a later version of this program knows.
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

    /// The name in records and metrics.
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
    /// The ways in which text was hidden, in the order of [`HiddenText::ALL`], each once.
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
    let shown = marks::remove_invisible(&decoded, &mut hidden);
    let text = if shown == text { Cow::Borrowed(text) } else { Cow::Owned(shown) };
    Revealed { text, hidden: hidden.into_iter().collect() }
}

/// Returns `true` if the text holds nothing to judge: it is empty, or only white space, control characters and
/// invisible characters that encode nothing. A run of variation selectors can encode bytes in any way, so a text that has
/// one is judged even if nothing of it can be decoded.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    let is_visible = |c: char| !is_empty_looking(c) && !letters::is_tag(c) && !marks::is_selector(c);
    if text.chars().any(is_visible) {
        return false;
    }
    let revealed = reveal(text);
    !revealed.hidden.contains(&HiddenText::VariationSelectors)
        && revealed.text.chars().all(|c| is_empty_looking(c) || marks::is_selector(c))
}

/// Returns `true` for characters that are invisible by themselves.
fn is_empty_looking(c: char) -> bool {
    c.is_whitespace() || c.is_control() || marks::is_invisible(c) || letters::is_filler(c)
}

/// Returns `true` for characters that [`reveal`] may change or needs for its decisions.
fn is_special(c: char) -> bool {
    c > '\u{ac}'
        && (marks::is_invisible(c)
            || marks::is_selector(c)
            || letters::is_tag(c)
            || letters::is_regional(c)
            || letters::is_filler(c)
            || letters::plain(c).is_some())
}
