//! Guards that are refused at start, with the field and a remedy, and guards that cannot be loaded.

use crate::experts_support;

use aegis::core::vote::Abstention;
use aegis::experts::{Panel, PanelConfig, PanelError};
use experts_support::adapter::adapter;
use experts_support::asked::{config, outcomes};
use experts_support::causal::{Export, PLAIN, SPEC, lora};
use experts_support::causal_graph::causal;
use experts_support::{FLOAT, Folder, Graph, INT64, plain_classifier, tokenizer};

/// Returns the field of the error, and its message.
fn refused(folder: &Folder) -> (String, String) {
    let error = Panel::open(config(folder)).err().expect("must be refused");
    let message = error.to_string();
    assert!(message.contains(';'), "{message}");
    match error {
        PanelError::Manifest { field, .. }
        | PanelError::Misfit { field, .. }
        | PanelError::File { field, .. }
        | PanelError::Hash { field, .. } => (field, message),
        other => panic!("{other}"),
    }
}

/// Returns a guard whose spec was changed.
fn with_spec(old: &str, new: &str) -> Folder {
    assert!(SPEC.contains(old), "{old}");
    let folder = Folder::new();
    folder.guard("guard", "", &causal(&PLAIN));
    folder.file("guard", "spec.toml", SPEC.replace(old, new).as_bytes());
    folder
}

/// Returns a guard whose manifest was changed.
fn with_manifest(old: &str, new: &str) -> Folder {
    let folder = Folder::new();
    folder.guard("guard", "", &causal(&PLAIN));
    let path = folder.path().join("guard/manifest.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{old}");
    std::fs::write(path, text.replace(old, new)).unwrap();
    folder
}

fn assert_refused(folder: &Folder, expected: &str, part: &str) {
    let (field, message) = refused(folder);
    assert!(field == expected && message.contains(part), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    for (file, field) in
        [("model.onnx", "model.file"), ("tokenizer.json", "tokenizer.file"), ("spec.toml", "prompt.spec")]
    {
        let folder = with_spec("", "");
        std::fs::remove_file(folder.path().join("guard").join(file)).unwrap();
        assert_refused(&folder, field, file);
    }
    assert_refused(&with_manifest("spec.toml", "llama-guard-99"), "prompt.spec", "llama-guard-99");
    let no_policy = with_manifest("spec = \"spec.toml\"", "spec = \"spec.toml\"\npolicy = \"policy.txt\"");
    assert_refused(&no_policy, "prompt.policy", "policy.txt");
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    assert_refused(&with_manifest("[model]", "base = \"other\"\n[model]"), "model", "base");
    assert_refused(
        &with_manifest("max_tokens = 150", "max_tokens = 150\nwindows = 2"),
        "tokenizer.windows",
        "remove",
    );
    assert_refused(&with_manifest("max_tokens = 150", "max_tokens = 9000"), "tokenizer.max_tokens", "range");
    assert_refused(&with_manifest("[prompt]\nspec = \"spec.toml\"", ""), "prompt.spec", "missing");
    assert_refused(&with_manifest("[prompt]", "[inputs]\nids = \"input_ids\"\n[prompt]"), "inputs", "remove");
    assert_refused(&with_manifest("\"guard\"\ndesc", "\"guard\"\nroles = [\"tool\"]\ndesc"), "roles", "tiny");
    let folder = Folder::new();
    folder.guard_on("guard", "missing", SPEC, "");
    assert_refused(&folder, "base", "missing");
    let folder = Folder::new();
    folder.guard("base", "", &causal(&PLAIN)).guard_on("first", "base", SPEC, "");
    folder.guard_on("second", "first", SPEC, "");
    assert_refused(&folder, "base", "first");
    let folder = Folder::new();
    let rest = format!("{}[inputs]\nids = \"ids\"\n{}", folder.tokenizer("expert"), experts_support::SCORES);
    folder.add("expert", "classifier", "base = \"guard\"", &plain_classifier(), &rest);
    assert_refused(&folder, "base", "classifier");
}

#[test]
fn another_vocabulary_is_refused() {
    // The verdict's words are no tokens of it, or begin with the same one.
    let folder = Folder::new();
    folder.guard("guard", "", &causal(&PLAIN));
    let other = folder.file("guard", "other.json", &tokenizer());
    let own = folder.file("guard", "tokenizer.json", &experts_support::causal::tokenizer());
    let path = folder.path().join("guard/manifest.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text.replace(&own, &other)).unwrap();
    assert_refused(&folder, "prompt.spec", "<policy>");
    let unknown = with_spec("[\" unsafe\"]\nsafe = [\" safe\"]", "[\" Harmful\"]\nsafe = [\" Harmless\"]");
    assert_refused(&unknown, "prompt.spec", "verdict");
    // The graph has fewer tokens than the tokenizer.
    let folder = Folder::new();
    let small = Graph::default()
        .input("input_ids", INT64, &[-1, -2])
        .floats("table", &[12, 30], &[0.0; 360])
        .node("Gather", &["table", "input_ids"], "logits")
        .output("logits", FLOAT, &[-1, -2, 30]);
    folder.guard("guard", "", &small.model());
    assert_refused(&folder, "tokenizer.file", "29");
    // The graph gives fewer logits than the verdict's tokens need.
    let folder = Folder::new();
    let narrow = Graph::default()
        .input("input_ids", INT64, &[-1, -2])
        .floats("table", &[30, 3], &[0.0; 90])
        .node("Gather", &["table", "input_ids"], "logits")
        .output("logits", FLOAT, &[-1, -2, 3]);
    folder.guard("guard", "", &narrow.model());
    assert_refused(&folder, "model.file", "vocabulary");
}

#[test]
fn an_unknown_input_or_output_is_refused() {
    let graph = |input: &str, output: &str| {
        let folder = Folder::new();
        let graph = Graph::default()
            .input("input_ids", INT64, &[-1, -2])
            .input(input, FLOAT, &[-1, 2, -3, 8])
            .floats("table", &[30, 30], &[0.0; 900])
            .node("Gather", &["table", "input_ids"], output)
            .output(output, FLOAT, &[-1, -2, 30]);
        folder.guard("guard", "", &graph.model());
        folder
    };
    assert_refused(&graph("pixel_values", "logits"), "model.file", "pixel_values");
    assert_refused(&graph("attention_mask", "logits"), "model.file", "attention_mask");
    assert_refused(&graph("past_key_values.0.key", "logits"), "model.file", "present.0.key");
    assert_refused(&graph("pixel_values", "scores"), "model.file", "logits");
    let folder = Folder::new();
    folder.guard("guard", "", &plain_classifier());
    assert_refused(&folder, "model.file", "input_ids");
}

#[test]
fn a_context_that_the_policy_fills_is_refused() {
    assert_refused(&with_spec("context = 200", "context = 30"), "prompt.spec", "context");
    assert_refused(&with_manifest("max_tokens = 150", "max_tokens = 18"), "tokenizer.max_tokens", "18");
}

#[test]
fn an_adapter_that_does_not_fit_is_refused() {
    let with_adapter = |bytes: &[u8]| {
        let folder = Folder::new();
        folder.guard("base", "", &causal(&PLAIN));
        let file = folder.file("guard", "lora.onnx_adapter", bytes);
        folder.guard_on("guard", "base", SPEC, &format!("[adapter]\n{file}"));
        folder
    };
    assert_refused(&with_adapter(b"this is no adapter"), "adapter.file", "AdapterFormat");
    let [(a, a_shape, a_numbers), (b, b_shape, b_numbers)] = lora(11);
    let other = adapter(&[(a, &a_shape, &a_numbers), ("lora.c", &b_shape, &b_numbers)]);
    assert_refused(&with_adapter(&other), "adapter.file", "lora.c");
    let half = adapter(&[(a, &a_shape, &a_numbers)]);
    assert_refused(&with_adapter(&half), "adapter.file", "made for this graph");
    let whole = adapter(&[(a, &a_shape, &a_numbers), (b, &b_shape, &b_numbers)]);
    Panel::open(config(&with_adapter(&whole))).unwrap();
}

#[test]
fn guards_abstain_while_their_base_is_not_loaded() {
    let folder = Folder::new();
    folder.guard("base", "", b"this is no graph").guard_on(
        "other",
        "base",
        &SPEC.replace("never", "always"),
        "",
    );
    folder.rules("rules", "base = 0.125\n");
    let panel = Panel::open(config(&folder)).unwrap();
    let missing = Err(Abstention::NotLoaded);
    assert_eq!(outcomes(&panel, &["fine"]), [[missing, missing, Ok(0.125)]]);
    let error = Panel::open(PanelConfig { require_all: true, ..config(&folder) }).err().unwrap();
    assert!(
        matches!(&error, PanelError::NotLoaded { path, .. } if path.ends_with("base/model.onnx")),
        "{error}"
    );
}

/// A panel that asks only the guard on a base loads the base's graph.
#[test]
fn a_guard_needs_the_files_of_its_base_and_not_its_votes() {
    let folder = Folder::new();
    folder.guard("base", "", &causal(&Export { shares: true, ..PLAIN }));
    folder.guard_on("other", "base", SPEC, "");
    let only = Some(vec!["other".to_owned()]);
    let panel = Panel::open(PanelConfig { only, require_all: true, ..config(&folder) }).unwrap();
    assert_eq!(panel.experts().len(), 1);
    assert!(outcomes(&panel, &["fine"])[0][0].is_ok());
}
