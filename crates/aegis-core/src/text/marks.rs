//! The second pass of [`super::reveal`]: it removes invisible characters that have no use in the text.
//!
//! A run of invisible characters is judged by the characters on both sides of it. At most one variation selector of a
//! run stays, after a character that can have one (an emoji, an ideograph, the digit of a keycap). At most one joiner or
//! break stays (two in Mongolian: a form and a separator), if the script is written with them (Arabic and Persian, the
//! Indic scripts, Thai, Khmer, Mongolian and others) or if it joins two emoji. All others are removed: between Latin,
//! Greek, Cyrillic or East Asian characters, an invisible character only splits a word for programs.

use std::collections::BTreeSet;

use super::{HiddenText, letters};

/// The number of invisible characters in a row from which they are taken for intentional.
const INTENTIONAL_RUN: usize = 3;

/// Returns `true` for variation selectors, which select another form of the character before them.
pub(super) fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Returns `true` for joiners and breaks that some scripts are written with.
fn is_joiner(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'
            ..='\u{180f}' | '\u{200b}'..='\u{200d}'
    )
}

/// Returns `true` for controls of the direction of text.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns `true` for marks of the direction of text, which are ordinary between texts of both directions.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
}

/// Returns `true` for selectors of the form of the Mongolian letter before them.
fn is_form(c: char) -> bool {
    matches!(c, '\u{180b}'..='\u{180d}' | '\u{180f}')
}

/// The separator of a Mongolian letter from the vowel that ends the word. It may follow a form.
const VOWEL_SEPARATOR: char = '\u{180e}';

/// Returns `true` for characters of scripts that are written from right to left.
fn is_right_to_left(c: char) -> bool {
    matches!(c,
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}'
        | '\u{1e800}'..='\u{1efff}')
}

/// Returns `true` for controls that display text in another order than it is stored in.
fn is_override(c: char) -> bool {
    matches!(c, '\u{202d}' | '\u{202e}')
}

/// Returns `true` for the soft hyphen and the byte order mark, which are ordinary in copied text.
fn is_ordinary(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{feff}')
}

/// Returns `true` for invisible characters other than variation selectors and Tag characters.
pub(super) fn is_invisible(c: char) -> bool {
    is_joiner(c)
        || is_bidi(c)
        || is_ordinary(c)
        || matches!(c,
            '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0080}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// Returns `true` for characters of scripts that are written with joiners or breaks.
fn joins(c: char) -> bool {
    matches!(c,
        '\u{590}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1700}'..='\u{1cff}' | '\u{a800}'..='\u{ab2f}'
        | '\u{ab70}'..='\u{abff}' | '\u{d7b0}'..='\u{d7ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
        | '\u{10800}'..='\u{11fff}' | '\u{1e900}'..='\u{1e95f}')
}

/// Returns `true` for emoji and the symbols in sequences of emoji.
fn is_symbol(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1fbff}')
}

/// Returns `true` for characters that can be followed by a variation selector.
fn takes_selector(c: char) -> bool {
    match c {
        '0'..='9' | '#' | '*' => true,
        _ => c > '\u{a8}' && !c.is_whitespace() && (joins(c) || c >= '\u{2010}' || !c.is_alphabetic()),
    }
}

/// The characters of a run between two characters that stay.
fn kept(before: Option<char>, run: &[char], after: Option<char>) -> impl Iterator<Item = char> {
    let selector = run.first().copied().filter(|c| is_selector(*c) && before.is_some_and(takes_selector));
    let is = |side: Option<char>, of: fn(char) -> bool| side.is_some_and(of);
    let script = is(before, joins) || is(after, joins);
    let emoji = is(before, is_symbol) && is(after, is_symbol);
    let stays = |c: &char| is_joiner(*c) && (script || (emoji && *c == '\u{200d}'));
    let mut joiners = run.iter().copied().filter(stays);
    let joiner = joiners.next();
    let separator = joiner.filter(|c| is_form(*c)).and_then(|_| joiners.find(|c| *c == VOWEL_SEPARATOR));
    selector.into_iter().chain(joiner).chain(separator)
}

/// Adds to `hidden` if a run with removed characters hid text: it splits a word, is long, or reverses text.
fn note(before: Option<char>, run: &[char], after: Option<char>, hidden: &mut BTreeSet<HiddenText>) {
    let splits = before.is_some_and(char::is_alphanumeric) && after.is_some_and(char::is_alphanumeric);
    let side = |of: fn(char) -> bool| before.is_some_and(of) || after.is_some_and(of);
    let (right_to_left, script) = (side(is_right_to_left), side(joins));
    let ordinary = |c: char| is_ordinary(c) || (right_to_left && is_mark(c));
    let odd = || run.iter().copied().filter(|c| !ordinary(*c));
    // A joiner that was typed twice splits no more than one does.
    let repeated_joiner = script && odd().all(is_joiner);
    if run.iter().copied().any(is_override) || (splits && odd().any(is_bidi)) {
        hidden.insert(HiddenText::BidiControls);
    }
    if (splits && !repeated_joiner && odd().any(|c| !is_bidi(c)))
        || odd().filter(|c| !is_bidi(*c)).count() >= INTENTIONAL_RUN
    {
        hidden.insert(HiddenText::InvisibleCharacters);
    }
}

/// Returns the text without the invisible characters that have no use. Adds the ways in which text was hidden to `hidden`.
pub(super) fn remove_invisible(chars: &[char], hidden: &mut BTreeSet<HiddenText>) -> String {
    let mut out = String::with_capacity(chars.len());
    let (mut before, mut rest) = (None, chars);
    while let Some((&c, after)) = rest.split_first() {
        if !is_invisible(c) && !is_selector(c) {
            out.push(c);
            // The Tag characters of a flag stay with it.
            before = if letters::is_tag(c) { before } else { Some(c) };
            rest = after;
            continue;
        }
        let length = rest.iter().take_while(|c| is_invisible(**c) || is_selector(**c)).count();
        let (run, after) = rest.split_at(length);
        let next = after.first().copied();
        let from = out.len();
        out.extend(kept(before, run, next));
        if out[from..].chars().count() < run.len() {
            note(before, run, next, hidden);
        }
        rest = after;
    }
    out
}
