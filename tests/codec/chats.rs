//! Chats in the layouts of OpenAI, Anthropic and Gemini, read by the pointers of `[event_fields]`.

use aegis::core::event::Event;
use serde_json::json;

use crate::mapped::{fields, read, refused};

/// Returns the turns of a conversation, each as `role: text`.
fn turns(event: &Event) -> Vec<String> {
    event.turns.iter().map(|turn| format!("{}: {}", turn.role.word(), turn.text)).collect()
}

#[test]
fn chats_of_openai_are_read_with_their_tool_calls() {
    let chat = fields("turns = \"/messages\"\nid = \"/id\"");
    let call =
        json!([{"id": "t1", "type": "function", "function": {"name": "w", "arguments": "{\"hunter2\":1}"}}]);
    let found = read(
        json!({"id": "c1", "messages": [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}},
                                         {"type": "input_audio", "input_audio": {"data": ""}}]},
            {"role": "assistant", "tool_calls": call},
            {"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "7 degrees"}]},
            {"role": "assistant", "content": null, "function_call": {"name": "w", "arguments": "{}"}},
            {"role": "function", "name": "w", "content": "8 degrees"},
            {"role": "assistant", "refusal": "I will not", "content": null},
            {"role": "assistant", "audio": {"id": "a"}},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "user", "content": "You are useless"}]})
        .to_string(),
        &chat,
    )
    .unwrap();
    assert_eq!(
        turns(&found),
        [
            "system: be kind",
            "user: look",
            "assistant: ",
            "tool: 7 degrees",
            "assistant: ",
            "tool: 8 degrees",
            "assistant: I will not",
            "assistant: ",
            "assistant: no",
            "user: You are useless",
        ]
    );
    assert_eq!(found.judged_text(), "You are useless");
    // A record without anything to judge is valid.
    for last in [
        json!({"role": "assistant", "content": null, "tool_calls": call}),
        json!({"role": "assistant", "content": "", "tool_calls": call}),
        json!({"role": "assistant", "content": [], "tool_calls": call}),
        json!({"role": "assistant", "content": null}),
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "hunter2"}}]}),
    ] {
        let found = read(
            json!({"id": "t9", "messages": [{"role": "user", "content": "a"}, last]}).to_string(),
            &chat,
        );
        let found = found.unwrap();
        assert_eq!((found.judged, found.judged_text()), (1, ""), "{last}");
    }
    // If no field explains that a message has no content, the producer or the pointer is wrong.
    for odd in [
        json!({"role": "user"}),
        json!({"role": "assistant", "tool_calls": null}),
        json!({"type": "human", "text": "a"}),
    ] {
        let json = json!({"id": "t9", "messages": [odd]}).to_string();
        assert_eq!(refused(json, &chat), "MissingField turn_text /messages/0/content");
    }
    let unknown = json!({"id": "t9", "messages": [{"role": "narrator", "content": "a"}]}).to_string();
    assert_eq!(refused(unknown, &chat), "BadValue turn_role /messages/0/role");
}

#[test]
fn responses_of_openai_are_read_item_by_item() {
    let responses = fields("turns = \"/input\"");
    let found = read(
        json!({"input": [
            {"role": "user", "content": [{"type": "input_text", "text": "weather?"}, {"type": "input_image", "image_url": "x"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hunter2"}]},
            {"type": "function_call", "call_id": "t1", "name": "w", "arguments": "{\"hunter2\":1}"},
            {"type": "function_call_output", "call_id": "t1", "output": "7 degrees"},
            {"type": "computer_call_output", "call_id": "t2", "output": {"type": "computer_screenshot"}},
            {"type": "custom_tool_call_output", "call_id": "t3", "output": [{"type": "input_text", "text": "8"}]},
            {"type": "mcp_call", "name": "w", "arguments": "{}", "output": "9 degrees"},
            {"type": "item_reference", "id": "m1"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "warm", "annotations": []}]},
            {"type": "message", "role": "unknown", "content": "hm"}]})
        .to_string(),
        &responses,
    )
    .unwrap();
    assert_eq!(
        turns(&found),
        [
            "user: weather?",
            "assistant: ",
            "assistant: ",
            "tool: 7 degrees",
            "tool: ",
            "tool: 8",
            "tool: 9 degrees",
            "assistant: ",
            "assistant: warm",
            "user: hm",
        ]
    );
}

#[test]
fn messages_of_anthropic_and_gemini_are_read_with_their_parts() {
    let anthropic = fields("turns = \"/messages\"");
    let found = read(
        json!({"messages": [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hunter2", "signature": "s"},
                {"type": "text", "text": "I look"}, {"type": "tool_use", "id": "t1", "name": "w", "input": {"text": "hunter2"}},
                {"type": "server_tool_use", "id": "t2", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "t2", "content": [{"type": "web_search_result", "url": "u"}]}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "7 degrees"},
                {"type": "tool_result", "tool_use_id": "t3", "is_error": true},
                {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "8"}, {"type": "image", "source": {"type": "base64", "data": "x"}}]}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t4", "content": "9"}, {"type": "text", "text": "and?"},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a page"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "hunter2"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a block"}]}}]}]})
        .to_string(),
        &anthropic,
    )
    .unwrap();
    assert_eq!(
        turns(&found),
        ["user: weather?", "assistant: I look", "tool: 7 degrees\n8", "user: 9\nand?\na page\na block"]
    );
    let gemini = fields("turns = \"/contents\"\nturn_text = \"/parts\"");
    let found = read(
        json!({"contents": [{"role": "user", "parts": [{"text": "hi"}, {"inlineData": {"data": "x"}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "w", "args": {}}}]},
            {"role": "function", "parts": [{"functionResponse": {"name": "w", "response": {}}}]},
            {"role": "model", "parts": [{"text": "warm"}]}]})
        .to_string(),
        &gemini,
    )
    .unwrap();
    assert_eq!(turns(&found), ["user: hi", "assistant: ", "tool: ", "assistant: warm"]);
    // A thread's message has its text in an object.
    let thread = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": {"value": "hi", "annotations": []}}]}]});
    assert_eq!(read(thread.to_string(), &anthropic).unwrap().judged_text(), "hi");
}

#[test]
fn words_for_roles_may_be_numbers_and_booleans() {
    let defaults = fields(
        "turns = \"/m\"\nturn_role = \"/bot\"\nturn_text = \"/t\"\nroles = { true = \"assistant\", 0 = \"user\", tool = \"system\" }",
    );
    let found = read(
        r#"{"m":[{"bot":true,"t":"a"},{"bot":0.0,"t":"b"},{"bot":"tool","t":"c"},{"bot":"true","t":"d"}]}"#,
        &defaults,
    );
    assert_eq!(turns(&found.unwrap()), ["assistant: a", "user: b", "system: c", "assistant: d"]);
    assert_eq!(refused(r#"{"m":[{"bot":false,"t":"a"}]}"#, &defaults), "BadValue turn_role /m/0/bot");
}
