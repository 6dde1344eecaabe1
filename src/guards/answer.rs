//! Reads a guard's answer.

use serde_json::Value;

use super::raw::Grammar;
use super::spec::GuardSpec;
use crate::core::event::Role;

/// The greatest size of an answer that is read, in bytes. Guards that reason first need most of it.
const MAX_ANSWER: usize = 64 * 1024;

/// The verdict of a guard, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardAnswer {
    /// The judged turn is unsafe.
    pub harmful: bool,
    /// The categories found, as slugs of Aegis's taxonomy, each once. Codes that the spec does not list are left out.
    pub categories: Vec<String>,
}

impl GuardSpec {
    /// Reads the verdict on a turn of the role `judged` from the whole answer, which begins with the forced text if that
    /// was forced. Returns `None` if the answer has no verdict, more than one, an unclosed `<think>`, or is too long.
    #[must_use]
    pub fn parse_answer(&self, judged: Role, answer: &str) -> Option<GuardAnswer> {
        if answer.len() > MAX_ANSWER {
            return None;
        }
        let answer = without_thoughts(answer)?;
        let (verdict, codes) = match self.grammar() {
            Grammar::FirstLine => self.first_line(answer)?,
            Grammar::Lines => self.lines(judged, answer)?,
            Grammar::Json => self.json(judged, answer)?,
            Grammar::Tag => (self.tag(judged, answer)?, String::new()),
            Grammar::FirstWord => (first_word(answer)?, String::new()),
        };
        let harmful = self.verdict_of(&verdict)?;
        let categories = if harmful { self.slugs(&codes) } else { Vec::new() };
        Some(GuardAnswer { harmful, categories })
    }

    /// The meaning of a verdict's word; `None` if it is none.
    fn verdict_of(&self, word: &str) -> Option<bool> {
        let word = word.trim();
        let is = |words: &[String]| words.iter().any(|known| known.trim().eq_ignore_ascii_case(word));
        let answer = self.answer();
        if is(&answer.harmful_words) || is(self.harmful_strings()) {
            Some(true)
        } else if is(&answer.safe) || is(self.safe_strings()) {
            Some(false)
        } else {
            None
        }
    }

    /// The first line is the verdict, the second one has the codes. No later line may be a verdict.
    fn first_line(&self, answer: &str) -> Option<(String, String)> {
        let mut lines = answer.lines().map(str::trim).filter(|line| !line.is_empty());
        let verdict = lines.next()?.to_owned();
        let codes = lines.next().unwrap_or("").to_owned();
        let again = std::iter::once(codes.as_str()).chain(lines).any(|line| self.verdict_of(line).is_some());
        (!again).then_some((verdict, codes))
    }

    fn verdict_key(&self, judged: Role) -> Option<&str> {
        self.answer().harmful.as_ref()?.of(judged)
    }

    fn category_key(&self, judged: Role) -> Option<&str> {
        self.answer().categories.as_ref()?.of(judged)
    }

    fn lines(&self, judged: Role, answer: &str) -> Option<(String, String)> {
        let value_of = |key: &str| {
            let matches = |line: &&str| {
                line.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case(key.trim()))
            };
            let mut lines = answer.lines().filter(matches);
            let line = lines.next();
            // A key that is there twice has no value.
            let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned());
            if lines.next().is_some() { None } else { value }
        };
        let verdict = value_of(self.verdict_key(judged)?)?;
        let codes = self.category_key(judged).and_then(value_of).unwrap_or_default();
        Some((verdict, codes))
    }

    fn json(&self, judged: Role, answer: &str) -> Option<(String, String)> {
        let key = self.verdict_key(judged)?;
        let (start, end) = (answer.find('{')?, answer.rfind('}')?);
        let object = answer.get(start..=end)?;
        // A JSON parser takes the last of two equal keys.
        if object.matches(&format!("\"{key}\"")).count() != 1 {
            return None;
        }
        let object: Value = serde_json::from_str(object).ok()?;
        let verdict = object.get(key)?.as_str()?.to_owned();
        let codes = self.category_key(judged).and_then(|key| object.get(key));
        Some((verdict, codes.map(joined).unwrap_or_default()))
    }

    /// The text within the tag, which must be there once.
    fn tag(&self, judged: Role, answer: &str) -> Option<String> {
        let name = self.verdict_key(judged)?;
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let (_, rest) = answer.split_once(&open)?;
        // The end of the tag may lie beyond the token limit.
        let (inner, rest) = rest.split_once(&close).unwrap_or((rest, ""));
        (!rest.contains(&open)).then(|| inner.trim().to_owned())
    }

    /// The slugs of comma-separated codes or names.
    fn slugs(&self, codes: &str) -> Vec<String> {
        let mut slugs: Vec<String> = self.answer().implies.iter().cloned().collect();
        for code in codes.split(',').map(str::trim) {
            let is_code = |category: &&super::raw::RawCategory| {
                let names = [category.code.as_str(), category.name.as_str()];
                names.iter().any(|name| !name.is_empty() && name.trim().eq_ignore_ascii_case(code))
            };
            if let Some(found) = self.raw.categories.iter().find(is_code)
                && !slugs.contains(&found.category)
            {
                slugs.push(found.category.clone());
            }
        }
        slugs
    }
}

fn first_word(answer: &str) -> Option<String> {
    let word = answer.split_whitespace().next()?;
    Some(word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned())
}

/// The strings of a JSON value, separated by commas.
fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        _ => String::new(),
    }
}

/// The answer behind its closed `<think>` block, which the prompt may have opened. `None` if a block is not closed.
fn without_thoughts(answer: &str) -> Option<&str> {
    let rest = answer.split_once("</think>").map_or(answer, |(_, rest)| rest);
    (!rest.contains("<think>")).then_some(rest)
}

#[cfg(test)]
mod tests;
