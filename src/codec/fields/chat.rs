//! The layouts of chats: roles, content parts, tool calls and tool results, as OpenAI (chat completions and responses),
//! Anthropic and Gemini define them.

use crate::codec::tree::{Node, PointerError};
use crate::codec::wire::Symbols;
use crate::core::event::Role;

/// Returns the role for its name in these interfaces.
pub(in crate::codec) fn role(word: &str) -> Option<Role> {
    match word {
        "developer" => Some(Role::System),
        "function" => Some(Role::Tool),
        "model" | "critic" | "discriminator" => Some(Role::Assistant),
        other => Role::parse(other),
    }
}

/// Returns the text of a content, which is a text or a list of parts. The texts of parts are joined with line breaks. Parts
/// without a text, such as images and tool calls, are left out. Returns `Ok(None)` if the value is not a content.
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

/// The text of a part of a content.
enum Part {
    Text(String),
    /// The part has no text, such as an image.
    Nothing,
    /// The part has a field for its text with a value of another type.
    Unfit,
}

fn part_text(part: &Node<'_>) -> Result<Part, PointerError> {
    match part.field("text")? {
        Some(Node::Text(text)) => return Ok(Part::Text(text.to_string())),
        None | Some(Node::Null) => {}
        // In assistants' threads this is an object with the text and its annotations.
        Some(object @ Node::Object(_)) => {
            let value = object.field("value")?.and_then(Node::text);
            return Ok(value.map_or(Part::Unfit, |text| Part::Text(text.to_owned())));
        }
        Some(_) => return Ok(Part::Unfit),
    }
    if let Some(refusal) = part.field("refusal")?.and_then(Node::text) {
        return Ok(Part::Text(refusal.to_owned()));
    }
    // Tool results, search results and documents contain another content.
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

/// Returns `true` for a content of tool results only. Its turn is the tool's, whatever its role is.
pub(super) fn is_tool_result(content: &Node<'_>) -> bool {
    let result = |part: &Node<'_>| {
        let kind = part.field("type").ok().flatten().and_then(Node::text);
        kind.is_some_and(|kind| kind == "tool_result" || kind.ends_with("_tool_result"))
    };
    matches!(content, Node::List(parts) if !parts.is_empty() && parts.iter().all(result))
}

/// Fields of a message that replace its content.
const REPLACEMENTS: [&str; 3] = ["tool_calls", "function_call", "audio"];

/// Returns the text of a message without a content: its refusal, or an empty text if it is a tool call or audio. Returns
/// `Ok(None)` if no field explains that there is no content.
pub(super) fn text_without_content(message: &Node<'_>) -> Result<Option<String>, PointerError> {
    if let Some(refusal) = message.field("refusal")?.and_then(Node::text) {
        return Ok(Some(refusal.to_owned()));
    }
    for name in REPLACEMENTS {
        if message.field(name)?.is_some_and(|found| *found != Node::Null) {
            return Ok(Some(String::new()));
        }
    }
    Ok(None)
}

/// Items of OpenAI's responses that are neither messages nor tool calls nor tool results.
const ITEMS: [&str; 6] = [
    "reasoning",
    "item_reference",
    "compaction",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
];

/// Returns the role and the text of an item of OpenAI's responses that is not a message: a tool call is an empty turn of
/// the assistant, and a tool result is a turn of the tool. Returns `Ok(None)` for any other item.
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
    // A screenshot is an object and has no text.
    let text = output.map_or(Ok(None), text)?;
    Ok(Some((Role::Tool, text.unwrap_or_default())))
}
