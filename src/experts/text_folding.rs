//! Text folding: normalises text for the [`rules`](super::rules), so that characters which look alike become equal.
//!
//! Hidden text is shown first ([`reveal`]). The next steps are compatibility decomposition (NFKD, for full-width,
//! mathematical and ligature forms), lower case, removal of combining and invisible characters, look-alike letters to
//! ASCII, and recomposition (NFC, for scripts whose letters are built of parts); runs of white space become single
//! spaces. In a run of letters and digits that has a letter, digits and signs that stand for letters become letters
//! (`b1tch`, `a$$`). Bare numbers, the names of models, roads and formats, and amounts of money stay (`A55`, `mp3`, `A5s`,
//! `A$5`). Rules are folded in the same way.
//!
//! A text may have further [readings](Folded::readings), for which rules apply as well.

mod digits;
mod look_alikes;
mod readings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::iter;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use self::digits::append_word;
use self::look_alikes::look_alike;
use self::readings::{joined, separated, without_repeats};
use crate::core::text::reveal;

/// The greatest size of folded text, in bytes. A text that folds to more is cut there.
pub const MAX_FOLDED_SIZE: usize = 2_000_000;

/// A folded text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The text that rules match.
    pub text: String,
    /// Other readings of the text.
    others: Vec<String>,
    /// The text was cut at [`MAX_FOLDED_SIZE`].
    pub truncated: bool,
    /// The letters of the original.
    pub letters: Letters,
}

impl Folded {
    /// The readings of the text: the folded text; with the words that invisible characters separate; with letters that
    /// are repeated at least three times once or twice; with words that are spelt out (`f.u.c.k`) in one piece.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        iter::once(&self.text).chain(&self.others).map(String::as_str)
    }
}

/// The letters and digits of a text, before look-alike letters became ASCII.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letters {
    /// The text has an ASCII letter or digit.
    pub ascii: bool,
    /// The other letters and digits, decomposed.
    pub other: BTreeSet<char>,
}

impl Letters {
    fn add(&mut self, c: char) {
        self.ascii |= c.is_ascii_alphanumeric();
        if !c.is_ascii() && c.is_alphanumeric() {
            self.other.insert(c);
        }
    }
}

/// Returns `true` for characters that cannot be seen: zero-width, directional, soft hyphen, variation selectors.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{e0000}'..='\u{e0fff}')
        || (c.is_control() && !c.is_whitespace())
}

/// Returns `true` if an ASCII byte may stand for a letter, is invisible, or is white space other than a space. All other
/// bytes fold to themselves (or their lower case) in every word. Has no branches, for [`is_plain_block`].
fn is_special(byte: u8) -> bool {
    let sign = (byte == b'!') | (byte == b'$') | (byte == b'@');
    let digit = (byte == b'0') | (byte == b'1') | ((b'3'..=b'5').contains(&byte)) | (byte == b'7');
    sign | digit | (byte < b' ') | (byte == 0x7f)
}

/// Returns `true` if no byte of a token stands for a letter.
fn is_plain(token: &str) -> bool {
    !token.bytes().any(|byte| is_special(byte) || byte == b' ')
}

/// The number of bytes that are examined together.
const BLOCK_SIZE: usize = 32;

/// Returns `true` if a block is plain words with single spaces between them. `before` is the byte before it. Has no
/// branches, so that the compiler vectorises it.
fn is_plain_block(block: &[u8; BLOCK_SIZE], mut before: u8) -> bool {
    let mut special = false;
    for &byte in block {
        special |= is_special(byte) | ((byte == b' ') & (before == b' '));
        before = byte;
    }
    !special
}

/// The length of the plain words at the beginning of a text, each with the single space after it.
fn plain_prefix(text: &str) -> usize {
    let bytes = text.as_bytes();
    // A space at the very beginning counts as a second one.
    let (mut sure, mut before) = (0, b' ');
    for block in bytes.as_chunks::<BLOCK_SIZE>().0 {
        if !is_plain_block(block, before) {
            break;
        }
        sure += BLOCK_SIZE;
        before = block[BLOCK_SIZE - 1];
    }
    let mut end = bytes.iter().take(sure).rposition(|byte| *byte == b' ').map_or(0, |place| place + 1);
    for (place, byte) in bytes.iter().enumerate().skip(sure) {
        if is_special(*byte) || (*byte == b' ' && before == b' ') {
            break;
        }
        before = *byte;
        if before == b' ' {
            end = place + 1;
        }
    }
    end
}

/// Builds a folded text.
struct Folder {
    done: Folded,
    /// The word that is not complete yet.
    token: String,
}

impl Folder {
    fn new(size: usize) -> Self {
        let text = String::with_capacity(size.min(MAX_FOLDED_SIZE));
        let done = Folded { text, others: Vec::new(), truncated: false, letters: Letters::default() };
        Self { done, token: String::new() }
    }

    /// Ends the text.
    fn finish(mut self) -> Folded {
        self.end_token();
        self.done.text.truncate(self.done.text.trim_end().len());
        self.done
    }

    /// Adds a folded character. Returns `false` if the text is cut here.
    fn push(&mut self, c: char) -> bool {
        if self.done.text.len() + self.token.len() >= MAX_FOLDED_SIZE {
            self.done.truncated = true;
            return false;
        }
        if c.is_whitespace() {
            self.end_token();
            if !self.done.text.is_empty() && !self.done.text.ends_with(' ') {
                self.done.text.push(' ');
            }
        } else {
            self.token.push(c);
        }
        true
    }

    /// Adds ASCII text that is not folded. Returns `false` if it is cut.
    fn push_ascii(&mut self, mut text: &str) -> bool {
        loop {
            // Most words fold to themselves. Only as much as fits is examined, so each byte is examined once.
            if self.token.is_empty() {
                let room = (MAX_FOLDED_SIZE - 1).saturating_sub(self.done.text.len());
                let (plain, rest) = text.split_at(plain_prefix(text.get(..room).unwrap_or(text)));
                append_lower(&mut self.done.text, plain);
                text = rest;
            }
            let end = text.bytes().position(|byte| byte <= b' ' || byte == 0x7f).unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            let room = MAX_FOLDED_SIZE.saturating_sub(self.done.text.len() + self.token.len());
            append_lower(&mut self.token, word.get(..room).unwrap_or(word));
            if word.len() > room {
                self.done.truncated = true;
                return false;
            }
            let mut after = rest.chars();
            match after.next() {
                None => return true,
                Some(c) if !is_invisible(c) && !self.push(c) => return false,
                Some(_) => text = after.as_str(),
            }
        }
    }

    fn end_token(&mut self) {
        append_word(&self.token, &mut self.done.text);
        self.token.clear();
    }
}

fn append_lower(out: &mut String, ascii: &str) {
    let from = out.len();
    out.push_str(ascii);
    if let Some(new) = out.get_mut(from..) {
        new.make_ascii_lowercase();
    }
}

/// Splits a text after its first run, which is all ASCII or has none.
fn split_run(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let ascii = bytes.first().is_some_and(u8::is_ascii);
    // Whole blocks of ASCII are skipped together.
    let sure = if ascii {
        BLOCK_SIZE * bytes.chunks_exact(BLOCK_SIZE).take_while(|block| block.is_ascii()).count()
    } else {
        0
    };
    let border = bytes.iter().skip(sure).position(|byte| byte.is_ascii() != ascii);
    text.split_at(border.map_or(bytes.len(), |place| sure + place))
}

/// Folds a text.
#[must_use]
pub fn fold(text: &str) -> Folded {
    let mut folded = fold_shown(&shown(text));
    let separated = separated(text).map(|text| fold_shown(&shown(&text)).text);
    let repeats = without_repeats(&folded.text);
    folded
        .others
        .extend(separated.into_iter().chain(repeats.into_iter().flatten()).chain(joined(&folded.text)));
    folded
}

/// The text with what is hidden in it.
fn shown(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { reveal(text).text }
}

/// Folds a text in which nothing is hidden.
fn fold_shown(text: &str) -> Folded {
    let mut letters = Letters::default();
    let mut folder = Folder::new(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = split_run(rest);
        rest = after;
        // ASCII does not compose with any character that stays, so it needs no Unicode tables.
        let is_whole = if part.is_ascii() {
            letters.ascii |= part.bytes().any(|byte| byte.is_ascii_alphanumeric());
            folder.push_ascii(part)
        } else {
            normalize(part, &mut letters).all(|c| folder.push(c))
        };
        if !is_whole {
            break;
        }
    }
    let mut folded = folder.finish();
    folded.letters = letters;
    folded
}

/// The normalised characters of a text that is not ASCII. Adds its letters to `letters`.
fn normalize(text: &str, letters: &mut Letters) -> impl Iterator<Item = char> {
    text.nfkd()
        .flat_map(char::to_lowercase)
        .filter(|&c| !is_invisible(c) && !is_combining_mark(c))
        .inspect(|c| letters.add(*c))
        .map(look_alike)
        .nfc()
}
