//! Prompts for servers: text for a completions API, messages for a chat API.
//!
//! A server reads control tokens in any text. In texts of turns they are broken by a space after their first character.

use std::borrow::Cow;
use std::ops::Range;

use super::error::PromptError;
use super::fit::{Measure, fit};
use super::raw::Keep;
use super::spec::{Chat, GuardSpec};
use super::template::Piece;
use crate::core::event::{Conversation, Role};

/// The bytes of a prompt for each token of the context, if no tokenizer is at hand.
const BYTES_PER_TOKEN: usize = 3;

/// A prompt as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPrompt {
    /// The whole prompt, with the forced text. The token that begins every text is left out, because servers add it.
    pub text: String,
    /// Part of the conversation was left out to make the prompt fit.
    pub cut: bool,
}

/// A prompt as messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatPrompt {
    /// The messages, in order.
    pub messages: Vec<ChatMessage>,
    /// Part of the conversation was left out to make the prompt fit.
    pub cut: bool,
}

/// A message for a chat API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The content.
    pub content: String,
}

impl GuardSpec {
    /// The size in bytes that a prompt may have so that it fits the context with ordinary text.
    #[must_use]
    pub fn default_max_bytes(&self) -> usize {
        (self.context() - self.max_answer_tokens()).saturating_mul(BYTES_PER_TOKEN)
    }

    /// Makes the whole prompt as text of at most `max_bytes` bytes, for a completions API.
    ///
    /// # Errors
    /// Returns `Role` if the spec does not judge turns of this role, and `NoRoom` if `max_bytes` is too small.
    pub fn prompt_text(
        &self,
        conversation: &Conversation,
        max_bytes: usize,
    ) -> Result<TextPrompt, PromptError> {
        let fitted = fit(self, conversation, max_bytes, &Text { spec: self })?;
        Ok(TextPrompt { text: fitted.prompt, cut: fitted.cut })
    }

    /// Makes messages of at most `max_bytes` bytes together, for a chat API. Nothing is forced.
    ///
    /// # Errors
    /// Returns `NoChat` if the spec has no messages, `Role` if it does not judge turns of this role, and `NoRoom` if
    /// `max_bytes` is too small.
    pub fn chat_messages(
        &self,
        conversation: &Conversation,
        max_bytes: usize,
    ) -> Result<ChatPrompt, PromptError> {
        if self.chat() == Chat::None {
            return Err(PromptError::NoChat { spec: self.name().to_owned() });
        }
        let fitted = fit(self, conversation, max_bytes, &Messages { spec: self })?;
        Ok(ChatPrompt { messages: fitted.prompt, cut: fitted.cut })
    }

    /// Breaks the control tokens in a text that a server will read.
    fn defused<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let template = &self.raw.template;
        let bos = self.bos().map(|(token, _)| token);
        let tokens = template.control.iter().chain(&template.reserved).map(String::as_str).chain(bos);
        let mut text = Cow::Borrowed(text);
        for token in tokens {
            let first = token.chars().next().map_or(0, char::len_utf8);
            if token.len() > first && text.contains(token) {
                let broken = format!("{} {}", &token[..first], &token[first..]);
                text = Cow::Owned(text.replace(token, &broken));
            }
        }
        text
    }

    /// Joins pieces with texts.
    fn join(&self, pieces: &[Piece], texts: &[&str]) -> String {
        let mut joined = String::new();
        for piece in pieces {
            match piece {
                Piece::Control(index) => joined.push_str(&self.raw.template.control[*index]),
                Piece::Words(words) => joined.push_str(words),
                Piece::Text(index) => joined.push_str(&self.defused(texts[*index])),
            }
        }
        joined
    }
}

/// Measures a prompt as text, in bytes.
struct Text<'a> {
    spec: &'a GuardSpec,
}

impl Measure for Text<'_> {
    type Prompt = String;
    const UNIT: &'static str = "bytes";

    fn prompt(&self, roles: &[Role], texts: &[&str]) -> Result<(String, usize), String> {
        let pieces = self.spec.pieces(roles).map_err(|(_, problem)| problem)?;
        let is_bos = self.spec.bos().is_some_and(|(_, written)| written);
        let text = self.spec.join(&pieces[usize::from(is_bos)..], texts);
        let size = text.len();
        Ok((text, size))
    }

    fn text(&self, text: &str) -> Result<usize, String> {
        Ok(self.spec.defused(text).len())
    }

    fn part(&self, text: &str, units: usize, keep: Keep) -> Result<Range<usize>, String> {
        Ok(bytes(text, units, keep))
    }
}

/// Measures messages, in the bytes of their contents.
struct Messages<'a> {
    spec: &'a GuardSpec,
}

impl Measure for Messages<'_> {
    type Prompt = Vec<ChatMessage>;
    const UNIT: &'static str = "bytes";

    fn prompt(&self, roles: &[Role], texts: &[&str]) -> Result<(Vec<ChatMessage>, usize), String> {
        let spec = self.spec;
        let turn = |(role, text): (&Role, &&str)| ChatMessage {
            role: role.word().to_owned(),
            content: spec.defused(text).into_owned(),
        };
        let turns = || roles.iter().zip(texts).map(turn);
        let mut messages = Vec::new();
        if spec.chat() == Chat::Turns {
            messages.extend(turns());
        } else {
            for (role, content) in spec.messages(roles).map_err(|(_, problem)| problem)? {
                let pieces = spec.templates.split(&content)?;
                // A message that is a turn alone has the template's word for its role.
                match pieces.as_slice() {
                    [Piece::Text(index)] => messages.extend(turns().nth(*index)),
                    _ => messages.push(ChatMessage { role, content: spec.join(&pieces, texts) }),
                }
            }
        }
        let size = messages.iter().map(|message| message.content.len()).sum();
        Ok((messages, size))
    }

    fn text(&self, text: &str) -> Result<usize, String> {
        Ok(self.spec.defused(text).len())
    }

    fn part(&self, text: &str, units: usize, keep: Keep) -> Result<Range<usize>, String> {
        Ok(bytes(text, units, keep))
    }
}

/// The part of a text that has at most this many bytes.
fn bytes(text: &str, units: usize, keep: Keep) -> Range<usize> {
    match keep {
        Keep::Start => 0..text.floor_char_boundary(units.min(text.len())),
        Keep::End => text.ceil_char_boundary(text.len().saturating_sub(units))..text.len(),
    }
}

#[cfg(test)]
mod tests;
