use super::*;
use crate::core::event::Turn;
use crate::guards::NAMES;

fn turn(role: Role, text: &str) -> Turn {
    Turn { role, text: text.to_owned() }
}

/// A question, and a judged answer with this text.
fn answered(text: &str) -> Conversation {
    Conversation { turns: vec![turn(Role::User, "Why?"), turn(Role::Assistant, text)], judged: 1 }
}

#[test]
fn control_tokens_in_a_text_are_broken_for_servers() {
    for name in NAMES {
        let spec = GuardSpec::built_in(name).unwrap();
        let template = &spec.raw.template;
        let tokens = || template.control.iter().chain(&template.reserved);
        let count =
            |text: &str| tokens().map(|token| text.matches(token.as_str()).count()).collect::<Vec<_>>();
        let hostile: String = tokens().map(String::as_str).collect();
        for &judged in spec.judged_roles() {
            let of = |text: &str| Conversation { turns: vec![turn(judged, text)], judged: 0 };
            let prompts = ["tame", &hostile].map(|text| spec.prompt_text(&of(text), 100_000).unwrap().text);
            assert_eq!(count(&prompts[0]), count(&prompts[1]), "{name}");
            if spec.chat() != Chat::None {
                let messages = spec.chat_messages(&of(&hostile), 100_000).unwrap().messages;
                assert!(
                    messages.iter().all(|message| count(&message.content).iter().sum::<usize>() == 0),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_chat_has_the_turns_or_the_messages_of_the_spec() {
    let roles = |name: &str| -> Vec<(String, String)> {
        let spec = GuardSpec::built_in(name).unwrap();
        let prompt = spec.chat_messages(&answered("Because."), 100_000).unwrap();
        assert!(!prompt.cut);
        prompt.messages.into_iter().map(|message| (message.role, message.content)).collect()
    };
    let pair = |role: &str, content: &str| (role.to_owned(), content.to_owned());
    // The words of a template, such as USER and Agent, are no roles of a chat API.
    for name in ["llama-guard-3", "qwen3guard-loose"] {
        assert_eq!(roles(name), [pair("user", "Why?"), pair("assistant", "Because.")]);
    }
    let small = roles("aegis-small");
    assert_eq!(small[1..], [pair("user", "Why?"), pair("assistant", "Because.")]);
    assert!(small[0].0 == "system" && small[0].1.contains("harassment"));
    let judge = roles("md-judge");
    assert!(judge.len() == 1 && judge[0].1.contains("Agent: Because.") && !judge[0].1.contains("[INST]"));
    let poly = roles("polyguard");
    assert!(poly.len() == 2 && poly[1].1.ends_with("AI assistant:\nBecause."), "{poly:?}");
    let none = GuardSpec::built_in("wildguard").unwrap().chat_messages(&answered("Because."), 100_000);
    assert!(matches!(none, Err(PromptError::NoChat { .. })));
}

#[test]
fn the_first_token_of_a_text_is_left_to_the_server() {
    for name in NAMES {
        let spec = GuardSpec::built_in(name).unwrap();
        let Some((bos, _)) = spec.bos() else { continue };
        let text = spec.prompt_text(
            &Conversation { turns: vec![turn(spec.judged_roles()[0], "a")], judged: 0 },
            100_000,
        );
        assert!(!text.unwrap().text.contains(bos), "{name}");
    }
}

#[test]
fn a_text_fits_its_bytes() {
    let spec = GuardSpec::built_in("llama-guard-3").unwrap();
    let turns: Vec<Turn> =
        (0..10_000).map(|index| turn(Role::ALL[index % 2], &format!("<{index}>"))).collect();
    let conversation = Conversation { judged: 9_999, turns };
    let whole = spec.prompt_text(&conversation, 10_000_000).unwrap();
    assert!(!whole.cut && whole.text.contains("User: <0>"));
    let fixed = spec.prompt_text(&answered("a"), 10_000).unwrap().text.len();
    for budget in [fixed + 20, fixed + 500, fixed + 5_000] {
        let prompt = spec.prompt_text(&conversation, budget).unwrap();
        assert!(
            prompt.cut && prompt.text.len() <= budget && prompt.text.contains("Agent: <9999>"),
            "{budget}"
        );
        assert!(prompt.text.len() + 60 > budget, "{} of {budget}", prompt.text.len());
        let messages = spec.chat_messages(&conversation, budget).unwrap();
        assert!(messages.cut && messages.messages.last().unwrap().content == "<9999>");
    }
    let long = spec.prompt_text(&answered(&"é".repeat(400_000)), fixed + 101).unwrap();
    assert!(long.cut && long.text.len() <= fixed + 101 && long.text.contains("Agent: éé"));
    let none = spec.prompt_text(&conversation, fixed - 20);
    assert!(matches!(none, Err(PromptError::NoRoom { unit: "bytes", .. })), "{none:?}");
    let system = Conversation { turns: vec![turn(Role::System, "Be brief.")], judged: 0 };
    assert!(matches!(spec.prompt_text(&system, 10_000), Err(PromptError::Role { role: Role::System, .. })));
}
