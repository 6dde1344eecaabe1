//! Parses a spec's TOML.

use toml::{Table, Value};

use super::built_in;
use super::error::SpecError;
use super::raw::{RawCategory, RawSpec};
use super::spec::{Category, GuardSpec, message_name};
use super::template::{PROMPT, Templates};
use super::validate::{validate, validate_own_policy};
use crate::core::event::Role;

/// The greatest size of a spec, in bytes.
const MAX_SPEC: usize = 256 * 1024;
/// The greatest number of specs that extend each other.
const MAX_DEPTH: usize = 3;

impl GuardSpec {
    /// Parses a spec from TOML and renders a probe for each judged role.
    ///
    /// # Errors
    /// Returns `Invalid` with the field, the problem and its remedy.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        Self::new(raw_spec(text)?)
    }

    /// Returns the bundled spec of this name.
    ///
    /// # Errors
    /// Returns `Unknown` if there is none.
    pub fn built_in(name: &str) -> Result<Self, SpecError> {
        let unknown = || SpecError::Unknown { name: name.to_owned(), known: built_in::NAMES.join(", ") };
        Self::parse(built_in::source(name).ok_or_else(unknown)?)
    }

    fn new(raw: RawSpec) -> Result<Self, SpecError> {
        let mut sources = vec![(PROMPT.to_owned(), raw.template.text.clone())];
        for (index, message) in raw.messages.iter().enumerate() {
            sources.push((message_name(index), message.content.clone()));
        }
        let templates = Templates::new(&sources, &raw.template.control).map_err(|(field, problem)| {
            SpecError::invalid(&raw.name, &field, problem, "correct the template")
        })?;
        let judged = roles(&raw.name, "roles.judged", &raw.roles.judged)?;
        let next_token = match &raw.verdict.next_token {
            Some(words) => roles(&raw.name, "verdict.next_token", words)?,
            None => judged.clone(),
        };
        let spec = Self::unchecked(raw, templates, judged, next_token);
        validate(&spec)?;
        Ok(spec)
    }

    /// Replaces the policy text, e.g. by a policy's own. Codes that it uses must be those of the spec's categories, or
    /// be given with [`with_categories`](Self::with_categories).
    ///
    /// # Errors
    /// Returns `Invalid` if the template shows no policy, or the text holds a control token.
    pub fn with_policy_text(mut self, text: &str) -> Result<Self, SpecError> {
        text.clone_into(&mut self.raw.policy);
        let spec = Self::new(self.raw)?;
        validate_own_policy(&spec)?;
        Ok(spec)
    }

    /// Replaces the categories, for a policy text with codes of its own.
    ///
    /// # Errors
    /// Returns `Invalid` if a code is empty or not unique.
    pub fn with_categories(mut self, categories: &[Category]) -> Result<Self, SpecError> {
        let raw = |category: &Category| RawCategory {
            code: category.code.clone(),
            name: category.name.clone(),
            category: category.category.clone(),
        };
        self.raw.categories = categories.iter().map(raw).collect();
        Self::new(self.raw)
    }
}

/// Parses TOML, after merging it into the spec that it extends.
///
/// # Errors
/// Returns `Invalid` with the line.
fn raw_spec(text: &str) -> Result<RawSpec, SpecError> {
    let table = merged(text, MAX_DEPTH)?;
    let name = table.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
    RawSpec::deserialize_table(table).map_err(|error| {
        let remedy = "docs/guards.md lists every key";
        SpecError::invalid(&name, "the file", error.message().trim(), remedy)
    })
}

impl RawSpec {
    fn deserialize_table(table: Table) -> Result<Self, toml::de::Error> {
        Value::Table(table).try_into()
    }
}

/// The table of a spec, on top of the bundled spec that it extends.
fn merged(text: &str, depth: usize) -> Result<Table, SpecError> {
    let problem =
        |field: &str, problem: String, remedy: &str| SpecError::invalid("?", field, problem, remedy);
    if text.len() > MAX_SPEC {
        return Err(problem(
            "the file",
            format!("has more than {MAX_SPEC} bytes"),
            "shorten the policy text",
        ));
    }
    let mut table: Table = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.get(..start).unwrap_or("").matches('\n').count();
        problem(&format!("line {line}"), error.message().to_owned(), "correct the TOML")
    })?;
    let Some(base) = table.remove("extends") else { return Ok(table) };
    let base = base.as_str().unwrap_or_default().to_owned();
    let source = built_in::source(&base).filter(|_| depth > 0).ok_or_else(|| {
        let known = built_in::NAMES.join(", ");
        problem("extends", format!("{base} is no bundled spec"), &format!("name one of: {known}"))
    })?;
    let mut below = merged(source, depth - 1)?;
    overlay(&mut below, table);
    Ok(below)
}

/// Puts the entries of one table over those of another. Arrays are replaced.
fn overlay(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Parses the names of roles.
///
/// # Errors
/// Returns `Invalid` for a name that is no role, or if there is none.
fn roles(spec: &str, field: &str, words: &[String]) -> Result<Vec<Role>, SpecError> {
    let role = |word: &String| {
        Role::ALL.into_iter().find(|role| role.word() == word).ok_or_else(|| {
            SpecError::invalid(
                spec,
                field,
                format!("{word} is no role"),
                "use user, assistant, system or tool",
            )
        })
    };
    words.iter().map(role).collect()
}
