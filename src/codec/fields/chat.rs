//! The layouts of chats: roles, content parts, tool calls and tool results as OpenAI (chat completions and responses),
//! Anthropic and Gemini define them.

use crate::codec::tree::{Node, PointerError};
use crate::codec::wire::Symbols;
use crate::core::event::Role;

/// The role that a word of these interfaces names.
pub(in crate::codec) fn role(word: &str) -> Option<Role> {
    match word {
        "developer" => Some(Role::System),
        "function" => Some(Role::Tool),
        "model" | "critic" | "discriminator" => Some(Role::Assistant),
        other => Role::parse(other),
    }
}

/// The text of a content: it is a text, or the texts of a list of parts, one to a line.
///
/// A part without a text, such as an image or a tool call, gives none. `Ok(None)`: this is not a content.
pub(super) fn text(content: &Node<'_>) -> Result<Option<String>, PointerError> {
    let parts = match content {
        Node::Null => return Ok(Some(String::new())),
        Node::Text(text) => return Ok(Some(text.to_string())),
        Node::List(parts) => parts,
        _ => return Ok(None),
    };
    let mut texts = Vec::new();
    for part in parts {
        match part {
            Node::Text(text) => texts.push(text.to_string()),
            Node::Object(_) => match part_text(part)? {
                Part::Text(text) => texts.push(text),
                Part::Nothing => {}
                Part::Unfit => return Ok(None),
            },
            _ => return Ok(None),
        }
    }
    Ok(Some(texts.join("\n")))
}

/// What a part of a content gives.
enum Part {
    Text(String),
    /// No text, as an image.
    Nothing,
    /// It has a text that is none.
    Unfit,
}

fn part_text(part: &Node<'_>) -> Result<Part, PointerError> {
    match part.field("text")? {
        Some(Node::Text(text)) => return Ok(Part::Text(text.to_string())),
        None | Some(Node::Null) => {}
        // The assistants' threads have an object with the text and its annotations.
        Some(object @ Node::Object(_)) => {
            let value = object.field("value")?.and_then(Node::text);
            return Ok(value.map_or(Part::Unfit, |text| Part::Text(text.to_owned())));
        }
        Some(_) => return Ok(Part::Unfit),
    }
    if let Some(refusal) = part.field("refusal")?.and_then(Node::text) {
        return Ok(Part::Text(refusal.to_owned()));
    }
    // Results of tools, search results and documents have a content of their own.
    let source = part.field("source")?;
    let content = match part.field("content")? {
        None => source.map_or(Ok(None), |source| source.field("content"))?,
        found => found,
    };
    if let Some(found @ (Node::Text(_) | Node::List(_))) = content {
        return Ok(text(found)?.filter(|text| !text.is_empty()).map_or(Part::Nothing, Part::Text));
    }
    if let Some(source) = source
        && source.field("type")?.is_some_and(|kind| kind.means("text"))
        && let Some(data) = source.field("data")?.and_then(Node::text)
    {
        return Ok(Part::Text(data.to_owned()));
    }
    Ok(Part::Nothing)
}

/// Returns `true` for a content that holds nothing but results of tools: then a tool speaks, whatever the turn's role.
pub(super) fn only_results(content: &Node<'_>) -> bool {
    let result = |part: &Node<'_>| {
        let kind = part.field("type").ok().flatten().and_then(Node::text);
        kind.is_some_and(|kind| kind == "tool_result" || kind.ends_with("_tool_result"))
    };
    matches!(content, Node::List(parts) if !parts.is_empty() && parts.iter().all(result))
}

/// Fields of a message that stand where its content would be.
const INSTEAD: [&str; 3] = ["tool_calls", "function_call", "audio"];

/// The text of a message without a content: what it refuses with, or nothing where it calls a tool or speaks.
/// `Ok(None)`: nothing explains why there is no content.
pub(super) fn instead(message: &Node<'_>) -> Result<Option<String>, PointerError> {
    if let Some(refusal) = message.field("refusal")?.and_then(Node::text) {
        return Ok(Some(refusal.to_owned()));
    }
    for name in INSTEAD {
        if message.field(name)?.is_some_and(|found| *found != Node::Null) {
            return Ok(Some(String::new()));
        }
    }
    Ok(None)
}

/// Items of OpenAI's responses that are neither a message nor a call of a tool nor its result.
const ITEMS: [&str; 6] = [
    "reasoning",
    "item_reference",
    "compaction",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
];

/// An item of a conversation that is not a message, as OpenAI's responses have it: a call of a tool is an empty turn of
/// the assistant, and what a tool returned is a turn of the tool. `Ok(None)`: it is not such an item.
pub(super) fn item(item: &Node<'_>) -> Result<Option<(Role, String)>, PointerError> {
    let Some(kind) = item.field("type")?.and_then(Node::text) else { return Ok(None) };
    let known = kind.ends_with("_call") || kind.ends_with("_call_output") || ITEMS.contains(&kind);
    if !known {
        return Ok(None);
    }
    let output = item.field("output")?.filter(|found| **found != Node::Null);
    if output.is_none() && !kind.ends_with("_output") {
        return Ok(Some((Role::Assistant, String::new())));
    }
    // A picture of a screen is an object, and has no text.
    let said = output.map_or(Ok(None), text)?;
    Ok(Some((Role::Tool, said.unwrap_or_default())))
}
