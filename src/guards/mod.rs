//! Prompts of LLM guards, and what their answers mean.
//!
//! A guard family differs from another in its chat template, the words for roles, the policy text, the strings that mean
//! unsafe and safe, and the grammar of its answer. All of this is data: a [`GuardSpec`], parsed from a TOML file. The
//! bundled specs are compiled in (`experts/guards/*.toml`), and an expert's folder may hold its own.
//!
//! A conversation becomes a prompt in one of three forms:
//!
//! * token ids, by a [`GuardTokenizer`], for a model in this process;
//! * text, by [`GuardSpec::prompt_text`], for a server's completions API;
//! * messages, by [`GuardSpec::chat_messages`], for a chat API whose server has the model's template.
//!
//! The text of a turn never enters the template engine. Templates are rendered with a placeholder for each turn, the result
//! is split into control tokens, template words and placeholders, and only then texts are inserted. Control tokens are
//! inserted by id, so that a control token in a user's text is ordinary text.
//!
//! This module is pure: it neither reads files nor sends anything.

mod answer;
mod built_in;
mod chat;
mod error;
mod fit;
mod parse;
mod prefix;
mod raw;
mod runs;
mod spec;
mod template;
#[cfg(test)]
mod testing;
mod tokenizer;
mod validate;
mod verdict;

pub use answer::GuardAnswer;
pub use built_in::NAMES;
pub use chat::{ChatMessage, ChatPrompt, TextPrompt};
pub use error::{PromptError, SpecError};
pub use spec::{Category, Chat, GuardSpec};
pub use tokenizer::{GuardPrompt, GuardTokenizer};
pub use verdict::VerdictTokens;
