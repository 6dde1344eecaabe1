//! The rules engine: finds terms and patterns in [folded](super::text_folding) text, in time linear in its length.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::error::PanelError;
use super::text_folding::{Folded, Letters, fold};
use crate::core::vote::CategoryScore;

/// The greatest number of words in all groups.
const MAX_WORDS: usize = 200_000;
/// The greatest number of patterns.
const MAX_PATTERNS: usize = 1_000;
/// The greatest size of one compiled pattern, in bytes.
const MAX_COMPILED_SIZE: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTerms {
    category: String,
    severity: f64,
    words: Vec<String>,
    /// Patterns of ordinary text. A word within a match does not count.
    #[serde(default)]
    except: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPattern {
    id: String,
    category: String,
    severity: f64,
    regex: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRules {
    base: f64,
    #[serde(default)]
    terms: Vec<RawTerms>,
    #[serde(default)]
    patterns: Vec<RawPattern>,
}

/// A word of the rules.
#[derive(Debug, Clone, Copy)]
struct Word {
    /// The index of its group.
    group: usize,
    severity: f64,
}

/// Words of one category with common exceptions.
#[derive(Debug)]
struct Group {
    category: String,
    /// Ordinary text in which the words do not count.
    except: Option<Regex>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    category: String,
    severity: f64,
}

/// A compiled rule file.
#[derive(Debug)]
pub struct Rules {
    base: f64,
    automaton: AhoCorasick,
    /// By the automaton's pattern number.
    words: Vec<Word>,
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

/// A problem with an entry of a rule file, and its remedy.
type Problem = (String, String);

fn check_severity(value: f64) -> Result<f64, Problem> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err((format!("{value} is no probability"), "give a number from 0 to 1".to_owned()))
    }
}

impl Rules {
    /// Compiles a rule file.
    ///
    /// # Errors
    /// Returns `Rules` with the entry if one is unknown, is out of range or does not compile.
    pub fn parse(path: &Path, text: &str) -> Result<Self, PanelError> {
        Self::compile(text).map_err(|(field, (problem, remedy))| PanelError::Rules {
            path: path.to_owned(),
            field,
            problem,
            remedy,
        })
    }

    /// Compiles a rule file, or returns an entry with its problem.
    fn compile(text: &str) -> Result<Self, (String, Problem)> {
        let raw: RawRules = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or("").matches('\n').count());
            let remedy = "docs/adding-an-expert.md lists every key".to_owned();
            (format!("line {line}"), (error.message().to_owned(), remedy))
        })?;
        let base = check_severity(raw.base).map_err(|problem| ("base".to_owned(), problem))?;
        let (mut texts, mut words, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        let mut letters = BTreeSet::new();
        for (group, terms) in raw.terms.into_iter().enumerate() {
            let entry = |key: &str| format!("terms[{group}].{key}");
            let severity = check_severity(terms.severity).map_err(|problem| (entry("severity"), problem))?;
            for word in terms.words {
                let Folded { text, letters: of_word, .. } = fold(&word);
                letters.extend(of_word.other);
                if text.is_empty() {
                    let problem = (format!("{word:?} is nothing once folded"), "remove it".to_owned());
                    return Err((entry("words"), problem));
                }
                texts.push(text);
                words.push(Word { group, severity });
            }
            let except = compile_exceptions(&terms.except).map_err(|problem| (entry("except"), problem))?;
            groups.push(Group { category: terms.category, except });
        }
        if texts.len() > MAX_WORDS || raw.patterns.len() > MAX_PATTERNS {
            let problem = format!("more than {MAX_WORDS} words or {MAX_PATTERNS} patterns");
            return Err(("terms".to_owned(), (problem, "split them over several experts".to_owned())));
        }
        let mut patterns = Vec::new();
        for RawPattern { id, category, severity, regex } in raw.patterns {
            let entry = |key: &str| format!("pattern {id:?}, {key}");
            let severity = check_severity(severity).map_err(|problem| (entry("severity"), problem))?;
            letters.extend(fold(&regex).letters.other);
            let regex = compile_regex(&regex).map_err(|problem| (entry("regex"), problem))?;
            patterns.push(Pattern { regex, category, severity });
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&texts)
            .map_err(|error| ("terms".to_owned(), (error.to_string(), "use fewer words".to_owned())))?;
        Ok(Self { base, automaton, words, groups, patterns, letters })
    }

    /// Returns `true` if the rules can read a text with these letters: ASCII letters or digits, or others that occur in
    /// the rules. Look-alike letters do not count: rules of one script cannot judge a text in another.
    fn can_read(&self, letters: &Letters) -> bool {
        letters.ascii || letters.other.iter().any(|c| self.letters.contains(c))
    }

    /// Scores a folded text. Returns `None` if no rule matches and the rules cannot read its letters.
    #[must_use]
    pub fn score(&self, folded: &Folded) -> Option<RulesScore> {
        let text = folded.text.as_str();
        let mut severities = BTreeMap::<&str, f64>::new();
        let mut add_hit = |category, severity: f64| {
            let greatest = severities.entry(category).or_insert(0.0);
            *greatest = greatest.max(severity);
        };
        // By group, found when one of its words first matches.
        let mut exceptions = vec![None; self.groups.len()];
        for found in self.automaton.find_overlapping_iter(text) {
            let word = self.words[found.pattern().as_usize()];
            let group = &self.groups[word.group];
            if is_whole_word(text, found.range())
                && !exceptions[word.group]
                    .get_or_insert_with(|| Spans::find(group.except.as_ref(), text))
                    .contain(found.range())
            {
                add_hit(group.category.as_str(), word.severity);
            }
        }
        for pattern in &self.patterns {
            if pattern.regex.is_match(text) {
                add_hit(pattern.category.as_str(), pattern.severity);
            }
        }
        if severities.is_empty() && !self.can_read(&folded.letters) {
            return None;
        }
        let score = severities.values().copied().reduce(f64::max).unwrap_or(self.base);
        let categories = severities
            .into_iter()
            .map(|(category, score)| CategoryScore { category: category.to_owned(), score })
            .collect();
        Some(RulesScore { score, categories })
    }
}

fn compile_regex(regex: &str) -> Result<Regex, Problem> {
    let built = RegexBuilder::new(regex).size_limit(MAX_COMPILED_SIZE).build();
    built.map_err(|error| (error.to_string(), "correct or simplify it".to_owned()))
}

/// Compiles one expression for all exceptions of a group. Each is compiled alone as well, so that an error names it.
fn compile_exceptions(except: &[String]) -> Result<Option<Regex>, Problem> {
    for regex in except {
        compile_regex(regex)?;
    }
    let all: Vec<_> = except.iter().map(|regex| format!("(?:{regex})")).collect();
    if all.is_empty() { Ok(None) } else { compile_regex(&all.join("|")).map(Some) }
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

/// Returns `true` if a match has word boundaries on both sides.
fn is_whole_word(text: &str, span: Range<usize>) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let before = text[..span.start].chars().next_back().is_some_and(is_word);
    let after = text[span.end..].chars().next().is_some_and(is_word);
    !before && !after
}

#[cfg(test)]
mod tests;
