//! Parses and compiles rule files.

use std::collections::BTreeSet;
use std::path::Path;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::required::required;
use super::scope::{CountsIn, Scope};
use super::{Finding, Group, Pattern, Rules, Word};
use crate::core::language::Language;
use crate::experts::error::PanelError;
use crate::experts::text_folding::{Folded, fold};

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
    /// The language of the words, such as `de`.
    language: Option<String>,
    #[serde(default)]
    counts_in: CountsIn,
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
    /// The language of the pattern, such as `de`.
    language: Option<String>,
    #[serde(default)]
    counts_in: CountsIn,
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

/// A problem with an entry of a rule file, and its remedy.
pub(super) type Problem = (String, String);

/// The entries of a rule file, before they are compiled together.
#[derive(Default)]
struct Builder {
    /// The words and the literals of the patterns.
    texts: Vec<Vec<u8>>,
    findings: Vec<Finding>,
    words: usize,
    sets: usize,
    groups: Vec<Group>,
    patterns: Vec<Pattern>,
    letters: BTreeSet<char>,
}

impl Rules {
    /// Compiles a rule file.
    ///
    /// # Errors
    /// Returns `Rules` with the entry if one is unknown, is out of range or does not compile.
    pub fn parse(path: &Path, text: &str) -> Result<Self, PanelError> {
        compile(text).map_err(|(field, (problem, remedy))| PanelError::Rules {
            path: path.to_owned(),
            field,
            problem,
            remedy,
        })
    }
}

/// Compiles a rule file, or returns an entry with its problem.
fn compile(text: &str) -> Result<Rules, (String, Problem)> {
    let raw: RawRules = toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or("").matches('\n').count());
        let remedy = "docs/adding-an-expert.md lists every key".to_owned();
        (format!("line {line}"), (error.message().to_owned(), remedy))
    })?;
    let base = check_severity(raw.base).map_err(|problem| ("base".to_owned(), problem))?;
    let mut builder = Builder::default();
    for terms in raw.terms {
        builder.add_terms(terms)?;
    }
    if builder.words > MAX_WORDS || raw.patterns.len() > MAX_PATTERNS {
        let problem = format!("more than {MAX_WORDS} words or {MAX_PATTERNS} patterns");
        return Err(("terms".to_owned(), (problem, "split them over several experts".to_owned())));
    }
    for pattern in raw.patterns {
        builder.add_pattern(pattern)?;
    }
    builder.build(base)
}

impl Builder {
    fn add_terms(&mut self, terms: RawTerms) -> Result<(), (String, Problem)> {
        let group = self.groups.len();
        let entry = |key: &str| format!("terms[{group}].{key}");
        let severity = check_severity(terms.severity).map_err(|problem| (entry("severity"), problem))?;
        let scope = Scope::new(terms.language.as_deref(), terms.counts_in)
            .map_err(|(key, problem)| (entry(key), problem))?;
        for word in terms.words {
            let Folded { text, letters, .. } = fold(&word);
            self.letters.extend(letters.other);
            if text.is_empty() {
                let problem = (format!("{word:?} is nothing once folded"), "remove it".to_owned());
                return Err((entry("words"), problem));
            }
            self.texts.push(text.into_bytes());
            self.findings.push(Finding::Word(Word { group, severity }));
            self.words += 1;
        }
        let except = compile_exceptions(&terms.except).map_err(|problem| (entry("except"), problem))?;
        self.groups.push(Group { category: terms.category, scope, except });
        Ok(())
    }

    fn add_pattern(&mut self, raw: RawPattern) -> Result<(), (String, Problem)> {
        let RawPattern { id, category, severity, regex, language, counts_in } = raw;
        let entry = |key: &str| format!("pattern {id:?}, {key}");
        let severity = check_severity(severity).map_err(|problem| (entry("severity"), problem))?;
        let scope =
            Scope::new(language.as_deref(), counts_in).map_err(|(key, problem)| (entry(key), problem))?;
        self.letters.extend(fold(&regex).letters.other);
        let compiled = compile_regex(&regex).map_err(|problem| (entry("regex"), problem))?;
        let first = self.sets;
        for set in required(&regex) {
            for literal in set {
                self.texts.push(literal);
                self.findings.push(Finding::Literal { set: self.sets });
            }
            self.sets += 1;
        }
        self.patterns.push(Pattern {
            regex: compiled,
            category,
            severity,
            scope,
            required: first..self.sets,
        });
        Ok(())
    }

    fn build(self, base: f64) -> Result<Rules, (String, Problem)> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&self.texts)
            .map_err(|error| ("terms".to_owned(), (error.to_string(), "use fewer words".to_owned())))?;
        let of_groups = self.groups.iter().map(|group| &group.scope);
        let scopes = of_groups.chain(self.patterns.iter().map(|pattern| &pattern.scope));
        let languages = scopes.map(|scope| scope.language).filter(|language| *language != Language::Unknown);
        Ok(Rules {
            base,
            languages: languages.collect(),
            automaton,
            findings: self.findings,
            sets: self.sets,
            groups: self.groups,
            patterns: self.patterns,
            letters: self.letters,
        })
    }
}

fn check_severity(value: f64) -> Result<f64, Problem> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err((format!("{value} is no probability"), "give a number from 0 to 1".to_owned()))
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
