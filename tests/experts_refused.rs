//! What does not fit is refused at start, with the field and the mend.

mod experts_support;

use aegis::experts::{Panel, PanelConfig, PanelError, Provider};
use experts_support::{FLOAT, Folder, Graph, INT64, SCORES, faulty_classifier, faulty_encoder, head, models};

fn config(folder: &Folder) -> PanelConfig {
    let runtime = models().join("runtime/libonnxruntime.so");
    PanelConfig { runtime, sessions: Some(2), ..PanelConfig::new(folder.path()) }
}

/// The refused field, and that the message names a mend.
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
fn what_does_not_fit_is_refused_at_start() {
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

    // Its table knows fewer tokens than the tokenizer.
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
}

/// The library that `make setup` brings knows no cards.
#[test]
fn a_provider_that_is_not_there_is_refused_and_never_replaced_by_the_processor() {
    let folder = Folder::new();
    folder.classifier("faulty", &faulty_classifier());
    let (device, memory_limit) = (0, Some(1 << 30));
    let engines = folder.path().join("engines");
    let all = [Provider::Cuda { device, memory_limit }, Provider::TensorRt { device, memory_limit, engines }];
    for (provider, word) in all.into_iter().zip(["cuda:0", "tensorrt:0"]) {
        let error = Panel::open(PanelConfig { provider, ..config(&folder) }).err().unwrap();
        assert_eq!(error.name(), "Provider");
        let said = error.to_string();
        assert!(said.contains(word) && said.contains("make cuda"), "{said}");
    }
}

/// As quantised graphs do that scale by the greatest number of all rows.
#[test]
fn a_score_that_hangs_on_its_batch_is_refused_or_run_alone() {
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
