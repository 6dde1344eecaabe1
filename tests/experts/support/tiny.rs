//! Graphs of a few nodes, with a fault that a word of the text selects, and their tokenizer.

use super::graph::{BOOL, FLOAT, Graph, INT8, INT16, INT64};

/// The vocabulary of the tiny experts. The first word of a text selects the fault.
pub const WORDS: [&str; 9] = ["[UNK]", "fine", "bad", "nan", "poison", "wide", "hang", "slow", "end"];

pub fn tokenizer() -> Vec<u8> {
    let vocabulary: Vec<String> =
        WORDS.iter().enumerate().map(|(id, word)| format!("\"{word}\":{id}")).collect();
    format!(
        "{{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{{\"type\":\"WhitespaceSplit\"}},\
         \"post_processor\":null,\"decoder\":null,\
         \"model\":{{\"type\":\"WordLevel\",\"vocab\":{{{}}},\"unk_token\":\"[UNK]\"}}}}",
        vocabulary.join(",")
    )
    .into_bytes()
}

/// Returns the body of a loop without any work.
pub fn turn() -> Graph {
    Graph::default()
        .input("i", INT64, &[])
        .input("go_in", BOOL, &[])
        .input("sum_in", FLOAT, &[])
        .node("Identity", &["go_in"], "go")
        .node("Identity", &["sum_in"], "sum")
        .output("go", BOOL, &[])
        .output("sum", FLOAT, &[])
}

/// Adds `value` \[batch, 1\]: .25 for `fine`, .75 for `bad`, NaN for `nan`. On `poison` the run fails, on `wide` the
/// output has too many rows, on `hang` the run never ends, and on `slow` it takes some time.
fn faulty(graph: Graph) -> Graph {
    graph
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[9], &[0.5, 0.25, 0.75, f32::NAN, 0.5, 0.5, 0.5, 0.5, 0.5])
        .node("Gather", &["p", "ids"], "chosen")
        .ints("far", &[9], &[0, 0, 0, 0, 99, 0, 0, 0, 0])
        .floats("zero", &[1], &[0.0])
        .node("Gather", &["far", "ids"], "where")
        .node("Gather", &["zero", "where"], "nothing")
        .node("Add", &["chosen", "nothing"], "safe")
        .ints("turns", &[9], &[0, 0, 0, 0, 0, 0, i64::MAX, 400_000, 0])
        .node("Gather", &["turns", "ids"], "turn")
        .node_with("ReduceMax", &["turn"], "most", &[("keepdims", 0)])
        .truth("true")
        .floats("start", &[], &[0.0])
        .looping(&["most", "true", "start"], "looped", turn())
        .node("Add", &["safe", "looped"], "ended")
        .ints("copies", &[9], &[1, 1, 1, 1, 1, 2, 1, 1, 1])
        .node("Gather", &["copies", "ids"], "copy")
        .node_with("ReduceMax", &["copy"], "times", &[("keepdims", 0)])
        .ints("row", &[1], &[0])
        .node("Unsqueeze", &["times", "row"], "times_row")
        .ints("once", &[1], &[1])
        .node_with("Concat", &["times_row", "once"], "repeats", &[("axis", 0)])
        .node("Tile", &["ended", "repeats"], "value")
}

/// Returns a classifier with a fault on request.
pub fn faulty_classifier() -> Vec<u8> {
    faulty(Graph::default()).node("Identity", &["value"], "scores").output("scores", FLOAT, &[-1, -1]).model()
}

/// Returns a classifier with one node that takes minutes on `hang`: a product of integer matrices, 3,000 by 3,000.
pub fn stuck_classifier() -> Vec<u8> {
    Graph::default()
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[9], &[0.5, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
        .node("Gather", &["p", "ids"], "chosen")
        .ints("sizes", &[9], &[1, 1, 1, 1, 1, 1, 3_000, 1, 1])
        .node("Gather", &["sizes", "ids"], "size")
        .node_with("ReduceMax", &["size"], "side", &[("keepdims", 0)])
        .ints("row", &[1], &[0])
        .node("Unsqueeze", &["side", "row"], "side_row")
        .node_with("Concat", &["side_row", "side_row"], "shape", &[("axis", 0)])
        .ints("zero", &[1, 1], &[0])
        .node("Expand", &["zero", "shape"], "square")
        .node("MatMul", &["square", "square"], "product")
        .node_with("ReduceMax", &["product"], "greatest", &[("keepdims", 0)])
        .node_with("Cast", &["greatest"], "nothing", &[("to", FLOAT)])
        .node("Add", &["chosen", "nothing"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model()
}

/// Returns a classifier without faults.
pub fn plain_classifier() -> Vec<u8> {
    plain().node("Identity", &["value"], "scores").output("scores", FLOAT, &[-1, 1]).model()
}

/// Adds the outputs of an encoder to a graph with `value`: its embedding is that number, and its features are a hundred
/// times the number. Its part of joint features, of the type `part`, is 320 times the number, or ten features' steps.
pub fn encoding(graph: Graph, part: u64) -> Vec<u8> {
    let across = |graph: Graph, name: &str, factor: f32, kind: u64| {
        let [times, scaled, wide] = ["times", "scaled", "wide"].map(|part| format!("{part}_{name}"));
        graph
            .floats(&times, &[1], &[factor])
            .node("Mul", &["value", &times], &scaled)
            .node("Tile", &[&scaled, "across"], &wide)
            .node_with("Cast", &[&wide], name, &[("to", kind)])
            .output(name, kind, &[-1, -1])
    };
    let graph = graph.node("Identity", &["value"], "embedding").ints("across", &[2], &[1, 384]);
    let graph = graph.output("embedding", FLOAT, &[-1, -1]);
    across(across(graph, "features", 100.0, INT8), "part", 320.0, part).model()
}

/// Returns an encoder with a fault on request.
pub fn faulty_encoder() -> Vec<u8> {
    encoding(faulty(Graph::default()), INT16)
}

/// Returns a graph with `value`: .25 for `fine`, .75 for `bad`, else .5.
pub fn plain() -> Graph {
    Graph::default()
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[9], &[0.5, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
        .node("Gather", &["p", "ids"], "value")
}

/// Returns an encoder without faults.
pub fn plain_encoder() -> Vec<u8> {
    encoding(plain(), INT16)
}

/// Returns a head whose score is the embedding.
pub fn head() -> Vec<u8> {
    Graph::default()
        .input("embedding", FLOAT, &[-1, 1])
        .node("Identity", &["embedding"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model()
}

/// Returns a head whose score is NaN below one half, because ln(x - 0.5) is undefined there.
pub fn shaky_head() -> Vec<u8> {
    Graph::default()
        .input("embedding", FLOAT, &[-1, 1])
        .floats("half", &[1], &[0.5])
        .node("Sub", &["embedding", "half"], "above")
        .node("Log", &["above"], "log")
        .node("Exp", &["log"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model()
}

/// Returns a head whose score is the embedding, and which never ends for an embedding above .6.
pub fn hanging_head() -> Vec<u8> {
    above(i64::MAX)
        .truth("true")
        .floats("start", &[], &[0.0])
        .looping(&["most", "true", "start"], "looped", turn())
        .node("Add", &["embedding", "looped"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model()
}

/// Returns a head whose score is the embedding, and which for one above .6 spends minutes in a single node.
pub fn stuck_head() -> Vec<u8> {
    above(3_000)
        .ints("one", &[1], &[1])
        .node("Add", &["most", "one"], "side")
        .node_with("Concat", &["side", "side"], "shape", &[("axis", 0)])
        .ints("zero", &[1, 1], &[0])
        .node("Expand", &["zero", "shape"], "square")
        .node("MatMul", &["square", "square"], "product")
        .node_with("ReduceMax", &["product"], "highest", &[("keepdims", 0)])
        .node_with("Cast", &["highest"], "nothing", &[("to", FLOAT)])
        .node("Add", &["embedding", "nothing"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model()
}

/// Returns a graph with the output `most`: this number if an embedding of the batch is above .6, else 0.
fn above(number: i64) -> Graph {
    Graph::default()
        .input("embedding", FLOAT, &[-1, 1])
        .floats("rest", &[1], &[0.4])
        .node("Add", &["embedding", "rest"], "more")
        .node_with("Cast", &["more"], "whole", &[("to", INT64)])
        .node_with("ReduceMax", &["whole"], "greatest", &[("keepdims", 0)])
        .ints("number", &[], &[number])
        .node("Mul", &["greatest", "number"], "most")
}
