//! A guard spec, checked.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::Value;
use sha2::{Digest, Sha256};

use super::raw::{Counts, Grammar, History, Keep, RawAnswer, RawCategory, RawChat, RawSpec};
use super::template::{PROMPT, Piece, Templates, placeholder};
use crate::core::event::Role;

/// The number of hexadecimal digits of a version.
const VERSION_DIGITS: usize = 16;

/// A category of the guard's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// The code or the exact name that the guard answers with, e.g. `S1`.
    pub code: String,
    /// The name in the policy text; empty if the code is the name.
    pub name: String,
    /// The slug in Aegis's taxonomy.
    pub category: String,
}

/// The form of prompt for a chat API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chat {
    /// The prompt can only be sent to a completions API.
    None,
    /// The turns as messages. The server's template for the model holds the policy.
    Turns,
    /// Messages that hold the policy, for a server with the base model's template.
    Messages,
}

/// The prompt, verdict and answer of a guard family.
#[derive(Debug, Clone)]
pub struct GuardSpec {
    pub(super) raw: RawSpec,
    pub(super) templates: Templates,
    judged: Vec<Role>,
    next_token: Vec<Role>,
    harmful: Vec<String>,
    safe: Vec<String>,
    version: String,
}

impl GuardSpec {
    /// A spec of these fields, which are not checked.
    pub(super) fn unchecked(
        raw: RawSpec,
        templates: Templates,
        judged: Vec<Role>,
        next_token: Vec<Role>,
    ) -> Self {
        let (mut harmful, mut safe) = (raw.verdict.harmful.clone(), raw.verdict.safe.clone());
        match raw.verdict.controversial_counts {
            Counts::Unsafe => harmful.extend_from_slice(&raw.verdict.controversial),
            Counts::Safe => safe.extend_from_slice(&raw.verdict.controversial),
        }
        let version = version_of(&raw);
        Self { raw, templates, judged, next_token, harmful, safe, version }
    }

    /// The name of the spec.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.raw.name
    }

    /// The version: a hash over all that the spec says, including the policy text, of 16 hexadecimal digits.
    #[must_use]
    pub fn version(&self) -> String {
        self.version.clone()
    }

    /// The version of the prompts: specs with the same one make the same prompts, and may differ in how they read the
    /// answer.
    #[must_use]
    pub fn prompt_version(&self) -> String {
        let mut raw = self.raw.clone();
        raw.off_template_limit = 0.0;
        for text in [&mut raw.name, &mut raw.version, &mut raw.description, &mut raw.licence] {
            text.clear();
        }
        raw.verdict.controversial_counts = Counts::default();
        raw.answer.harmful_words.clear();
        raw.answer.safe.clear();
        version_of(&raw)
    }

    /// A sentence about the guard.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.raw.description
    }

    /// The licence of the model.
    #[must_use]
    pub fn licence(&self) -> &str {
        &self.raw.licence
    }

    /// The languages that the model was trained for.
    #[must_use]
    pub fn languages(&self) -> &[String] {
        &self.raw.languages
    }

    /// The greatest number of tokens of the prompt and the answer together.
    #[must_use]
    pub fn context(&self) -> usize {
        self.raw.context
    }

    /// The greatest probability outside the verdict's tokens with which an answer counts. Above it the template or the
    /// position is wrong.
    #[must_use]
    pub fn off_template_limit(&self) -> f64 {
        self.raw.off_template_limit
    }

    /// The roles of which the guard judges a turn.
    #[must_use]
    pub fn judged_roles(&self) -> &[Role] {
        &self.judged
    }

    /// The judged roles whose verdict is the next token after the prompt. For the others the whole answer is needed.
    #[must_use]
    pub fn next_token_roles(&self) -> &[Role] {
        &self.next_token
    }

    /// Returns `true` if the guard judges turns of this role.
    #[must_use]
    pub fn judges(&self, role: Role) -> bool {
        self.judged.contains(&role)
    }

    /// The text after the template with which the answer is made to begin, so that the verdict is the next token. A
    /// generated answer is parsed together with it. It is empty for roles that need the whole answer.
    #[must_use]
    pub fn forced_text(&self, judged: Role) -> &str {
        if self.next_token.contains(&judged) { &self.raw.verdict.force } else { "" }
    }

    /// The texts of which one follows the prompt if the judged turn is unsafe.
    #[must_use]
    pub fn harmful_strings(&self) -> &[String] {
        &self.harmful
    }

    /// The texts of which one follows the prompt if the judged turn is safe.
    #[must_use]
    pub fn safe_strings(&self) -> &[String] {
        &self.safe
    }

    /// The greatest number of tokens of an answer.
    #[must_use]
    pub fn max_answer_tokens(&self) -> usize {
        self.raw.answer.max_tokens
    }

    /// The form of prompt for a chat API.
    #[must_use]
    pub fn chat(&self) -> Chat {
        match self.raw.template.chat {
            RawChat::None => Chat::None,
            RawChat::Turns => Chat::Turns,
            RawChat::Messages => Chat::Messages,
        }
    }

    /// The categories of the policy.
    #[must_use]
    pub fn categories(&self) -> Vec<Category> {
        let category = |raw: &RawCategory| Category {
            code: raw.code.clone(),
            name: raw.name.clone(),
            category: raw.category.clone(),
        };
        self.raw.categories.iter().map(category).collect()
    }

    /// The slugs of all categories that an answer may report, sorted: those of the policy, and the one that every unsafe
    /// verdict implies.
    #[must_use]
    pub fn reported_categories(&self) -> Vec<String> {
        let listed = self.raw.categories.iter().map(|category| &category.category);
        let slugs: BTreeSet<&String> = listed.chain(&self.raw.answer.implies).collect();
        slugs.into_iter().cloned().collect()
    }

    /// The control token that begins every prompt, and whether the template writes it.
    pub(super) fn bos(&self) -> Option<(&str, bool)> {
        let template = &self.raw.template;
        let written = template.bos_written.as_deref().map(|token| (token, true));
        written.or_else(|| template.bos_added.as_deref().map(|token| (token, false)))
    }

    /// Returns `true` for a control token of the template or of the vocabulary, as far as the spec lists them.
    pub(super) fn is_control(&self, token: &str) -> bool {
        let template = &self.raw.template;
        let is_bos = self.bos().is_some_and(|(bos, _)| bos == token);
        is_bos || template.control.iter().chain(&template.reserved).any(|known| known == token)
    }

    pub(super) fn keep(&self) -> Keep {
        self.raw.keep
    }

    pub(super) fn history(&self) -> History {
        self.raw.history
    }

    pub(super) fn answer(&self) -> &RawAnswer {
        &self.raw.answer
    }

    pub(super) fn grammar(&self) -> Grammar {
        self.raw.answer.grammar
    }

    /// The template's word for a role.
    pub(super) fn role_word(&self, role: Role) -> Option<&str> {
        let roles = &self.raw.roles;
        let word = match role {
            Role::User => &roles.user,
            Role::Assistant => &roles.assistant,
            Role::System => &roles.system,
            Role::Tool => &roles.tool,
        };
        word.as_deref()
    }

    /// The messages of turns with these roles, the last of which is judged: role and rendered content.
    ///
    /// # Errors
    /// Returns the field and the engine's message.
    pub(super) fn messages(&self, shown: &[Role]) -> Result<Vec<(String, String)>, (String, String)> {
        let mut messages = Vec::new();
        for (index, message) in self.raw.messages.iter().enumerate() {
            if message.turns {
                let turn = |(index, role): (usize, &Role)| (self.word(*role), placeholder(index));
                messages.extend(shown.iter().enumerate().map(turn));
                continue;
            }
            let name = message_name(index);
            let content =
                self.templates.render(&name, self.values(shown)).map_err(|problem| (name, problem))?;
            if !content.is_empty() {
                messages.push((message.role.clone(), content));
            }
        }
        Ok(messages)
    }

    /// The pieces of the prompt for turns with these roles, the last of which is judged. Text `n` of a piece is that of
    /// turn `n`. The forced text is the last piece.
    ///
    /// # Errors
    /// Returns the field and the engine's message.
    pub(super) fn pieces(&self, shown: &[Role]) -> Result<Vec<Piece>, (String, String)> {
        let mut values = self.values(shown);
        let message = |(role, content): (String, String)| {
            Value::from(BTreeMap::from([("role", Value::from(role)), ("content", Value::from(content))]))
        };
        let messages: Vec<Value> = self.messages(shown)?.into_iter().map(message).collect();
        values.insert("messages", Value::from(messages));
        let of_prompt = |problem: String| (PROMPT.to_owned(), problem);
        let mut rendered = self.templates.render(PROMPT, values).map_err(of_prompt)?;
        let judged = shown.last().copied().unwrap_or(Role::User);
        rendered.push_str(self.forced_text(judged));
        self.templates.split(&rendered).map_err(of_prompt)
    }

    fn word(&self, role: Role) -> String {
        self.role_word(role).unwrap_or_default().to_owned()
    }

    /// The values that templates may use.
    fn values(&self, shown: &[Role]) -> BTreeMap<&'static str, Value> {
        let last = shown.len().saturating_sub(1);
        let turn = |(index, role): (usize, &Role)| {
            Value::from(BTreeMap::from([
                ("role", Value::from(self.word(*role))),
                ("kind", Value::from(role.word())),
                ("text", Value::from(placeholder(index))),
                ("judged", Value::from(index == last)),
            ]))
        };
        let category = |category: &RawCategory| {
            let name = if category.name.is_empty() { &category.code } else { &category.name };
            Value::from(BTreeMap::from([
                ("code", Value::from(category.code.as_str())),
                ("name", Value::from(name.as_str())),
            ]))
        };
        let judged = shown.last().copied().unwrap_or(Role::User);
        let question = shown.iter().rposition(|role| *role == Role::User);
        let response = (judged == Role::Assistant).then(|| placeholder(last));
        let turns: Vec<Value> = shown.iter().enumerate().map(turn).collect();
        let categories: Vec<Value> = self.raw.categories.iter().map(category).collect();
        BTreeMap::from([
            ("turns", Value::from(turns)),
            ("prompt", Value::from(question.map(placeholder).unwrap_or_default())),
            ("response", Value::from(response.unwrap_or_default())),
            ("judged", Value::from(judged.word())),
            ("judged_word", Value::from(self.word(judged))),
            ("policy", Value::from(self.raw.policy.as_str())),
            ("categories", Value::from(categories)),
        ])
    }
}

/// The name of the template of a message, which is its field in the spec.
pub(super) fn message_name(index: usize) -> String {
    format!("messages[{index}].content")
}

/// A hash over all fields.
fn version_of(raw: &RawSpec) -> String {
    let fields = serde_json::to_vec(raw).unwrap_or_default();
    let mut digits = hex::encode(Sha256::digest(fields));
    digits.truncate(VERSION_DIGITS);
    digits
}

#[cfg(test)]
mod tests;
