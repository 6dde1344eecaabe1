//! The presets read the layouts of published data sets.

use serde_json::{Value, json};

use super::Desk;

/// The ids of a layout's categories with the numbers of unsafe texts in them.
fn categories(figures: &Value) -> Vec<(String, u64)> {
    let groups = figures["groups"]["category"].as_object().unwrap();
    groups.iter().map(|(name, group)| (name.clone(), group["unsafe"].as_u64().unwrap())).collect()
}

/// A preset with rows of its layout, and what they are read as.
struct Example {
    preset: &'static str,
    rows: Vec<Value>,
    /// The numbers of texts and of unsafe ones.
    texts: (u64, u64),
    /// A category with the number of its unsafe texts; empty for none.
    category: (&'static str, u64),
}

fn presets() -> Vec<Example> {
    let aegis_1 = |text: &str, labels: [&str; 3]| {
        json!({ "id": 1, "text": text, "text_type": "user_message", "labels_0": labels[0], "labels_1": labels[1],
            "labels_2": labels[2], "labels_3": "None", "labels_4": null })
    };
    let wild = |prompt: &str, response: Option<&str>, harm: &str| {
        json!({ "prompt": prompt, "response": response, "prompt_harm_label": "harmful",
            "response_harm_label": response.map(|_| "unharmful"), "adversarial": true,
            "subcategory": harm })
    };
    vec![
        Example {
            preset: "aegis-1",
            rows: vec![
                aegis_1("one", ["Violence, Threat", "Violence", "Safe"]),
                aegis_1("two", ["Safe", "Safe", "Needs Caution"]),
                aegis_1("three", ["Needs Caution", "Needs Caution", "Safe"]),
            ],
            texts: (3, 2),
            category: ("violence", 1),
        },
        Example {
            preset: "aegis-2",
            rows: vec![
                json!({ "id": "a", "prompt": "one", "response": "no", "prompt_label": "unsafe", "response_label": "safe",
                    "violated_categories": "Violence, Criminal Planning/Confessions" }),
                json!({ "id": "b", "prompt": "REDACTED", "response": null, "prompt_label": "unsafe",
                    "response_label": null, "violated_categories": "Suicide and Self Harm" }),
                json!({ "id": "c", "prompt": "two", "response": null, "prompt_label": "safe", "response_label": null,
                    "violated_categories": "" }),
            ],
            texts: (3, 1),
            category: ("criminal-planning", 1),
        },
        Example {
            preset: "toxicchat",
            rows: vec![
                json!({ "conv_id": "a", "user_input": "one", "model_output": "x", "toxicity": 1, "jailbreaking": 1 }),
                json!({ "conv_id": "b", "user_input": "two", "model_output": "x", "toxicity": 0, "jailbreaking": 0 }),
            ],
            texts: (2, 1),
            category: ("", 0),
        },
        Example {
            preset: "wildguardmix",
            rows: vec![
                wild("one", Some("no"), "violence_and_physical_harm"),
                wild("two", None, "cyberattack"),
            ],
            texts: (3, 2),
            category: ("violence", 1),
        },
        Example {
            preset: "beavertails",
            rows: vec![
                json!({ "prompt": "one", "response": "two", "is_safe": false,
                    "category": { "privacy_violation": true, "self_harm": false } }),
                json!({ "prompt": "one", "response": "three", "is_safe": 1, "category": { "self_harm": false } }),
            ],
            texts: (2, 1),
            category: ("pii", 1),
        },
        Example {
            preset: "openai-moderation",
            rows: vec![
                json!({ "prompt": "one", "S": 0, "H": 1, "V": 0, "HR": 0, "SH": 0, "S3": 0, "H2": 1, "V2": 0 }),
                json!({ "prompt": "two", "S": 0, "H": 0 }),
            ],
            texts: (2, 1),
            category: ("hate", 1),
        },
        Example {
            preset: "jigsaw",
            rows: vec![
                json!({ "id": "a", "comment_text": "one", "toxic": 1, "severe_toxic": 0, "obscene": 1, "threat": 0,
                    "insult": 0, "identity_hate": 0 }),
                json!({ "id": "b", "comment_text": "two", "toxic": 0, "threat": 0 }),
                json!({ "id": "c", "comment_text": "three", "toxic": -1, "threat": -1 }),
            ],
            texts: (2, 1),
            category: ("profanity", 1),
        },
        Example {
            preset: "hatecheck",
            rows: vec![
                json!({ "functionality": "derog_neg_emote_h", "case_id": "1", "test_case": "one",
                    "label_gold": "hateful", "target_ident": "women" }),
                json!({ "functionality": "ident_neutral_nh", "case_id": "2", "test_case": "two",
                    "label_gold": "non-hateful", "target_ident": "immigrants" }),
            ],
            texts: (2, 1),
            category: ("women", 1),
        },
    ]
}

#[test]
fn presets_read_the_layouts_of_published_sets() {
    let desk = Desk::new();
    for Example { preset, rows, texts: (texts, harmful), category } in presets() {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let figures = desk.figures(&desk.put("set.jsonl", lines), &format!("--preset {preset} --strict"));
        assert_eq!(
            (&figures["texts"], &figures["unsafe"]),
            (&json!(texts), &json!(harmful)),
            "{preset}: {figures:#}"
        );
        if !category.0.is_empty() {
            let found = categories(&figures);
            assert!(found.contains(&(category.0.to_owned(), category.1)), "{preset}: {found:?}");
        }
    }
    // Needs Caution is safe for a permissive policy.
    let rows = presets().swap_remove(0).rows;
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let figures = desk.figures(&desk.put("set.jsonl", lines), "--preset aegis-1 --needs-caution 0");
    assert_eq!(figures["unsafe"], 1);
}
