//! The second pass of [`super::reveal`]: invisible characters go where nothing needs them.
//!
//! A run of invisible characters is looked at with the characters on both sides of it. Of a run at most one variation
//! selector stays, behind a character that can have one (an emoji, an ideograph, a keycap's digit), and at most one
//! joiner or break (two in Mongolian: a form and a separator), where the script is written with them (Arabic and Persian, the Indic scripts, Thai, Khmer,
//! Mongolian and others) or where it joins two emoji. All else is removed: between Latin, Greek, Cyrillic or East Asian
//! characters an invisible character only splits a word for programs.

use std::collections::BTreeSet;

use super::{HiddenText, letters};

/// So many invisible characters in a row are no accident.
const MANY: usize = 3;

/// Variation selectors: they choose another look of the character before them.
pub(super) fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Joiners and breaks that some scripts are written with.
fn is_joiner(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'
            ..='\u{180f}' | '\u{200b}'..='\u{200d}'
    )
}

/// Controls of the direction of text.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Marks of the direction of text, which are ordinary where text of both directions meets.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
}

/// Selectors of the form of the Mongolian letter before them.
fn is_form(c: char) -> bool {
    matches!(c, '\u{180b}'..='\u{180d}' | '\u{180f}')
}

/// Separates a Mongolian letter from the vowel that ends the word; it may follow a form.
const VOWEL_SEPARATOR: char = '\u{180e}';

/// Characters of scripts that are written from right to left.
fn is_right_to_left(c: char) -> bool {
    matches!(c,
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}'
        | '\u{1e800}'..='\u{1efff}')
}

/// Controls that show text in another order than it has.
fn is_override(c: char) -> bool {
    matches!(c, '\u{202d}' | '\u{202e}')
}

/// Places where a word may be broken, and the mark of the byte order: ordinary in text that was copied.
fn is_ordinary(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{feff}')
}

/// Characters that show nothing, variation selectors and Tag characters apart.
pub(super) fn is_invisible(c: char) -> bool {
    is_joiner(c)
        || is_bidi(c)
        || is_ordinary(c)
        || matches!(c,
            '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0080}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// Characters of scripts that are written with joiners or breaks.
fn joins(c: char) -> bool {
    matches!(c,
        '\u{590}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1700}'..='\u{1cff}' | '\u{a800}'..='\u{ab2f}'
        | '\u{ab70}'..='\u{abff}' | '\u{d7b0}'..='\u{d7ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
        | '\u{10800}'..='\u{11fff}' | '\u{1e900}'..='\u{1e95f}')
}

/// Emoji and the symbols that sequences of emoji are made of.
fn is_symbol(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1fbff}')
}

/// Characters that can have another look.
fn takes_selector(c: char) -> bool {
    match c {
        '0'..='9' | '#' | '*' => true,
        _ => c > '\u{a8}' && !c.is_whitespace() && (joins(c) || c >= '\u{2010}' || !c.is_alphabetic()),
    }
}

/// What stays of a run between two characters.
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

/// Whether a run of which something is removed hid anything: it splits a word, or is long, or turns text around.
fn note(before: Option<char>, run: &[char], after: Option<char>, hidden: &mut BTreeSet<HiddenText>) {
    let splits = before.is_some_and(char::is_alphanumeric) && after.is_some_and(char::is_alphanumeric);
    let side = |of: fn(char) -> bool| before.is_some_and(of) || after.is_some_and(of);
    let (turns, script) = (side(is_right_to_left), side(joins));
    let ordinary = |c: char| is_ordinary(c) || (turns && is_mark(c));
    let odd = || run.iter().copied().filter(|c| !ordinary(*c));
    // A joiner that was typed twice splits nothing that one would not.
    let twice = script && odd().all(is_joiner);
    if run.iter().copied().any(is_override) || (splits && odd().any(is_bidi)) {
        hidden.insert(HiddenText::BidiControls);
    }
    if (splits && !twice && odd().any(|c| !is_bidi(c))) || odd().filter(|c| !is_bidi(*c)).count() >= MANY {
        hidden.insert(HiddenText::InvisibleCharacters);
    }
}

/// Removes the invisible characters that nothing needs.
pub(super) fn settle(chars: &[char], hidden: &mut BTreeSet<HiddenText>) -> String {
    let mut out = String::with_capacity(chars.len());
    let (mut before, mut rest) = (None, chars);
    while let Some((&c, after)) = rest.split_first() {
        if !is_invisible(c) && !is_selector(c) {
            out.push(c);
            // A flag's Tag characters stay with their flag.
            before = if letters::is_tag(c) { before } else { Some(c) };
            rest = after;
            continue;
        }
        let length = rest.iter().take_while(|c| is_invisible(**c) || is_selector(**c)).count();
        let (run, after) = rest.split_at(length);
        let next = after.first().copied();
        let from = out.len();
        out.extend(kept(before, run, next));
        let stays = out.get(from..).map_or(0, |kept| kept.chars().count());
        if stays < run.len() {
            note(before, run, next, hidden);
        }
        rest = after;
    }
    out
}
