//! Other readings of a text: words that invisible characters separate, and words that are spelt in an unusual way.

use super::is_invisible;

/// The least number of equal letters in a row that are taken for one or two. No common word has three.
const REPEATED: usize = 3;
/// The least number of single letters in a row that are taken for a word.
const SPELT_OUT: usize = 3;

/// Returns `true` for invisible characters that can stand between words or letters: all but the soft hyphen, which only marks
/// a place within a word, variation selectors, which belong to the character before them, and tags, which are letters.
fn is_separator(c: char) -> bool {
    let is_part_of_word = matches!(c,
        '\u{ad}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e007f}'
        | '\u{e0100}'..='\u{e01ef}');
    is_invisible(c) && !is_part_of_word
}

/// Returns `true` for the bytes with which separators begin.
fn may_begin_separator(byte: u8) -> bool {
    matches!(byte, 0..=8 | 0xe..=0x1f | 0x7f | 0xc2 | 0xcd | 0xd8 | 0xe1..=0xe3 | 0xef | 0xf3)
}

/// Returns the text with spaces in place of the invisible characters between letters or digits; `None` if there are none.
/// They may separate words as well as letters of a word, so both readings count.
pub(super) fn separated(text: &str) -> Option<String> {
    if !text.bytes().any(may_begin_separator) || !text.contains(is_separator) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut split = false;
    for part in text.split_inclusive(is_separator) {
        let word = part.trim_end_matches(is_separator);
        if split && out.ends_with(char::is_alphanumeric) && word.starts_with(char::is_alphanumeric) {
            out.push(' ');
        }
        out.push_str(word);
        split = true;
    }
    (out.matches(' ').count() > text.matches(' ').count()).then_some(out)
}

/// Returns the text with each run of at least three equal letters as one of them, and as two; `None` if there is no such
/// run.
pub(super) fn without_repeats(text: &str) -> Option<[String; 2]> {
    let is_repeat = |run: &[u8]| run[0] == run[1] && run[1] == run[2] && run[0].is_ascii_lowercase();
    text.as_bytes().windows(REPEATED).any(is_repeat).then(|| [1, 2].map(|kept| with_repeats(text, kept)))
}

/// The text with runs of at least three equal letters as `kept` of them.
fn with_repeats(text: &str, kept: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = rest.len() - rest.trim_start_matches(first).len();
        let is_letters = first.is_ascii_lowercase() && run >= REPEATED;
        out.push_str(&rest[..if is_letters { kept } else { run }]);
        rest = &rest[run..];
    }
    out
}

/// The number of bytes of a word that is spelt out at the beginning of a text, such as `f.u.c.k`: at least three single
/// letters with equal signs or spaces between them.
fn spelt_out(text: &[u8]) -> Option<usize> {
    let separator =
        *text.get(1).filter(|byte| matches!(byte, b' ' | b'.' | b'-' | b'_' | b'*' | b'/' | b'~' | b'+'))?;
    let is_letter = |place: usize| text.get(place).is_some_and(u8::is_ascii_lowercase);
    let mut letters = usize::from(is_letter(0));
    while letters > 0 && text.get(2 * letters - 1) == Some(&separator) && is_letter(2 * letters) {
        letters += 1;
    }
    // The last letter may begin a word.
    let after = text.get(2 * letters.checked_sub(1)? + 1);
    letters -= usize::from(after.is_some_and(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()));
    (letters >= SPELT_OUT).then(|| 2 * letters - 1)
}

/// Returns the text with words that are spelt out in one piece; `None` if there are none.
pub(super) fn joined(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut from, mut place) = (0, 0);
    while place + 2 * SPELT_OUT - 1 <= bytes.len() {
        let is_start = bytes[place].is_ascii_lowercase()
            && place
                .checked_sub(1)
                .is_none_or(|before| bytes[before].is_ascii() && !bytes[before].is_ascii_alphanumeric());
        let Some(length) = is_start.then(|| spelt_out(&bytes[place..])).flatten() else {
            place += 1;
            continue;
        };
        out.push_str(&text[from..place]);
        out.extend(text[place..place + length].chars().step_by(2));
        place += length;
        from = place;
    }
    out.push_str(&text[from..]);
    (from > 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_width_characters_between_letters_separate_words() {
        assert_eq!(separated("kill\u{200b}yourself now").unwrap(), "kill yourself now");
        assert_eq!(separated("a\u{2060}\u{200d}b\u{200b} c").unwrap(), "a b c");
        for text in ["plain", "soft\u{ad}hyphen", "\u{feff}first \u{200b}and", "\u{1f468}\u{200d}\u{1f469}"] {
            assert_eq!(separated(text), None, "{text:?}");
        }
    }

    #[test]
    fn repeated_letters_become_fewer() {
        assert_eq!(without_repeats("fuuuck offfff").unwrap(), ["fuck of", "fuuck off"]);
        assert_eq!(without_repeats("assss, 1000 äää").unwrap(), ["as, 1000 äää", "ass, 1000 äää"]);
        for text in ["aardvark, book", "1000", "...", "äää"] {
            assert_eq!(without_repeats(text), None, "{text:?}");
        }
    }

    #[test]
    fn single_letters_in_a_row_are_a_word() {
        for (text, expected) in [
            ("f u c k you", "fuck you"),
            ("you f.u.c.k.", "you fuck."),
            ("(s-h-i-t)", "(shit)"),
            ("k y s n o w", "kysnow"),
            ("a b c d e and f", "abcde and f"),
            ("x y z1", "x y z1"),
        ] {
            assert_eq!(joined(text).unwrap_or_else(|| text.to_owned()), expected, "{text:?}");
        }
        for text in ["i am a b", "u.s. and e.u.", "a-b test", "as it is", "ä b c d"] {
            let expected = if text == "ä b c d" { Some("ä bcd".to_owned()) } else { None };
            assert_eq!(joined(text), expected, "{text:?}");
        }
    }
}
