//! The endpoints: each answers the request that its documentation shows.

use serde_json::{Value, json};

use crate::world::{World, send};

/// The experts of these tests vote .9 and .2 on the word "kill", and .1 on anything else.
const HARM: &str = "I will kill you";

#[test]
fn openais_requests_are_answered_with_all_fields() {
    let world = World::start();
    let one = world.post("/v1/moderations", &json!({ "model": "omni-moderation-latest", "input": HARM }));
    assert_eq!(one.status, 200, "{}", one.body);
    assert!(one.body["id"].as_str().unwrap().starts_with("modr-"));
    assert_eq!(one.body["model"], "aegis-default");
    let result = &one.body["results"][0];
    assert_eq!(result["flagged"], true);
    assert_eq!(result["categories"]["violence"], true);
    assert_eq!(result["category_scores"]["violence"], 0.9);
    assert_eq!(result["category_applied_input_types"]["violence"], json!(["text"]));
    assert_eq!(result["categories"]["hate"], false);
    assert_eq!(result["category_applied_input_types"]["hate"], json!([]));
    assert_eq!(result["aegis"]["action"], "block");
    let names: Vec<_> = result["categories"].as_object().unwrap().keys().cloned().collect();
    for field in ["category_scores", "category_applied_input_types"] {
        assert_eq!(result[field].as_object().unwrap().keys().cloned().collect::<Vec<_>>(), names);
    }
    assert_eq!(names.len(), 13, "{names:?}");

    let several = world.post("/v1/moderations", &json!({ "input": ["hello", HARM, ""] }));
    let flagged: Vec<_> =
        several.body["results"].as_array().unwrap().iter().map(|one| &one["flagged"]).collect();
    assert_eq!(flagged, [&json!(false), &json!(true), &json!(false)]);

    let parts = json!({ "input": [{ "type": "text", "text": "hello" }, { "type": "text", "text": HARM }] });
    let parts = world.post("/v1/moderations", &parts);
    assert_eq!(parts.body["results"].as_array().map(Vec::len), Some(1), "parts are one text");
    assert_eq!(parts.body["results"][0]["flagged"], true);
}

#[test]
fn a_text_that_passes_has_no_category() {
    // One expert votes .9, both together .55: below a threshold of .8.
    let mut policies = aegis::config::Policies::default();
    policies.policies.get_mut("default").unwrap().cost_false_positive = 4.0;
    let world = World::under(policies, |_| {});
    let result = &world.post("/v1/moderations", &json!({ "input": HARM })).body["results"][0];
    assert_eq!((&result["flagged"], &result["aegis"]["threshold"]), (&json!(false), &json!(0.8)));
    assert_eq!(result["category_scores"]["violence"], 0.9);
    assert_eq!(result["categories"]["violence"], false);
}

#[test]
fn images_and_what_cannot_be_read_are_refused_in_openais_shape() {
    let world = World::start();
    let image = json!({ "input": [
        { "type": "text", "text": "hello" },
        { "type": "image_url", "image_url": { "url": "https://example.com/a.png" } },
    ] });
    let refused = world.post("/v1/moderations", &image);
    assert_eq!((refused.status, refused.code()), (400, "image_not_supported"));
    assert_eq!(refused.body["error"]["type"], "invalid_request_error");
    assert_eq!(refused.body["error"]["param"], "input");
    for (body, code) in [
        (json!({ "input": [] }), "empty"),
        (json!({ "input": 7 }), "invalid_body"),
        (json!({ "texts": "hello" }), "invalid_body"),
        (json!({ "input": [{ "type": "audio", "audio": "x" }] }), "content_not_supported"),
        (json!({ "input": vec!["a"; 65] }), "too_many_texts"),
    ] {
        let refused = world.post("/v1/moderations", &body);
        assert_eq!((refused.status, refused.code()), (400, code));
        assert!(refused.body["error"]["message"].is_string());
    }
    let json = ["content-type: application/json"];
    let secret = send(&world.address, "POST", "/v1/moderations", &json, r#"{"input": "secret", 7}"#);
    assert_eq!((secret.status, secret.code()), (400, "invalid_body"));
    let secret = send(&world.address, "POST", "/v1/moderations", &json, r#"{"input": {"secret": "words"}}"#);
    assert!(!secret.body.to_string().contains("secret"), "no refusal quotes the body: {}", secret.body);
}

#[test]
fn an_event_of_aegis_is_answered_with_the_whole_decision() {
    let world = World::start();
    let event = json!({
        "id": "e1", "conversation": "c1", "subject": "u1", "time": 1_700_000_000_000_u64,
        "turns": [{ "role": "user", "text": "hello" }, { "role": "user", "text": HARM }],
    });
    let decision = world.post("/v1/decisions", &event).body;
    assert_eq!((&decision["event_id"], &decision["conversation"]), (&json!("e1"), &json!("c1")));
    assert_eq!((&decision["action"], &decision["tenant"]), (&json!("block"), &json!("t")));
    assert_eq!(decision["round_time"], 1_700_000_000_000_u64);
    assert_eq!(decision["votes"].as_array().map(Vec::len), Some(2));
    let unnamed = world.post("/v1/decisions", &json!({ "text": "hello" }));
    assert!(unnamed.body["event_id"].as_str().unwrap().starts_with("http-"), "{}", unnamed.body);
    for (body, code) in [
        (json!({ "id": "e1" }), "invalid_event"),
        (json!({ "id": "e1", "text": "x", "policy": "absent" }), "unknown_policy"),
        (json!({ "id": "x".repeat(300), "text": "x" }), "invalid_event"),
        (json!([]), "invalid_body"),
    ] {
        let refused = world.post("/v1/decisions", &body);
        assert_eq!((refused.status, refused.code()), (400, code), "{}", refused.body);
    }
}

/// The request of "Generic Guardrail API" in LiteLLM's documentation, with the texts of this test.
#[test]
fn litellms_generic_guardrail_is_answered() {
    let world = World::start();
    let request = |texts: &[&str], input_type: &str| {
        json!({
            "texts": texts,
            "images": [],
            "tools": [{ "type": "function", "function": { "name": "get_weather", "parameters": {} } }],
            "request_data": {
                "user_api_key_hash": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
                "user_api_key_user_id": "default_user_id",
                "user_api_key_end_user_id": "end-user-7",
                "user_api_key_team_id": "team-1",
            },
            "input_type": input_type,
            "litellm_call_id": "call-1",
            "litellm_trace_id": "trace-1",
            "additional_provider_specific_params": { "threshold": 0.8 },
        })
    };
    let path = "/beta/litellm_basic_guardrail_api";
    let passed = world.post(path, &request(&["hello", "how are you"], "request"));
    assert_eq!((passed.status, passed.body), (200, json!({ "action": "NONE" })));
    let blocked = world.post(path, &request(&["hello", HARM], "response"));
    assert_eq!(blocked.body["action"], "BLOCKED");
    let reason = blocked.body["blocked_reason"].as_str().unwrap();
    assert!(reason.starts_with("policy default: block") && !reason.contains("kill"), "{reason}");
    assert_eq!(world.post(path, &request(&[], "request")).body, json!({ "action": "NONE" }));
    let mut image = request(&["hello"], "request");
    image["images"] = json!(["data:image/png;base64,AAAA"]);
    assert_eq!(world.post(path, &image).code(), "image_not_supported");
    assert_eq!(world.post(path, &request(&["hello"], "other")).code(), "invalid_body");
}

/// The requests of agentgateway's "Guardrail webhook guide" and "Webhook API reference".
#[test]
fn agentgateways_webhook_is_answered() {
    let world = World::start();
    let prompt = |text: &str| {
        json!({ "body": { "messages": [
            { "role": "system", "content": "You are a skilled developer." },
            { "role": "user", "content": text },
        ] } })
    };
    let passed = world.post("/request", &prompt("hello"));
    assert_eq!(passed.status, 200, "{}", passed.body);
    let action = passed.body["action"].as_object().unwrap();
    assert_eq!(action.keys().collect::<Vec<_>>(), ["reason"], "with a reason alone it passes");
    let rejected = world.post("/request", &prompt(HARM)).body;
    assert_eq!(rejected["action"]["status_code"], 403);
    assert!(rejected["action"]["body"].is_string() && rejected["action"]["reason"].is_string());
    // The author of a prompt can add messages after a harmful one.
    let user = |text: &str| json!({ "role": "user", "content": text });
    let assistant = |content: Value| json!({ "role": "assistant", "content": content });
    let call = json!({ "role": "assistant", "content": null, "tool_calls": [
        { "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } },
    ] });
    let instruction = json!({ "role": "system", "content": HARM });
    for messages in [
        vec![user(HARM), assistant(json!(""))],
        vec![user(HARM), assistant(json!(null))],
        vec![user(HARM), json!({ "role": "assistant" })],
        vec![user(HARM), call],
        vec![user(HARM), user("hello")],
        vec![user(HARM), assistant(json!("hello")), user("hello")],
        vec![user("hello"), assistant(json!(HARM)), user("hello")],
        vec![user(HARM), json!({ "role": "system", "content": "Be kind." })],
        vec![instruction.clone(), user(" ")],
        vec![instruction],
    ] {
        let rejected = world.post("/request", &json!({ "body": { "messages": messages } })).body;
        assert_eq!(rejected["action"]["status_code"], 403, "{messages:?}");
    }
    let many = json!({ "body": { "messages": vec![user("hello"); 65] } });
    assert_eq!(world.post("/request", &many).code(), "too_many_texts");
    let answer = |text: &str| {
        let choice = |text: &str| json!({ "message": { "role": "assistant", "content": text } });
        json!({ "body": { "choices": [choice("hello"), choice(text)] } })
    };
    assert!(world.post("/response", &answer("fine")).body["action"].get("status_code").is_none());
    assert_eq!(world.post("/response", &answer(HARM)).body["action"]["status_code"], 403);
    let unknown = json!({ "body": { "messages": [{ "role": "narrator", "content": "hello" }] } });
    assert_eq!(world.post("/request", &unknown).code(), "unknown_role");
}

/// The request of "Running Checks with Guardrails" in NeMo's documentation.
#[test]
fn nemos_checks_are_answered() {
    let world = World::start();
    let request = |answer: &str| {
        json!({
            "model": "meta/llama-3.3-70b-instruct",
            "messages": [
                { "role": "system", "content": "You are helpful." },
                { "role": "user", "content": "Tell me how to collect a life insurance policy." },
                { "role": "assistant", "content": answer },
            ],
            "guardrails": { "config_id": "demo-self-check-input-output" },
        })
    };
    for path in ["/v1/checks", "/v1/guardrail/checks"] {
        let passed = world.post(path, &request("Call the insurer.")).body;
        assert_eq!(passed["status"], "success");
        let blocked = world.post(path, &request(HARM)).body;
        assert_eq!(blocked["status"], "blocked");
        assert_eq!(blocked["rails_status"]["aegis check input"]["status"], "success");
        assert_eq!(blocked["rails_status"]["aegis check output"]["status"], "blocked");
        assert_eq!(blocked["messages"][1]["index"], 2);
        assert_eq!(blocked["messages"][1]["rails"]["aegis check output"]["status"], "blocked");
        assert_eq!(blocked["guardrails_data"]["log"]["activated_rails"], json!(["aegis check output"]));
    }
}
