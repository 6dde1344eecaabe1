//! The rules engine: finds terms and patterns in [folded](super::text_folding) text, in time linear in its length.
//!
//! Each entry of a rule file may have a language. It counts in texts of all languages, unless the file restricts it
//! because its words are ordinary in another language (`scope`).

#[cfg(test)]
mod bundled;
mod parse;
mod required;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aho_corasick::AhoCorasick;
use regex::Regex;

use self::scope::Scope;
use super::text_folding::{Folded, Letters};
use crate::core::language::Language;
use crate::core::vote::{Abstention, CategoryScore};
use crate::language::Detection;

/// A word of the rules.
#[derive(Debug, Clone, Copy)]
struct Word {
    /// The index of its group.
    group: usize,
    severity: f64,
}

/// A hit of the automaton.
#[derive(Debug, Clone, Copy)]
enum Finding {
    Word(Word),
    /// A literal of the set with this number, which a pattern requires.
    Literal {
        set: usize,
    },
}

/// Words of one category with common exceptions.
#[derive(Debug)]
struct Group {
    category: String,
    scope: Scope,
    /// Ordinary text in which the words do not count.
    except: Option<Regex>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    category: String,
    severity: f64,
    scope: Scope,
    /// The sets of literals of which every match contains one each.
    required: Range<usize>,
}

/// A compiled rule file.
#[derive(Debug)]
pub struct Rules {
    base: f64,
    /// The languages of the entries. If there is none, the rules are for texts of all languages.
    languages: BTreeSet<Language>,
    /// Finds the words, and the literals that patterns require.
    automaton: AhoCorasick,
    /// By the automaton's pattern number.
    findings: Vec<Finding>,
    /// The number of sets of literals.
    sets: usize,
    groups: Vec<Group>,
    patterns: Vec<Pattern>,
    /// The letters and digits of the rules that are not ASCII.
    letters: BTreeSet<char>,
}

/// The score of the rules for one text.
#[derive(Debug, Clone, PartialEq)]
pub struct RulesScore {
    /// The greatest severity of a hit, or the base if there is none.
    pub score: f64,
    /// The greatest severity of a hit in each category, by slug.
    pub categories: Vec<CategoryScore>,
}

/// The greatest severity of a hit in each category.
type Severities<'a> = BTreeMap<&'a str, f64>;

fn add_hit<'a>(severities: &mut Severities<'a>, category: &'a str, severity: f64) {
    let greatest = severities.entry(category).or_insert(0.0);
    *greatest = greatest.max(severity);
}

impl Rules {
    /// Returns `true` if the rules can read a text with these letters: ASCII letters or digits, or others that occur in
    /// the rules. Look-alike letters do not count: rules of one script cannot judge a text in another.
    fn can_read(&self, letters: &Letters) -> bool {
        letters.ascii || letters.other.iter().any(|c| self.letters.contains(c))
    }

    /// Returns `true` if there are entries for texts of this language, or of one that an unknown language may be.
    fn covers(&self, detection: &Detection) -> bool {
        self.languages.is_empty() || self.languages.iter().any(|language| detection.may_be(*language))
    }

    /// Scores a folded text whose language was detected, or is known from elsewhere.
    ///
    /// # Errors
    /// If no rule matches, returns `Language` if the rules have entries of languages but none that the text may be in, and
    /// `NothingRead` if they cannot read its letters.
    pub fn score(&self, folded: &Folded, detection: impl Into<Detection>) -> Result<RulesScore, Abstention> {
        let detection = detection.into();
        let mut severities = Severities::new();
        for text in folded.readings() {
            self.find(text, detection.language, &mut severities);
        }
        if severities.is_empty() {
            if !self.covers(&detection) {
                return Err(Abstention::Language);
            }
            if !self.can_read(&folded.letters) {
                return Err(Abstention::NothingRead);
            }
        }
        let score = severities.values().copied().reduce(f64::max).unwrap_or(self.base);
        let categories = severities
            .into_iter()
            .map(|(category, score)| CategoryScore { category: category.to_owned(), score })
            .collect();
        Ok(RulesScore { score, categories })
    }

    /// Adds the hits in one reading of a text.
    fn find<'a>(&'a self, text: &str, language: Language, severities: &mut Severities<'a>) {
        // By group, found when one of its words first matches.
        let mut exceptions = vec![None; self.groups.len()];
        let mut present = vec![false; self.sets];
        for found in self.automaton.find_overlapping_iter(text) {
            let word = match self.findings[found.pattern().as_usize()] {
                Finding::Word(word) => word,
                Finding::Literal { set } => {
                    present[set] = true;
                    continue;
                }
            };
            let group = &self.groups[word.group];
            if group.scope.includes(language)
                && is_whole_word(text, found.range())
                && !exceptions[word.group]
                    .get_or_insert_with(|| Spans::find(group.except.as_ref(), text))
                    .contain(found.range())
            {
                add_hit(severities, &group.category, word.severity);
            }
        }
        for pattern in &self.patterns {
            if pattern.scope.includes(language)
                && present[pattern.required.clone()].iter().all(|is_present| *is_present)
                && pattern.regex.is_match(text)
            {
                add_hit(severities, &pattern.category, pattern.severity);
            }
        }
    }
}

/// Spans of text in which a group's words do not count, in order and without overlap.
#[derive(Debug, Clone)]
struct Spans(Vec<Range<usize>>);

impl Spans {
    fn find(except: Option<&Regex>, text: &str) -> Self {
        let spans = except.into_iter().flat_map(|except| except.find_iter(text));
        Self(spans.map(|found| found.range()).collect())
    }

    /// Returns `true` if a word lies within one of the spans.
    fn contain(&self, word: Range<usize>) -> bool {
        let after = self.0.partition_point(|span| span.start <= word.start);
        self.0[..after].last().is_some_and(|span| word.end <= span.end)
    }
}

/// Returns `true` if a match has word boundaries on both sides. Han characters have them everywhere, because Chinese is
/// written without spaces between words.
fn is_whole_word(text: &str, span: Range<usize>) -> bool {
    let is_word = |c: char| (c.is_alphanumeric() || c == '_') && !is_han(c);
    let is_bounded = |inside: Option<char>, outside: Option<char>| {
        !(inside.is_some_and(|c| !is_han(c)) && outside.is_some_and(is_word))
    };
    let word = &text[span.clone()];
    is_bounded(word.chars().next(), text[..span.start].chars().next_back())
        && is_bounded(word.chars().next_back(), text[span.end..].chars().next())
}

/// Returns `true` for Chinese characters.
fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}
