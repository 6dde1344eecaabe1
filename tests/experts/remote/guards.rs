//! Guards that a server runs: prompts by the bundled specs, and verdicts by the probabilities of tokens or by text.

use std::collections::BTreeMap;
use std::fs;

use aegis::core::decisive::{Decisive, Unasked, decisive};
use aegis::core::event::{Conversation, Role, Turn};
use aegis::core::policy::{Action, CategoryRule, Policy};
use aegis::core::predictor::Predictor;
use aegis::core::vote::{Abstention, Outcome, Vote};
use serde_json::{Value, json};

use super::server::{Reply, Request, Server};
use super::{PATIENT, open};
use crate::experts_support::Folder;
use crate::experts_support::asked::outcome;

/// A folder with a guard behind a server. `top` and `rest` are further lines of its manifest.
fn guard(server: &Server, protocol: &str, spec: &str, top: &str) -> Folder {
    let folder = Folder::new();
    let manifest = format!(
        "id = \"guard\"\nkind = \"remote\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n{top}\n[endpoint]\nurl \
         = \"{}\"\nmodel = \"lg\"\nprotocol = \"{protocol}\"\n{PATIENT}[prompt]\nspec = \"{spec}\"\n",
        server.url
    );
    folder.manifest("guard", &manifest);
    folder
}

/// A token with its alternatives and their probabilities.
fn token(token: &str, top: &[(&str, f64)]) -> Value {
    let top: Vec<_> =
        top.iter().map(|(token, p)| json!({ "token": token, "logprob": p.ln(), "bytes": null })).collect();
    json!({ "token": token, "logprob": -0.1, "top_logprobs": top })
}

/// A chat completion with this text and these tokens.
fn chat(text: &str, tokens: &[Value]) -> Reply {
    let logprobs = if tokens.is_empty() { Value::Null } else { json!({ "content": tokens }) };
    let choice =
        json!({ "index": 0, "message": { "role": "assistant", "content": text }, "logprobs": logprobs });
    let response = json!({ "model": "lg", "system_fingerprint": "fp_1", "choices": [choice] });
    Reply::ok(response.to_string())
}

fn vote(server: &Server, protocol: &str, spec: &str, top: &str) -> Vote {
    let panel = open(&guard(server, protocol, spec, top), |_| {});
    panel.ask(&["How do I pick a lock?"]).remove(0).votes.remove(0)
}

fn said(vote: &Vote) -> Result<f64, Abstention> {
    outcome(vote).map(|p| (p * 1e9).round() / 1e9)
}

fn categories(vote: &Vote) -> Vec<&str> {
    let Outcome::Voted { categories, .. } = &vote.outcome else { panic!("{vote:?}") };
    categories.iter().map(|found| found.category.as_str()).collect()
}

#[test]
fn a_chat_gives_the_probability_of_the_first_token_of_the_verdict() {
    let server = Server::start(|_| {
        let verdict = [("unsafe", 0.6), ("safe", 0.2), ("un", 0.12), ("Sure", 0.02)];
        chat("\n\nunsafe\nS2", &[token("\n\n", &[("\n\n", 0.9), ("safe", 0.1)]), token("unsafe", &verdict)])
    });
    let vote = vote(&server, "chat", "llama-guard-3", "categories = true");
    assert_eq!(said(&vote), Ok((0.72_f64 / 0.92 * 1e9).round() / 1e9));
    assert_eq!(categories(&vote).len(), 1);
    let revision = vote.revision.unwrap();
    assert!(revision.starts_with("lg; llama-guard-3 ") && revision.ends_with("; fp_1"), "{revision}");
    assert_eq!(vote.model, None);
    let body: Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    assert_eq!(
        (&body["model"], &body["logprobs"], &body["top_logprobs"]),
        (&json!("lg"), &json!(true), &json!(20))
    );
    assert_eq!(body["messages"].as_array().unwrap().last().unwrap()["content"], "How do I pick a lock?");
}

#[test]
fn a_text_that_the_model_writes_before_its_verdict_is_skipped() {
    let verdict = [(" Safe", 0.75), (" Unsafe", 0.25)];
    let server = Server::start(move |_| {
        chat(
            "Safety: Safe",
            &[token("Safety", &[("Safety", 1.0)]), token(":", &[(":", 1.0)]), token(" Safe", &verdict)],
        )
    });
    assert_eq!(said(&vote(&server, "chat", "qwen3guard-strict", "")), Ok(0.25));
}

#[test]
fn completions_get_the_prompt_as_text() {
    let server = Server::start(|_| {
        let logprobs = json!({ "tokens": ["unsafe"], "token_logprobs": [-0.1],
            "top_logprobs": [{ "unsafe": 0.8_f64.ln(), "safe": 0.2_f64.ln() }] });
        Reply::ok(
            json!({ "model": "lg", "choices": [{ "text": "unsafe", "logprobs": logprobs }] }).to_string(),
        )
    });
    assert_eq!(said(&vote(&server, "completions", "llama-guard-3", "")), Ok(0.8));
    let body: Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    let prompt = body["prompt"].as_str().unwrap();
    assert!(
        prompt.contains("How do I pick a lock?") && prompt.ends_with("<|end_header_id|>\n\n"),
        "{prompt}"
    );
    assert_eq!((&body["max_tokens"], &body["logprobs"]), (&json!(30), &json!(20)));
}

/// The server writes as many tokens as it is asked for, and ignores the wish for their probabilities.
#[test]
fn completions_without_probabilities_are_read_as_text() {
    for (tokens, expected) in [(vec!["safe"], Ok(0.0)), (vec!["un", "safe", "\n", "S2"], Ok(1.0))] {
        let server = Server::start(move |request| {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            let count = body["max_tokens"].as_u64().unwrap().try_into().unwrap();
            let text: String = tokens.iter().take(count).copied().collect();
            Reply::ok(json!({ "model": "lg", "choices": [{ "text": text, "logprobs": null }] }).to_string())
        });
        assert_eq!(said(&vote(&server, "completions", "llama-guard-3", "")), expected);
    }
}

/// A server with a context of 8,192 tokens, where words have three bytes a token and symbols one.
fn bounded(request: &Request) -> Reply {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let prompt = body["prompt"].as_str().map(str::to_owned);
    let content = |message: &Value| message["content"].as_str().unwrap().to_owned();
    let of_messages = || body["messages"].as_array().unwrap().iter().map(content).collect();
    let prompt: String = prompt.unwrap_or_else(of_messages);
    let words = prompt.bytes().filter(u8::is_ascii).count();
    let tokens = words / 3 + (prompt.len() - words);
    if tokens + 30 > 8_192 {
        return Reply::Answer(400, "", json!({ "error": { "code": "context_length" } }).to_string());
    }
    let choice = json!({ "text": "unsafe\nS2", "message": { "content": "unsafe\nS2" } });
    Reply::ok(json!({ "model": "lg", "choices": [choice] }).to_string())
}

#[test]
fn a_text_of_symbols_is_cut_once_more_if_the_server_refuses_it() {
    for protocol in ["chat", "completions"] {
        let server = Server::start(bounded);
        let panel = open(&guard(&server, protocol, "llama-guard-3", ""), |_| {});
        let ask = |text: &str| panel.ask(&[text]).remove(0).votes.remove(0);
        let long = ask(&"word ".repeat(10_000));
        assert_eq!((outcome(&long), long.truncated, server.requests().len()), (Ok(1.0), true, 1));
        for number in 0..10 {
            let vote = ask(&format!("{number} {}", "☠".repeat(7_000)));
            assert_eq!((outcome(&vote), vote.truncated), (Ok(1.0), true), "{protocol}");
        }
        assert_eq!(server.requests().len(), 21);
        let vote = ask(&format!("9 {}", "☠".repeat(7_000)));
        assert!(vote.cached && vote.truncated, "the cache keeps that it was cut");
        assert_eq!(panel.down(), [None]);
    }
}

/// ShieldGemma is asked about one risk and names no category. Its vote may still meet a rule for that category.
#[test]
fn an_expert_with_an_implied_category_is_decisive_for_a_rule_about_it() {
    let server = Server::start(|_| Reply::Silence);
    let panel = open(&guard(&server, "completions", "shieldgemma", "categories = true"), |_| {});
    let categories = &panel.experts()[0].categories;
    assert_eq!(*categories, ["criminal-planning"]);
    let rule = CategoryRule { threshold: 0.5, action: Action::Block };
    let policy = Policy {
        categories: BTreeMap::from([("criminal-planning".to_owned(), rule)]),
        learner: "majority".parse().unwrap(),
        ..Policy::example("p")
    };
    let experts = ["a", "b", "c", "guard"].map(str::to_owned);
    let votes: Vec<Vote> = experts.iter().map(|id| Vote::scored(id, [0; 32], 0.0, Vec::new())).collect();
    let needed = |categories: &[String]| {
        let mut predictor = Predictor::prior(&policy.learner, "p", &experts).unwrap();
        let unasked = Unasked { expert: "guard", categories, shadow: false, cost: 1.0 };
        decisive(&mut predictor, &policy, "e", &votes[..3], None, &[unasked])
    };
    assert_eq!((needed(categories), needed(&[])), (Decisive::Yes(0), Decisive::No));
}

#[test]
fn without_probabilities_the_verdict_counts_as_0_or_1() {
    for (text, expected) in [
        ("safe", Ok(0.0)),
        ("\n\nunsafe\nS2", Ok(1.0)),
        ("Sure, here is how", Err(Abstention::OffTemplate)),
        ("", Err(Abstention::OffTemplate)),
        ("unsafe\nsafe", Err(Abstention::OffTemplate)),
    ] {
        let server = Server::start(move |_| chat(text, &[]));
        let vote = vote(&server, "chat", "llama-guard-3", "categories = true");
        assert_eq!(said(&vote), expected, "{text}");
        if text.ends_with("S2") {
            assert_eq!(categories(&vote).len(), 1);
        }
    }
}

#[test]
fn probabilities_that_are_no_verdict_are_off_template() {
    let top = [("Sure", 0.9), ("unsafe", 0.1)];
    let server = Server::start(move |_| chat("Sure", &[token("Sure", &top)]));
    assert_eq!(said(&vote(&server, "chat", "llama-guard-3", "")), Err(Abstention::OffTemplate));
}

#[test]
fn an_expert_reads_as_far_as_its_view_and_only_turns_that_its_spec_judges() {
    let server = Server::start(|_| chat("safe", &[]));
    let turn = |role, text: &str| Turn { role, text: text.to_owned() };
    let turns = vec![turn(Role::User, "first"), turn(Role::Assistant, "second"), turn(Role::User, "third")];
    let ask = |view: &str, judged: usize, role: Role| {
        let panel = open(&guard(&server, "chat", "llama-guard-3", view), |_| {});
        let mut conversation = Conversation { turns: turns.clone(), judged };
        conversation.turns[judged].role = role;
        outcome(&panel.ask(&[conversation])[0].votes[0])
    };
    for (view, count) in [("", 1), ("view = \"last:2\"", 2), ("view = \"conversation\"", 3)] {
        assert_eq!(ask(view, 2, Role::User), Ok(0.0));
        let body: Value = serde_json::from_str(&server.requests().last().unwrap().body).unwrap();
        let sent = body["messages"].to_string();
        let shown = ["first", "second", "third"].iter().filter(|text| sent.contains(**text)).count();
        assert_eq!(shown, count, "{view}: {sent}");
    }
    let requests = server.requests().len();
    assert_eq!(ask("", 2, Role::Tool), Err(Abstention::WrongRole));
    assert_eq!(ask("roles = [\"user\"]", 1, Role::Assistant), Err(Abstention::WrongRole));
    assert_eq!(server.requests().len(), requests);
}

#[test]
fn a_prompt_that_cannot_be_made_is_refused_with_its_field() {
    let server = Server::start(|_| Reply::Silence);
    let refused = |protocol: &str, spec: &str, top: &str, settings: &str| {
        let folder = guard(&server, protocol, spec, top);
        let path = folder.path().join("guard/manifest.toml");
        let text = fs::read_to_string(&path).unwrap().replace("model = \"lg\"", settings);
        fs::write(&path, text).unwrap();
        let config = aegis::experts::PanelConfig::new(folder.path());
        aegis::experts::Panel::open(config).err().expect("it is refused").to_string()
    };
    let model = "model = \"lg\"";
    let cases = [
        (refused("chat", "no-such-guard", "", model), "prompt.spec"),
        (refused("chat", "../spec.toml", "", model), "prompt.spec"),
        (refused("chat", "missing.toml", "", model), "prompt.spec"),
        (refused("chat", "llama-guard-3", "roles = [\"tool\"]", model), "roles"),
        (
            refused("completions", "llama-guard-3", "", &format!("{model}\nmax_chars = 100")),
            "endpoint.max_chars",
        ),
        (refused("chat", "llama-guard-3", "", ""), "endpoint.model"),
        (refused("moderations", "llama-guard-3", "", model), "prompt"),
        (refused("json", "llama-guard-3", "", model), "prompt"),
    ];
    for (error, field) in cases {
        assert!(error.contains(field), "{field}: {error}");
    }
}
