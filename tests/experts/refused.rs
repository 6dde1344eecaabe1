//! Tests that a panel is refused at start if files and manifests disagree, with the field and a remedy.

use crate::experts_support;

use aegis::core::vote::Vote;
use aegis::experts::{Panel, PanelConfig, PanelError, Provider};
use experts_support::{
    FLOAT, Folder, Graph, INT8, INT64, SCORES, encoding, faulty_classifier, faulty_encoder, head, models,
    plain, plain_classifier, plain_encoder,
};

fn config(folder: &Folder) -> PanelConfig {
    let runtime = models().join("runtime/libonnxruntime.so");
    PanelConfig { runtime, sessions: Some(2), ..PanelConfig::new(folder.path()) }
}

/// Returns the field of the error. Panics if the message has no remedy.
fn refused(folder: &Folder) -> String {
    let error = Panel::open(config(folder)).err().expect("must be refused");
    assert!(error.to_string().contains(';'), "{error}");
    match error {
        PanelError::Manifest { field, .. }
        | PanelError::Misfit { field, .. }
        | PanelError::File { field, .. }
        | PanelError::Hash { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[test]
fn a_misfit_is_refused_at_start() {
    let tampered = Folder::new();
    tampered.classifier("faulty", &faulty_classifier());
    std::fs::write(tampered.path().join("faulty/model.onnx"), b"something else").unwrap();
    assert_eq!(refused(&tampered), "model.sha256");

    for (file, field) in [("model.onnx", "model.file"), ("tokenizer.json", "tokenizer.file")] {
        let without = Folder::new();
        without.classifier("faulty", &faulty_classifier());
        std::fs::remove_file(without.path().join("faulty").join(file)).unwrap();
        assert_eq!(refused(&without), field);
    }
    let without = Folder::new();
    without.rules("rules", "base = 0.125\n");
    std::fs::remove_file(without.path().join("rules/rules.toml")).unwrap();
    assert_eq!(refused(&without), "rules.file");

    let text = Folder::new();
    let rest = format!("[text]\nmax_chars = 6\n[inputs]\ntext = \"ids\"\n{SCORES}");
    text.add("faulty", "classifier", "", &faulty_classifier(), &rest);
    assert_eq!(refused(&text), "inputs.text");

    let classifier = |inputs: &str, rest: &str| {
        let folder = Folder::new();
        let rest = format!("{}[inputs]\n{inputs}\n{rest}", folder.tokenizer("faulty"));
        folder.add("faulty", "classifier", "", &faulty_classifier(), &rest);
        refused(&folder)
    };
    assert_eq!(classifier("ids = \"input_ids\"", SCORES), "inputs.ids");
    assert_eq!(classifier("ids = \"ids\"\nmask = \"mask\"", SCORES), "inputs.mask");
    let another = "[[labels]]\nname = \"other\"\n";
    assert_eq!(classifier("ids = \"ids\"", &format!("{SCORES}{another}")), "labels");
    assert_eq!(
        classifier("ids = \"ids\"", &SCORES.replace("= \"scores\"", "= \"logits\"")),
        "outputs.scores"
    );

    let greedy = Folder::new();
    let graph = Graph::default()
        .input("ids", INT64, &[-1, 1])
        .input("token_type_ids", INT64, &[-1, 1])
        .node("Add", &["ids", "token_type_ids"], "sum")
        .node_with("Cast", &["sum"], "scores", &[("to", FLOAT)])
        .output("scores", FLOAT, &[-1, 1])
        .model();
    greedy.classifier("greedy", &graph);
    assert_eq!(refused(&greedy), "inputs");

    // Its table has fewer tokens than the tokenizer.
    let small = Folder::new();
    let graph = Graph::default()
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[4], &[0.5; 4])
        .node("Gather", &["p", "ids"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model();
    small.classifier("small", &graph);
    assert_eq!(refused(&small), "tokenizer.file");

    let lost = Folder::new();
    lost.head("plain", &head());
    assert_eq!(refused(&lost), "encoder");

    let two = Folder::new();
    two.encoder("one", &faulty_encoder()).encoder("two", &faulty_encoder());
    assert_eq!(refused(&two), "outputs.features");
    two.ranked_encoder("three", &faulty_encoder(), 1);
    let panel = Panel::open(config(&two)).unwrap();
    assert_eq!(panel.encoder_info().unwrap().id, "three");
    two.ranked_encoder("four", &faulty_encoder(), 1);
    assert_eq!(refused(&two), "outputs.features");
}

#[test]
fn a_partner_in_features_that_is_none_is_refused() {
    let without_part = Folder::new();
    without_part.leading_encoder("leader", &faulty_encoder(), "other").encoder("other", &faulty_encoder());
    assert_eq!(refused(&without_part), "joint.encoder");

    let itself = Folder::new();
    itself.leading_encoder("leader", &faulty_encoder(), "leader");
    assert_eq!(refused(&itself), "joint.encoder");

    let classifier = Folder::new();
    classifier.leading_encoder("leader", &faulty_encoder(), "judge").classifier("judge", &plain_classifier());
    assert_eq!(refused(&classifier), "joint.encoder");

    let bytes = Folder::new();
    let graph = encoding(plain(), INT8);
    bytes.leading_encoder("leader", &graph, "partner").partner_encoder("partner", &plain_encoder());
    assert_eq!(refused(&bytes), "outputs.features_part");
}

/// The library that `make setup` installs supports no graphics cards.
#[test]
fn a_missing_provider_is_refused_and_not_replaced_by_the_processor() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let (device, memory_limit) = (0, Some(1 << 30));
    let engines = folder.path().join("engines");
    let all = [Provider::Cuda { device, memory_limit }, Provider::TensorRt { device, memory_limit, engines }];
    for (provider, word) in all.into_iter().zip(["cuda:0", "tensorrt:0"]) {
        let error = Panel::open(PanelConfig { provider, ..config(&folder) }).err().unwrap();
        assert_eq!(error.name(), "Provider");
        let message = error.to_string();
        assert!(message.contains(word) && message.contains("make cuda"), "{message}");
    }
}

/// Quantised graphs that scale by the greatest number of all rows are like this one.
#[test]
fn a_graph_whose_scores_depend_on_the_batch_is_refused_or_run_alone() {
    let graph = || {
        Graph::default()
            .input("ids", INT64, &[-1, 1])
            .floats("p", &[9], &[0.5, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
            .node("Gather", &["p", "ids"], "value")
            .node_with("Softmax", &["value"], "shares", &[("axis", 0)])
            .node("Mul", &["shares", "value"], "scores")
            .output("scores", FLOAT, &[-1, 1])
            .model()
    };
    let folder = Folder::new();
    folder.classifier("quantised", &graph());
    assert_eq!(refused(&folder), "alone");

    let folder = Folder::new();
    let rest = format!("{}[inputs]\nids = \"ids\"\n{SCORES}", folder.tokenizer("quantised"));
    folder.add("quantised", "classifier", "alone = true", &graph(), &rest);
    let panel = Panel::open(config(&folder)).unwrap();
    let scores = |texts: &[&str]| -> Vec<f64> {
        panel.ask(texts).iter().map(|answer| answer.votes[0].score().unwrap()).collect()
    };
    assert_eq!(scores(&["fine", "bad", "end", "nan"]), [0.25, 0.75, 0.5, 0.5]);
}

/// Returns a classifier with external data in a file of this name.
fn outside(location: &str) -> Vec<u8> {
    Graph::default()
        .input("ids", INT64, &[-1, 1])
        .outside("p", &[9], location)
        .node("Gather", &["p", "ids"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model()
}

/// Returns external data: one number for each token, which is `fine` for the word "fine".
fn numbers(fine: f32) -> Vec<u8> {
    [0.5, fine, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5].iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The tools of Hugging Face export large graphs like this one.
#[test]
fn external_data_is_read_from_the_experts_folder_and_is_part_of_the_models_hash() {
    // Two experts whose files have the same names.
    let folder = Folder::new();
    let graph = outside("model.onnx_data");
    for (id, fine) in [("one", 0.125), ("two", 0.875)] {
        let listed = folder.external(id, "model.onnx_data", &numbers(fine));
        folder.external_classifier(id, &graph, &listed);
    }
    let panel = Panel::open(PanelConfig { require_all: true, ..config(&folder) }).unwrap();
    let votes = &panel.ask(&["fine"])[0].votes;
    assert_eq!(votes.iter().map(Vote::score).collect::<Vec<_>>(), [Some(0.125), Some(0.875)]);
    let [one, two] = panel.experts() else { panic!() };
    assert_ne!(one.model, two.model, "other weights are another model");
    let own: String = one.model.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_ne!(own, experts_support::sha256(&graph));
}

/// Returns the message of the error.
fn refusal(folder: &Folder) -> String {
    Panel::open(config(folder)).err().expect("must be refused").to_string()
}

#[test]
fn external_data_that_disagrees_with_the_manifest_is_refused() {
    let data = numbers(0.5);
    let with = |location: &str, name: &str| {
        let folder = Folder::new();
        let listed = folder.external("expert", name, &data);
        folder.external_classifier("expert", &outside(location), &listed);
        folder
    };
    let changed = with("model.onnx_data", "model.onnx_data");
    std::fs::write(changed.path().join("expert/model.onnx_data"), numbers(0.25)).unwrap();
    assert_eq!(refused(&changed), "model.external_data.sha256");
    let lost = with("model.onnx_data", "model.onnx_data");
    std::fs::remove_file(lost.path().join("expert/model.onnx_data")).unwrap();
    assert_eq!(refused(&lost), "model.external_data.file");

    let unlisted = with("weights.bin", "model.onnx_data");
    std::fs::write(unlisted.path().join("expert/weights.bin"), &data).unwrap();
    let message = refusal(&unlisted);
    assert!(message.contains("weights in \"weights.bin\", which is not listed"), "{message}");
    let none = Folder::new();
    none.classifier("expert", &outside("weights.bin"));
    assert_eq!(refused(&none), "model.external_data");
    let unused = Folder::new();
    let listed = unused.external("expert", "model.onnx_data", &data);
    unused.external_classifier("expert", &faulty_classifier(), &listed);
    let message = refusal(&unused);
    assert!(message.contains("the graph keeps nothing in \"model.onnx_data\""), "{message}");
}

#[test]
fn external_data_outside_of_the_folder_is_refused() {
    let data = numbers(0.5);
    let elsewhere = tempfile::tempdir().unwrap();
    let absolute = elsewhere.path().join("numbers.bin").display().to_string();
    std::fs::write(&absolute, &data).unwrap();
    // The last one is the runtime's marker for an address in memory.
    for location in
        [absolute.as_str(), "../numbers.bin", "./numbers.bin", "sub/numbers.bin", "", "*/_ORT_MEM_ADDR_/*"]
    {
        let folder = Folder::new();
        std::fs::write(folder.path().join("numbers.bin"), &data).unwrap();
        folder.classifier("expert", &outside(location));
        let message = refusal(&folder);
        assert!(
            message.contains("model.external_data") && message.contains("no file of this folder"),
            "{message}"
        );
    }
    // The manifest cannot name such a file either.
    let folder = Folder::new();
    let listed = folder.external("expert", "numbers.bin", &data).replace("numbers.bin", "../numbers.bin");
    folder.external_classifier("expert", &outside("../numbers.bin"), &listed);
    assert_eq!(refused(&folder), "model.external_data.file");

    let linked = Folder::new();
    let listed = linked.external("expert", "numbers.bin", &data);
    linked.external_classifier("expert", &outside("numbers.bin"), &listed);
    let file = linked.path().join("expert/numbers.bin");
    std::fs::rename(&file, linked.path().join("expert/real.bin")).unwrap();
    std::os::unix::fs::symlink("real.bin", &file).unwrap();
    assert!(Panel::open(config(&linked)).is_ok(), "a link within the folder");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&absolute, &file).unwrap();
    let message = refusal(&linked);
    assert!(
        message.contains("is a link to") && message.contains("outside of the expert's folder"),
        "{message}"
    );
}

/// The runtime accepts no bytes for the data of a node, and would open the file itself.
#[test]
fn external_data_of_a_node_is_refused() {
    let folder = Folder::new();
    let listed = folder.external("expert", "numbers.bin", &numbers(0.5));
    let graph = Graph::default()
        .input("ids", INT64, &[-1, 1])
        .outside_constant(&[9], "numbers.bin", "p")
        .node("Gather", &["p", "ids"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model();
    folder.external_classifier("expert", &graph, &listed);
    let message = refusal(&folder);
    assert!(message.contains("of a node or of a nested graph in \"numbers.bin\""), "{message}");
}
