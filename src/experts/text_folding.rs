//! Text folding: normalises text for the [`rules`](super::rules), so that characters which look alike become equal.
//!
//! The steps are compatibility decomposition (NFKD, for full-width, mathematical and ligature forms), lower case, removal
//! of combining and invisible characters, look-alike letters to ASCII, and recomposition (NFC, for scripts whose letters
//! are built of parts); runs of white space become single spaces. In a run of letters and digits that has a letter,
//! digits and signs that stand for letters become letters (`b1tch`, `a$$`). Bare numbers and the names of models, roads
//! and formats stay (`A55`, `mp3`, `A5s`). Rules are folded in the same way.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The greatest size of folded text, in bytes. A text that folds to more is cut there.
pub const MAX_FOLDED_SIZE: usize = 2_000_000;

/// A folded text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The text that rules match.
    pub text: String,
    /// The text was cut at [`MAX_FOLDED_SIZE`].
    pub truncated: bool,
    /// The letters of the original.
    pub letters: Letters,
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

/// Replaces a lower-case letter of another script by the ASCII letter that it looks like.
fn look_alike(c: char) -> char {
    match c {
        'а' | 'α' | 'ɑ' | 'ᴀ' => 'a',
        'в' | 'β' | 'ь' | 'ʙ' => 'b',
        'с' | 'ϲ' | 'ᴄ' => 'c',
        'ԁ' | 'ɗ' | 'đ' | 'ᴅ' => 'd',
        'е' | 'ε' | 'є' | 'ҽ' | 'ə' | 'ᴇ' => 'e',
        'ƒ' | 'ғ' => 'f',
        'ɡ' | 'ց' => 'g',
        'н' | 'һ' | 'հ' | 'ħ' | 'ʜ' => 'h',
        'і' | 'ι' | 'ı' | 'ɩ' | 'ɪ' | 'ӏ' => 'i',
        'ј' | 'ʝ' | 'ᴊ' => 'j',
        'к' | 'κ' | 'ᴋ' => 'k',
        'ł' | 'ʟ' => 'l',
        'м' | 'ᴍ' => 'm',
        'п' | 'η' | 'ո' | 'ռ' | 'ɴ' => 'n',
        'о' | 'ο' | 'σ' | 'օ' | 'ø' | 'ɵ' | 'ᴏ' => 'o',
        'р' | 'ρ' | 'ᴘ' => 'p',
        'ԛ' | 'զ' => 'q',
        'г' | 'ʀ' => 'r',
        'ѕ' | 'ꜱ' => 's',
        'т' | 'τ' | 'ᴛ' => 't',
        'υ' | 'ս' | 'ᴜ' => 'u',
        'ν' | 'ѵ' | 'ᴠ' => 'v',
        'ԝ' | 'ω' | 'ա' | 'ᴡ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' | 'ү' | 'ʏ' => 'y',
        'ᴢ' | 'ʐ' => 'z',
        '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{201b}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        _ => c,
    }
}

/// The letter for which a digit or sign stands inside a word.
fn leet_letter(c: char) -> Option<char> {
    Some(match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        _ => return None,
    })
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

/// Names of formats and models that begin with two letters.
const DESIGNATIONS: [&str; 7] = ["mp3", "mp4", "ps1", "ps2", "ps3", "ps4", "ps5"];

/// Returns `true` if a run of letters and digits names a model, a road or a format, and is no disguised word. It does if
/// it is one letter, a number and possibly an `s` or `x` (`a55`, `a5s`), or one of a list. Two letters and digits can be
/// a word (`sh17`), and so can a letter and a zero (`h03`).
fn is_designation(run: &str) -> bool {
    if DESIGNATIONS.contains(&run) {
        return true;
    }
    let letters = run.bytes().take_while(u8::is_ascii_lowercase).count();
    let rest = &run[letters..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let end = &rest[digits..];
    letters == 1 && digits > 0 && !rest.starts_with('0') && matches!(end, "" | "s" | "x")
}

/// Appends a token to `out`. If it has letters, digits and signs that stand for letters are replaced. An address (`@`
/// and a dot) stays as it is, and so does a final `!`.
fn append_word(token: &str, out: &mut String) {
    if is_plain(token)
        || !token.chars().any(char::is_alphabetic)
        || (token.contains('@') && token.contains('.'))
    {
        out.push_str(token);
        return;
    }
    let body = token.trim_end_matches('!');
    let in_word = |c: char| c.is_alphanumeric() || leet_letter(c).is_some();
    let mut rest = body;
    while !rest.is_empty() {
        let (run, after) = rest.split_at(rest.find(|c| !in_word(c)).unwrap_or(rest.len()));
        if run.contains(char::is_alphabetic) && !is_designation(run) {
            out.extend(run.chars().map(|c| leet_letter(c).unwrap_or(c)));
        } else {
            out.push_str(run);
        }
        let (between, after) = after.split_at(after.find(in_word).unwrap_or(after.len()));
        out.push_str(between);
        rest = after;
    }
    out.push_str(&token[body.len()..]);
}

/// Builds a folded text.
struct Folder {
    done: Folded,
    /// The word that is not complete yet.
    token: String,
}

impl Folder {
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
    let buffer = String::with_capacity(text.len().min(MAX_FOLDED_SIZE));
    let done = Folded { text: buffer, truncated: false, letters: Letters::default() };
    let mut letters = Letters::default();
    let mut folder = Folder { done, token: String::new() };
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
    folder.end_token();
    let mut folded = folder.done;
    folded.text.truncate(folded.text.trim_end().len());
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

#[cfg(test)]
mod tests;
