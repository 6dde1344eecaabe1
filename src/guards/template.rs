//! Renders a template and splits the result.
//!
//! Templates see placeholders instead of texts, each a number between two private-use characters.

use std::collections::BTreeMap;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

/// The characters around the number of a placeholder. Specs must not contain them.
pub(super) const PLACEHOLDER: [char; 2] = ['\u{F0000}', '\u{F0001}'];
/// The name of the template of the prompt. Templates of messages are named by their number.
pub(super) const PROMPT: &str = "template.text";
/// The work that a template may do: more than 50 instructions for each of 10,000 turns.
const FUEL: u64 = 1_000_000;
/// The greatest size of a rendered template, in bytes.
const MAX_RENDERED: usize = 4_000_000;

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// The control token with this index in the spec's list.
    Control(usize),
    /// Words of the template.
    Words(String),
    /// The text with this index.
    Text(usize),
}

/// The compiled templates of a spec.
#[derive(Clone)]
pub(super) struct Templates {
    environment: Arc<Environment<'static>>,
    control: Arc<AhoCorasick>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates").finish_non_exhaustive()
    }
}

impl Templates {
    /// Compiles templates, each with its name, and the search for control tokens.
    ///
    /// # Errors
    /// Returns the name of the template, or `template.control`, and the reason.
    pub(super) fn new(sources: &[(String, String)], control: &[String]) -> Result<Self, (String, String)> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()
            .map_err(|error| (PROMPT.to_owned(), error.to_string()))?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        for (name, source) in sources {
            environment
                .add_template_owned(name.clone(), source.clone())
                .map_err(|error| (name.clone(), describe(&error)))?;
        }
        let control = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(control)
            .map_err(|error| ("template.control".to_owned(), error.to_string()))?;
        Ok(Self { environment: Arc::new(environment), control: Arc::new(control) })
    }

    /// Renders the template of this name.
    ///
    /// # Errors
    /// Returns the engine's message.
    pub(super) fn render(&self, name: &str, values: BTreeMap<&'static str, Value>) -> Result<String, String> {
        let template = self.environment.get_template(name).map_err(|error| describe(&error))?;
        let text = template.render(Value::from(values)).map_err(|error| describe(&error))?;
        if text.len() > MAX_RENDERED {
            return Err(format!("gives {} bytes, more than {MAX_RENDERED}", text.len()));
        }
        Ok(text)
    }

    /// Splits a rendered template into its pieces.
    ///
    /// # Errors
    /// Returns the reason if a placeholder is damaged, because the template changed it.
    pub(super) fn split(&self, rendered: &str) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::new();
        for (index, part) in rendered.split(PLACEHOLDER[0]).enumerate() {
            let words = if index == 0 {
                part
            } else {
                let (number, rest) = part.split_once(PLACEHOLDER[1]).ok_or_else(changed)?;
                pieces.push(Piece::Text(number.parse().map_err(|_| changed())?));
                rest
            };
            self.split_words(words, &mut pieces);
        }
        Ok(pieces)
    }

    /// Splits words at control tokens.
    fn split_words(&self, words: &str, pieces: &mut Vec<Piece>) {
        let mut start = 0;
        let push_words = |pieces: &mut Vec<Piece>, words: &str| {
            if !words.is_empty() {
                pieces.push(Piece::Words(words.to_owned()));
            }
        };
        for found in self.control.find_iter(words) {
            push_words(pieces, &words[start..found.start()]);
            pieces.push(Piece::Control(found.pattern().as_usize()));
            start = found.end();
        }
        push_words(pieces, &words[start..]);
    }
}

fn changed() -> String {
    "changes the text of a turn; insert it as it is".to_owned()
}

/// The placeholder of the text with this index.
pub(super) fn placeholder(index: usize) -> String {
    format!("{}{index}{}", PLACEHOLDER[0], PLACEHOLDER[1])
}

/// The engine's message with the line.
fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("{}{detail}{line}", error.kind())
}
