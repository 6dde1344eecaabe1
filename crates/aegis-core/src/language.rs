//! The language of a text.

use std::fmt;
use std::str::FromStr;

macro_rules! languages {
    ($($variant:ident $code:literal $name:literal),* $(,)?) => {
        /// The language of a text, as far as it is known. The codes are metric labels and part of decisions.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub enum Language {
            $(#[doc = $name] $variant,)*
            /// The text is too short or too mixed to tell, has no letters, or is in a language that is not in this list.
            #[default]
            Unknown,
        }

        impl Language {
            /// All languages that have a name, by their codes.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant,)*];

            /// The ISO 639-1 code, or `unknown`.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown => "unknown",
                }
            }
        }
    };
}

languages!(
    Afrikaans "af" "Afrikaans.",
    Amharic "am" "Amharic.",
    Arabic "ar" "Arabic.",
    Belarusian "be" "Belarusian.",
    Bulgarian "bg" "Bulgarian.",
    Bengali "bn" "Bengali.",
    Catalan "ca" "Catalan.",
    Czech "cs" "Czech.",
    Danish "da" "Danish.",
    German "de" "German.",
    Greek "el" "Greek.",
    English "en" "English.",
    Spanish "es" "Spanish.",
    Estonian "et" "Estonian.",
    Persian "fa" "Persian.",
    Finnish "fi" "Finnish.",
    French "fr" "French.",
    Gujarati "gu" "Gujarati.",
    Hebrew "he" "Hebrew.",
    Hindi "hi" "Hindi.",
    Croatian "hr" "Croatian.",
    Hungarian "hu" "Hungarian.",
    Armenian "hy" "Armenian.",
    Indonesian "id" "Indonesian.",
    Italian "it" "Italian.",
    Japanese "ja" "Japanese.",
    Georgian "ka" "Georgian.",
    Khmer "km" "Khmer.",
    Kannada "kn" "Kannada.",
    Korean "ko" "Korean.",
    Lithuanian "lt" "Lithuanian.",
    Latvian "lv" "Latvian.",
    Macedonian "mk" "Macedonian.",
    Malayalam "ml" "Malayalam.",
    Marathi "mr" "Marathi.",
    Burmese "my" "Burmese.",
    Nepali "ne" "Nepali.",
    Dutch "nl" "Dutch.",
    Norwegian "no" "Norwegian.",
    Oriya "or" "Oriya.",
    Punjabi "pa" "Punjabi.",
    Polish "pl" "Polish.",
    Portuguese "pt" "Portuguese.",
    Romanian "ro" "Romanian.",
    Russian "ru" "Russian.",
    Sinhala "si" "Sinhala.",
    Slovak "sk" "Slovak.",
    Slovenian "sl" "Slovenian.",
    Serbian "sr" "Serbian.",
    Swedish "sv" "Swedish.",
    Tamil "ta" "Tamil.",
    Telugu "te" "Telugu.",
    Thai "th" "Thai.",
    Tagalog "tl" "Tagalog.",
    Turkish "tr" "Turkish.",
    Ukrainian "uk" "Ukrainian.",
    Urdu "ur" "Urdu.",
    Vietnamese "vi" "Vietnamese.",
    Yiddish "yi" "Yiddish.",
    Chinese "zh" "Chinese.",
);

/// A text is no code of a [known](Language::KNOWN) language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no code of a known language")]
pub struct UnknownCode;

impl FromStr for Language {
    type Err = UnknownCode;

    /// Parses the code of a [known](Language::KNOWN) language.
    fn from_str(code: &str) -> Result<Self, UnknownCode> {
        Self::KNOWN.iter().copied().find(|known| known.code() == code).ok_or(UnknownCode)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_parsed() {
        assert!(Language::KNOWN.is_sorted_by(|a, b| a.code() < b.code()));
        for language in Language::KNOWN {
            assert_eq!(language.code().parse(), Ok(*language));
        }
        for other in ["", "EN", "eng", "xx", "unknown"] {
            assert_eq!(other.parse::<Language>(), Err(UnknownCode), "{other}");
        }
        assert_eq!(Language::default().to_string(), "unknown");
    }
}
