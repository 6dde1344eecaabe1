//! The first pass of [`super::reveal`]: it decodes encoded text and makes styled letters plain.

use std::collections::BTreeSet;

use super::{HiddenText, is_special, marks};

/// The emoji with which the flags of England, Scotland and Wales begin. Tag characters after it name the country.
const BLACK_FLAG: char = '\u{1f3f4}';
/// The Tag character that ends a flag.
const CANCEL_TAG: char = '\u{e007f}';
/// The names of the flags that are written with Tag characters.
const FLAGS: [&str; 3] = ["gbeng", "gbsct", "gbwls"];
/// The code point of the first regional indicator, whose letter is `A`.
const REGIONAL: u32 = 0x1f1e6;

/// Returns `true` for Unicode Tag characters.
pub(super) fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Returns `true` for regional indicators. Two of them are the flag of a country, and one alone is a letter.
pub(super) fn is_regional(c: char) -> bool {
    matches!(c, '\u{1f1e6}'..='\u{1f1ff}')
}

/// Returns `true` for letters and patterns that look like a space.
pub(super) fn is_filler(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{3164}' | '\u{ffa0}')
}

/// The letter with the index `n` of an alphabet that begins at `first`; `None` from the index 26 on.
fn letter(first: u8, n: u32) -> Option<char> {
    let n = u8::try_from(n).ok().filter(|n| *n < 26)?;
    Some(char::from(first + n))
}

/// The plain form of a styled letter or digit, with `true` if its style disguises it from programs. Full-width letters
/// do not, because they are ordinary in East Asian text.
pub(super) fn plain(c: char) -> Option<(char, bool)> {
    let code = u32::from(c);
    let plain = match c {
        '\u{ff21}'..='\u{ff3a}' => return Some((letter(b'A', code - 0xff21)?, false)),
        '\u{ff41}'..='\u{ff5a}' => return Some((letter(b'a', code - 0xff41)?, false)),
        // Thirteen styles of both alphabets, one after the other.
        '\u{1d400}'..='\u{1d6a3}' => match (code - 0x1d400) % 52 {
            n @ 0..26 => letter(b'A', n),
            n => letter(b'a', n - 26),
        },
        '\u{1d6a4}' => Some('i'),
        '\u{1d6a5}' => Some('j'),
        '\u{1d7ce}'..='\u{1d7ff}' => char::from_digit((code - 0x1d7ce) % 10, 10),
        '\u{249c}'..='\u{24b5}' => letter(b'a', code - 0x249c),
        '\u{24b6}'..='\u{24cf}' => letter(b'A', code - 0x24b6),
        '\u{24d0}'..='\u{24e9}' => letter(b'a', code - 0x24d0),
        '\u{1f110}'..='\u{1f129}' => letter(b'A', code - 0x1f110),
        '\u{1f130}'..='\u{1f149}' => letter(b'A', code - 0x1f130),
        '\u{1f150}'..='\u{1f169}' => letter(b'A', code - 0x1f150),
        '\u{1f170}'..='\u{1f189}' => letter(b'A', code - 0x1f170),
        _ => mathematical(c),
    };
    Some((plain?, true))
}

/// The plain form of the mathematical letters that Unicode had before it got whole mathematical alphabets.
fn mathematical(c: char) -> Option<char> {
    Some(match c {
        'ℂ' | 'ℭ' => 'C',
        'ⅅ' => 'D',
        'ℰ' => 'E',
        'ℱ' => 'F',
        'ℋ' | 'ℌ' | 'ℍ' => 'H',
        'ℐ' | 'ℑ' => 'I',
        'ℒ' => 'L',
        'ℳ' => 'M',
        'ℕ' => 'N',
        'ℙ' => 'P',
        'ℚ' => 'Q',
        'ℛ' | 'ℜ' | 'ℝ' => 'R',
        'ℤ' | 'ℨ' => 'Z',
        'ℬ' => 'B',
        'ⅆ' => 'd',
        'ℯ' | 'ⅇ' => 'e',
        'ℊ' => 'g',
        'ℎ' => 'h',
        'ⅈ' => 'i',
        'ⅉ' => 'j',
        'ℓ' => 'l',
        'ℴ' => 'o',
        _ => return None,
    })
}

/// The number of characters after a black flag that turn it into another flag.
fn flag(after: &[char]) -> usize {
    let tags = after.iter().take_while(|c| is_tag(**c) && **c != CANCEL_TAG).copied();
    let name: String = tags.filter_map(tagged).collect();
    let ends = after.get(name.len()) == Some(&CANCEL_TAG);
    if ends && FLAGS.contains(&name.as_str()) { name.len() + 1 } else { 0 }
}

/// The ASCII character that a Tag character encodes.
fn tagged(tag: char) -> Option<char> {
    let code = u8::try_from(u32::from(tag).checked_sub(0xe0000)?).ok()?;
    (b' '..=b'~').contains(&code).then(|| char::from(code))
}

/// The byte that a variation selector encodes.
fn selected(selector: char) -> Option<u8> {
    let code = u32::from(selector);
    match selector {
        '\u{fe00}'..='\u{fe0f}' => u8::try_from(code - 0xfe00).ok(),
        '\u{e0100}'..='\u{e01ef}' => u8::try_from(code - 0xe0100 + 16).ok(),
        _ => None,
    }
}

/// The visible form of a character of decoded text; `None` for invisible characters, such as the byte of a selector
/// that belongs to the emoji before the run. Text that is hidden a second time in it is not decoded again.
fn readable(c: char) -> Option<char> {
    if matches!(c, '\n' | '\r' | '\t') || is_filler(c) {
        return Some(' ');
    }
    if let Some((plain, _)) = plain(c) {
        return Some(plain);
    }
    if is_regional(c) {
        return letter(b'A', u32::from(c) - REGIONAL);
    }
    (!c.is_control() && c != char::REPLACEMENT_CHARACTER && !is_special(c)).then_some(c)
}

/// The text that a run of variation selectors encodes, without bytes that are not text.
fn encoded(run: &[char]) -> String {
    let bytes: Vec<u8> = run.iter().copied().filter_map(selected).collect();
    String::from_utf8_lossy(&bytes).chars().filter_map(readable).collect()
}

/// The state of the first pass.
struct Decoding {
    out: Vec<char>,
    /// The text that was decoded within the current word.
    pending: String,
    /// `true` if the last character was a styled letter.
    styled: bool,
}

impl Decoding {
    /// Ends the current word, and inserts the text that was hidden in it.
    fn end_word(&mut self) {
        let found = std::mem::take(&mut self.pending);
        let found = found.trim();
        if found.is_empty() {
            return;
        }
        if self.out.last().is_some_and(|c| !c.is_whitespace()) {
            self.out.push(' ');
        }
        self.out.extend(found.chars());
    }

    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.end_word();
        }
        self.out.push(c);
        self.styled = false;
    }

    fn push_styled(&mut self, c: char, disguised: bool, hidden: &mut BTreeSet<HiddenText>) {
        if disguised && self.styled {
            hidden.insert(HiddenText::StyledLetters);
        }
        self.out.push(c);
        self.styled = disguised;
    }
}

/// Decodes encoded text and makes styled letters plain. Adds the ways in which text was hidden to `hidden`.
pub(super) fn decode(chars: &[char], hidden: &mut BTreeSet<HiddenText>) -> Vec<char> {
    let mut text = Decoding { out: Vec::with_capacity(chars.len()), pending: String::new(), styled: false };
    let mut rest = chars;
    while let Some((&c, after)) = rest.split_first() {
        let mut taken = 1;
        if c == BLACK_FLAG {
            taken += flag(after);
            rest.iter().take(taken).for_each(|c| text.push(*c));
        } else if is_tag(c) {
            taken = rest.iter().take_while(|c| is_tag(**c)).count();
            text.pending.extend(rest.iter().take(taken).filter_map(|c| tagged(*c)));
            hidden.insert(HiddenText::TagCharacters);
        } else if marks::is_selector(c) {
            taken = rest.iter().take_while(|c| marks::is_selector(**c)).count();
            // The first selector may belong to the character before it, unless that was a styled letter.
            if !text.styled {
                text.push(c);
            }
            if taken > 1 {
                text.pending.push_str(&encoded(&rest[..taken]));
                hidden.insert(HiddenText::VariationSelectors);
            }
        } else if is_regional(c) {
            if after.first().is_some_and(|c| is_regional(*c)) {
                taken = 2;
                rest.iter().take(taken).for_each(|c| text.push(*c));
            } else if let Some(plain) = letter(b'A', u32::from(c) - REGIONAL) {
                text.push_styled(plain, true, hidden);
            }
        } else if let Some((plain, disguised)) = plain(c) {
            text.push_styled(plain, disguised, hidden);
        } else {
            text.push(if is_filler(c) { ' ' } else { c });
        }
        rest = &rest[taken..];
    }
    text.end_word();
    text.out
}
