//! Detects the language of a text: the opinions of two crates, and [`Language::Unknown`] where they do not suffice.
//!
//! `whichlang` is fast and the more accurate one on short texts, but has 16 languages, no confidence, and always answers.
//! `whatlang` tells scripts apart, has further languages, and says when it is sure. The rules and their figures are those of
//! docs/decisions/0020.

mod written;

use std::borrow::Cow;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use whatlang::Detector;

use self::written::{FIRST, Written, allowed, first_language, second_language, written_in};
use crate::core::language::Language;

/// The detectors and the version of the rules. Answers of another one may differ.
pub const DETECTORS: &str = "whichlang 0.1.1, whatlang 0.18.0, rules 2";

/// The greatest number of characters that are read. What follows them has no influence on the answer.
const MAX_CHARS: usize = 600;
/// The least number of letters of a text on which both opinions agree.
const LEAST_AGREED: usize = 5;
/// The least number of letters from which an opinion that the other one does not share counts for something.
const LEAST_DOUBTED: usize = 16;
/// The least number of letters from which the first opinion suffices.
const LEAST_ALONE: usize = 30;
/// The least number of letters from which a second opinion that is not sure is believed, if it is a language that the first one
/// does not have.
const LEAST_BELIEVED: usize = 60;

/// The second opinion. Languages that are rarely written, and often guessed for short texts in others, are left out.
static SECOND: LazyLock<Detector> = LazyLock::new(|| Detector::with_allowlist(allowed()));

/// The language of a text, and the languages that an unknown one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// The language.
    pub language: Language,
    candidates: Candidates,
}

/// The languages that a text may be in if its language is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidates {
    /// Any, because the text has no letters.
    Any,
    /// Those that are written in the text's script.
    Script(&'static [Language]),
    /// The two opinions about the text.
    Opinions([Language; 2]),
}

impl Detection {
    fn named(language: Language) -> Self {
        Self { language, candidates: Candidates::Script(&[]) }
    }

    fn unknown(candidates: Candidates) -> Self {
        Self { language: Language::Unknown, candidates }
    }

    /// Returns `true` if the text is in this language, or if its language is not known and may be this one.
    #[must_use]
    pub fn may_be(&self, language: Language) -> bool {
        language == self.language
            || match &self.candidates {
                Candidates::Any => true,
                Candidates::Script(languages) => languages.contains(&language),
                Candidates::Opinions(languages) => languages.contains(&language),
            }
    }
}

impl From<Language> for Detection {
    /// The detection of a language that is known from elsewhere. An unknown one may be any.
    fn from(language: Language) -> Self {
        match language {
            Language::Unknown => Self::unknown(Candidates::Any),
            known => Self::named(known),
        }
    }
}

/// Returns the part of a text that is read. The second crate takes full-width letters and signs for Korean, so a text with
/// some of them is read in its ordinary forms.
fn beginning(text: &str) -> Cow<'_, str> {
    let end = text.char_indices().nth(MAX_CHARS).map_or(text.len(), |(at, _)| at);
    let text = &text[..end];
    if text.contains(|c| matches!(c, '\u{ff00}'..='\u{ffef}')) {
        Cow::Owned(text.nfkc().take(MAX_CHARS).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Detects the language of a text. Equal texts give equal answers.
#[must_use]
pub fn detect(text: &str) -> Detection {
    let text = beginning(text);
    let text = text.as_ref();
    let letters = text.chars().filter(|letter| letter.is_alphabetic()).count();
    if letters == 0 {
        return Detection::unknown(Candidates::Any);
    }
    match whatlang::detect_script(text).map(written_in) {
        // The script is one of a language without a name here.
        None => Detection::unknown(Candidates::Script(&[])),
        Some(Written::In(language)) => Detection::named(language),
        Some(Written::Han) => Detection::named(match first_language(text) {
            Language::Japanese => Language::Japanese,
            _ => Language::Chinese,
        }),
        Some(Written::InAnyOf(languages)) => among(text, letters, languages),
    }
}

/// Detects which of the languages of one script it is.
fn among(text: &str, letters: usize, languages: &'static [Language]) -> Detection {
    let by_script = Detection::unknown(Candidates::Script(languages));
    let Some(info) = SECOND.detect(text) else { return by_script };
    let second = second_language(info.lang());
    let first = first_language(text);
    if first == second || !languages.contains(&first) {
        return if letters >= LEAST_AGREED { Detection::named(second) } else { by_script };
    }
    if letters < LEAST_DOUBTED {
        return by_script;
    }
    // The second opinion errs on English of tweets more often than the first one, so there it must be sure.
    let is_believed = info.is_reliable() || (letters >= LEAST_BELIEVED && first != Language::English);
    if is_believed && !FIRST.contains(&second) {
        return Detection::named(second);
    }
    if letters >= LEAST_ALONE {
        return Detection::named(first);
    }
    Detection::unknown(Candidates::Opinions([first, second]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn language(text: &str) -> &'static str {
        detect(text).language.code()
    }

    #[test]
    fn languages_are_told_by_their_script_or_by_both_opinions() {
        for (text, expected) in [
            ("How do I get to the station from here, please?", "en"),
            ("Wie komme ich von hier zum Bahnhof, bitte?", "de"),
            ("Comment est-ce que je vais à la gare, s'il vous plaît ?", "fr"),
            ("Jak dojść stąd do dworca, proszę pana?", "pl"),
            ("ฉันจะไปสถานีได้อย่างไร", "th"),
            ("ดี", "th"),
            ("Πού είναι ο σταθμός;", "el"),
            ("역은 어디에 있습니까?", "ko"),
            ("駅はどこですか", "ja"),
            ("火车站在哪里", "zh"),
            ("Скажите, пожалуйста, как мне пройти на вокзал", "ru"),
            ("Як мені пройти на вокзал, будь ласка?", "uk"),
            ("كيف أصل إلى المحطة من فضلك", "ar"),
            ("איך אני מגיע לתחנה", "he"),
            ("मैं स्टेशन कैसे जाऊँ", "hi"),
            ("Ｈｏｗ ｄｏ Ｉ ｇｅｔ ｔｏ ｔｈｅ ｓｔａｔｉｏｎ？", "en"),
            ("ﾄﾞｺﾃﾞｽｶ", "ja"),
            ("好！！！", "zh"),
        ] {
            assert_eq!(language(text), expected, "{text}");
        }
    }

    #[test]
    fn a_short_text_is_unknown_and_may_be_in_any_language_of_its_script() {
        for text in ["ok", "lol", "Hi!", "x"] {
            let found = detect(text);
            assert_eq!(found.language, Language::Unknown, "{text}");
            assert!(found.may_be(Language::English) && found.may_be(Language::Polish), "{text}");
            assert!(!found.may_be(Language::Thai) && !found.may_be(Language::Russian), "{text}");
        }
        let found = detect("да");
        assert!(found.may_be(Language::Russian) && !found.may_be(Language::English));
    }

    /// A text without letters may be in any language, and one in an unknown script in none of those that have a name.
    #[test]
    fn no_letters_may_be_any_language_and_an_unknown_script_none() {
        for text in ["", " ", "123 456", "😀😀", "?!"] {
            let found = detect(text);
            assert_eq!(found.language, Language::Unknown, "{text}");
            assert!(Language::KNOWN.iter().all(|language| found.may_be(*language)), "{text}");
        }
        let cherokee = detect("ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ");
        assert_eq!(cherokee.language, Language::Unknown);
        assert!(!Language::KNOWN.iter().any(|language| cherokee.may_be(*language)));
    }

    /// Opinions that differ narrow down what an unknown text may be, from a few words on.
    #[test]
    fn two_opinions_that_differ_leave_two_candidates() {
        let found = detect("vai embora daqui cara");
        assert_eq!(
            found,
            Detection::unknown(Candidates::Opinions([Language::Portuguese, Language::Indonesian]))
        );
        assert!(found.may_be(Language::Portuguese) && found.may_be(Language::Indonesian));
        assert!(!found.may_be(Language::English));
        let named = Detection::from(Language::German);
        assert!(named.may_be(Language::German) && !named.may_be(Language::Dutch));
        assert!(Detection::from(Language::Unknown).may_be(Language::Dutch));
    }

    proptest! {
        #[test]
        fn every_text_gets_an_answer_and_always_the_same(text in any::<String>(), words in ".{0,40}") {
            prop_assert_eq!(detect(&text), detect(&text));
            prop_assert_eq!(detect(&words.repeat(50)), detect(&words.repeat(50)));
        }

        /// Letters of many scripts, and marks that are no letters.
        #[test]
        fn mixed_scripts_get_an_answer(
            text in "[a-zßéñªºâ가-각ก-ฮа-яא-תअ-हぁ-ん一-十Ꭰ-Ꭵ\u{300}-\u{310}\u{fdfa}\u{ff00}-\u{ffef} 0-9!]{0,60}"
        ) {
            prop_assert_eq!(detect(&text), detect(&text));
        }
    }
}
