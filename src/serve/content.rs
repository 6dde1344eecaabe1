//! The messages of chat APIs: a role, and a text or parts.

use schemars::JsonSchema;
use serde::Deserialize;

use super::refusal::Refusal;
use crate::core::event::{Role, Turn};

/// A message of a chat.
#[derive(Deserialize, JsonSchema)]
pub struct Message {
    /// The speaker: user, assistant, system, developer, tool or function.
    pub role: String,
    /// The text. A message without one, such as a tool call, has nothing to judge: the arguments of calls are not read, as on
    /// the topics.
    #[serde(default)]
    pub content: Option<Content>,
}

/// A text, or a list of parts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Content {
    /// A text.
    Text(String),
    /// Parts, of which only texts are judged.
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Deserialize, JsonSchema)]
pub struct Part {
    /// The kind: `text`, `input_text` or `output_text`. Images are refused.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
}

/// Joins the texts of parts.
///
/// # Errors
/// Refuses images and other parts that no expert can read: leaving them out would be a silent "safe".
pub fn join(parts: Vec<Part>) -> Result<String, Refusal> {
    let text = |part: Part| match (part.kind.as_str(), part.text) {
        ("text" | "input_text" | "output_text", Some(text)) => Ok(text),
        ("image_url" | "image" | "input_image" | "image_file", _) => Err(Refusal::image()),
        _ => Err(Refusal::invalid(
            "content_not_supported",
            "a part is neither a text nor of a kind that can be judged: send texts alone",
        )),
    };
    Ok(parts.into_iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

impl Message {
    /// Returns the turn that this message is.
    ///
    /// # Errors
    /// Refuses an unknown role, and parts that no expert can read.
    pub fn turn(self) -> Result<Turn, Refusal> {
        let role = match self.role.as_str() {
            "user" | "human" => Role::User,
            "assistant" | "model" | "ai" => Role::Assistant,
            "system" | "developer" => Role::System,
            "tool" | "function" => Role::Tool,
            _ => {
                let known = "user, assistant, system, developer, tool or function";
                let message = format!("a message has an unknown role: use {known}");
                return Err(Refusal::invalid("unknown_role", message).of("messages"));
            }
        };
        let text = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => join(parts).map_err(|refusal| refusal.of("messages"))?,
        };
        Ok(Turn { role, text })
    }
}

/// Returns the turns of messages.
///
/// # Errors
/// Refuses an empty list, and the messages that [`Message::turn`] refuses.
pub fn turns(messages: Vec<Message>) -> Result<Vec<Turn>, Refusal> {
    if messages.is_empty() {
        return Err(Refusal::invalid("empty", "there are no messages to judge").of("messages"));
    }
    messages.into_iter().map(Message::turn).collect()
}
