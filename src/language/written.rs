//! The languages of scripts, and the names that the two crates give to languages.

use whatlang::{Lang, Script};

use crate::core::language::Language;

/// The languages of the first opinion.
pub(super) const FIRST: [Language; 16] = [
    Language::Arabic,
    Language::Chinese,
    Language::Dutch,
    Language::English,
    Language::French,
    Language::German,
    Language::Hindi,
    Language::Italian,
    Language::Japanese,
    Language::Korean,
    Language::Portuguese,
    Language::Russian,
    Language::Spanish,
    Language::Swedish,
    Language::Turkish,
    Language::Vietnamese,
];

/// The languages that are written in a script.
#[derive(Debug, Clone, Copy)]
pub(super) enum Written {
    /// This one alone.
    In(Language),
    /// Chinese, or Japanese with few kana.
    Han,
    /// Each of these.
    InAnyOf(&'static [Language]),
}

const LATIN: &[Language] = &[
    Language::Afrikaans,
    Language::Catalan,
    Language::Croatian,
    Language::Czech,
    Language::Danish,
    Language::Dutch,
    Language::English,
    Language::Estonian,
    Language::Finnish,
    Language::French,
    Language::German,
    Language::Hungarian,
    Language::Indonesian,
    Language::Italian,
    Language::Latvian,
    Language::Lithuanian,
    Language::Norwegian,
    Language::Polish,
    Language::Portuguese,
    Language::Romanian,
    Language::Slovak,
    Language::Slovenian,
    Language::Spanish,
    Language::Swedish,
    Language::Tagalog,
    Language::Turkish,
    Language::Vietnamese,
];
const CYRILLIC: &[Language] = &[
    Language::Belarusian,
    Language::Bulgarian,
    Language::Macedonian,
    Language::Russian,
    Language::Serbian,
    Language::Ukrainian,
];
const ARABIC: &[Language] = &[Language::Arabic, Language::Persian, Language::Urdu];
const DEVANAGARI: &[Language] = &[Language::Hindi, Language::Marathi, Language::Nepali];
const HEBREW: &[Language] = &[Language::Hebrew, Language::Yiddish];

pub(super) fn written_in(script: Script) -> Written {
    match script {
        Script::Latin => Written::InAnyOf(LATIN),
        Script::Cyrillic => Written::InAnyOf(CYRILLIC),
        Script::Arabic => Written::InAnyOf(ARABIC),
        Script::Devanagari => Written::InAnyOf(DEVANAGARI),
        Script::Hebrew => Written::InAnyOf(HEBREW),
        Script::Mandarin => Written::Han,
        Script::Hiragana | Script::Katakana => Written::In(Language::Japanese),
        Script::Hangul => Written::In(Language::Korean),
        Script::Armenian => Written::In(Language::Armenian),
        Script::Bengali => Written::In(Language::Bengali),
        Script::Ethiopic => Written::In(Language::Amharic),
        Script::Georgian => Written::In(Language::Georgian),
        Script::Greek => Written::In(Language::Greek),
        Script::Gujarati => Written::In(Language::Gujarati),
        Script::Gurmukhi => Written::In(Language::Punjabi),
        Script::Kannada => Written::In(Language::Kannada),
        Script::Khmer => Written::In(Language::Khmer),
        Script::Malayalam => Written::In(Language::Malayalam),
        Script::Myanmar => Written::In(Language::Burmese),
        Script::Oriya => Written::In(Language::Oriya),
        Script::Sinhala => Written::In(Language::Sinhala),
        Script::Tamil => Written::In(Language::Tamil),
        Script::Telugu => Written::In(Language::Telugu),
        Script::Thai => Written::In(Language::Thai),
    }
}

/// The first opinion on a text.
pub(super) fn first_language(text: &str) -> Language {
    use whichlang::Lang;
    match whichlang::detect_language(text) {
        Lang::Ara => Language::Arabic,
        Lang::Cmn => Language::Chinese,
        Lang::Deu => Language::German,
        Lang::Eng => Language::English,
        Lang::Fra => Language::French,
        Lang::Hin => Language::Hindi,
        Lang::Ita => Language::Italian,
        Lang::Jpn => Language::Japanese,
        Lang::Kor => Language::Korean,
        Lang::Nld => Language::Dutch,
        Lang::Por => Language::Portuguese,
        Lang::Rus => Language::Russian,
        Lang::Spa => Language::Spanish,
        Lang::Swe => Language::Swedish,
        Lang::Tur => Language::Turkish,
        Lang::Vie => Language::Vietnamese,
    }
}

/// The languages of the second opinion, by their names in its crate.
const SECOND: [(Lang, Language); 41] = [
    (Lang::Afr, Language::Afrikaans),
    (Lang::Ara, Language::Arabic),
    (Lang::Bel, Language::Belarusian),
    (Lang::Bul, Language::Bulgarian),
    (Lang::Cat, Language::Catalan),
    (Lang::Ces, Language::Czech),
    (Lang::Dan, Language::Danish),
    (Lang::Deu, Language::German),
    (Lang::Eng, Language::English),
    (Lang::Est, Language::Estonian),
    (Lang::Fin, Language::Finnish),
    (Lang::Fra, Language::French),
    (Lang::Heb, Language::Hebrew),
    (Lang::Hin, Language::Hindi),
    (Lang::Hrv, Language::Croatian),
    (Lang::Hun, Language::Hungarian),
    (Lang::Ind, Language::Indonesian),
    (Lang::Ita, Language::Italian),
    (Lang::Lav, Language::Latvian),
    (Lang::Lit, Language::Lithuanian),
    (Lang::Mar, Language::Marathi),
    (Lang::Mkd, Language::Macedonian),
    (Lang::Nep, Language::Nepali),
    (Lang::Nld, Language::Dutch),
    (Lang::Nob, Language::Norwegian),
    (Lang::Pes, Language::Persian),
    (Lang::Pol, Language::Polish),
    (Lang::Por, Language::Portuguese),
    (Lang::Ron, Language::Romanian),
    (Lang::Rus, Language::Russian),
    (Lang::Slk, Language::Slovak),
    (Lang::Slv, Language::Slovenian),
    (Lang::Spa, Language::Spanish),
    (Lang::Srp, Language::Serbian),
    (Lang::Swe, Language::Swedish),
    (Lang::Tgl, Language::Tagalog),
    (Lang::Tur, Language::Turkish),
    (Lang::Ukr, Language::Ukrainian),
    (Lang::Urd, Language::Urdu),
    (Lang::Vie, Language::Vietnamese),
    (Lang::Yid, Language::Yiddish),
];

/// The languages that the second opinion may name.
pub(super) fn allowed() -> Vec<Lang> {
    SECOND.iter().map(|(name, _)| *name).collect()
}

/// The language that the second opinion names.
///
/// # Panics
/// Panics if the language is not one of those that it may name.
pub(super) fn second_language(name: Lang) -> Language {
    let found = SECOND.iter().find(|(known, _)| *known == name);
    found.expect("the second opinion names only languages of its list").1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise an opinion could name a language that its script's texts may not be in.
    #[test]
    fn the_second_opinion_has_the_languages_of_the_scripts_with_several() {
        let mut written: Vec<_> = [LATIN, CYRILLIC, ARABIC, DEVANAGARI, HEBREW].concat();
        let mut named: Vec<_> = SECOND.iter().map(|(_, language)| *language).collect();
        written.sort_unstable();
        named.sort_unstable();
        assert_eq!(written, named);
    }
}
