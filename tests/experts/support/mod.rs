//! Tiny experts that tests create: graphs of a few nodes, with a fault that a word of the text selects.

#![allow(dead_code)] // each test file uses a part of it

pub mod adapter;
pub mod asked;
pub mod causal;
pub mod causal_graph;

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Returns the folder in which `make setup` installs the experts.
pub fn models() -> PathBuf {
    let folder = std::env::var_os("AEGIS_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), PathBuf::from);
    assert!(
        folder.join("runtime/libonnxruntime.so").is_file(),
        "{} holds no runtime: run `make setup` first, or set AEGIS_MODELS",
        folder.display()
    );
    folder
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An encoder for protobuf, with the fields of ONNX messages by number.
mod proto {
    pub fn varint(mut n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while n > 0x7f {
            out.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    }

    pub fn int(field: u64, n: u64) -> Vec<u8> {
        [varint(field << 3), varint(n)].concat()
    }

    pub fn bytes(field: u64, data: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(data.len() as u64), data.to_vec()].concat()
    }

    pub fn text(field: u64, data: &str) -> Vec<u8> {
        bytes(field, data.as_bytes())
    }
}

use proto::{bytes, int, text};

pub const FLOAT: u64 = 1;
pub const INT8: u64 = 3;
pub const INT64: u64 = 7;
pub const INT32: u64 = 6;
pub const STRING: u64 = 8;
pub const BOOL: u64 = 9;
pub const FLOAT16: u64 = 10;

/// A builder of a graph.
#[derive(Default)]
pub struct Graph {
    parts: Vec<Vec<u8>>,
}

impl Graph {
    pub fn input(mut self, name: &str, kind: u64, shape: &[i64]) -> Self {
        self.parts.push(bytes(11, &value_info(name, kind, shape)));
        self
    }

    pub fn output(mut self, name: &str, kind: u64, shape: &[i64]) -> Self {
        self.parts.push(bytes(12, &value_info(name, kind, shape)));
        self
    }

    fn constant(mut self, name: &str, kind: u64, shape: &[i64], raw: &[u8]) -> Self {
        let mut tensor: Vec<u8> = shape.iter().flat_map(|&n| int(1, n as u64)).collect();
        tensor.extend([int(2, kind), text(8, name), bytes(9, raw)].concat());
        self.parts.push(bytes(5, &tensor));
        self
    }

    pub fn floats(self, name: &str, shape: &[i64], values: &[f32]) -> Self {
        self.constant(name, FLOAT, shape, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Adds floats that are stored in a file of their own.
    pub fn outside(mut self, name: &str, shape: &[i64], location: &str) -> Self {
        self.parts.push(bytes(5, &external(name, shape, location)));
        self
    }

    /// Adds the same as the attribute of a node.
    pub fn outside_constant(mut self, shape: &[i64], location: &str, output: &str) -> Self {
        let tensor = external("value", shape, location);
        let attribute = [text(1, "value"), bytes(5, &tensor), int(20, 4)].concat();
        let node = [text(2, output), text(3, output), text(4, "Constant"), bytes(5, &attribute)].concat();
        self.parts.push(bytes(1, &node));
        self
    }

    /// Adds a number `nothing` with the value 0, whose computation takes `size` bytes.
    pub fn weighty(self, size: i64) -> Self {
        self.ints("size", &[1], &[size / 4]).node("ConstantOfShape", &["size"], "weight").node_with(
            "ReduceMax",
            &["weight"],
            "nothing",
            &[("keepdims", 0)],
        )
    }

    pub fn ints(self, name: &str, shape: &[i64], values: &[i64]) -> Self {
        self.constant(name, INT64, shape, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    pub fn words(mut self, name: &str, words: &[&str]) -> Self {
        let mut tensor = [int(1, words.len() as u64), int(2, STRING), text(8, name)].concat();
        tensor.extend(words.iter().flat_map(|word| text(6, word)));
        self.parts.push(bytes(5, &tensor));
        self
    }

    pub fn truth(self, name: &str) -> Self {
        self.constant(name, BOOL, &[], &[1])
    }

    pub fn node(self, op: &str, inputs: &[&str], output: &str) -> Self {
        self.node_with(op, inputs, output, &[])
    }

    /// Adds a node. `attributes` are names and values of integers.
    pub fn node_with(self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, u64)]) -> Self {
        let extra = attributes
            .iter()
            .flat_map(|(name, value)| bytes(5, &[text(1, name), int(3, *value), int(20, 2)].concat()))
            .collect();
        self.raw_node(op, inputs, output, extra)
    }

    /// Adds a node with a list of integers as its attribute.
    pub fn node_list(self, op: &str, inputs: &[&str], output: &str, (name, list): (&str, &[u64])) -> Self {
        let numbers: Vec<u8> = list.iter().flat_map(|&number| int(8, number)).collect();
        let attribute = [text(1, name), numbers, int(20, 7)].concat();
        self.raw_node(op, inputs, output, bytes(5, &attribute))
    }

    /// Adds a node of Microsoft's domain with several outputs.
    pub fn contrib_node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, u64)],
    ) -> Self {
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
        node.extend(outputs.iter().flat_map(|name| text(2, name)));
        node.extend([text(3, op), text(4, op), text(7, "com.microsoft")].concat());
        for (name, value) in attributes {
            node.extend(bytes(5, &[text(1, name), int(3, *value), int(20, 2)].concat()));
        }
        self.parts.push(bytes(1, &node));
        self
    }

    pub fn looping(self, inputs: &[&str], output: &str, body: Self) -> Self {
        let attribute = [text(1, "body"), bytes(6, &body.message("body")), int(20, 5)].concat();
        self.raw_node("Loop", inputs, output, bytes(5, &attribute))
    }

    fn raw_node(mut self, op: &str, inputs: &[&str], output: &str, extra: Vec<u8>) -> Self {
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
        node.extend([text(2, output), text(3, output), text(4, op), extra].concat());
        self.parts.push(bytes(1, &node));
        self
    }

    fn message(&self, name: &str) -> Vec<u8> {
        [self.parts.concat(), text(2, name)].concat()
    }

    /// Returns the bytes of the model file.
    pub fn model(self) -> Vec<u8> {
        let opset = [text(1, ""), int(2, 20)].concat();
        let contrib = [text(1, "com.microsoft"), int(2, 1)].concat();
        [int(1, 9), bytes(7, &self.message("g")), bytes(8, &opset), bytes(8, &contrib)].concat()
    }
}

/// Returns a tensor of floats that are stored in a file.
fn external(name: &str, shape: &[i64], location: &str) -> Vec<u8> {
    let location = [text(1, "location"), text(2, location)].concat();
    let mut tensor: Vec<u8> = shape.iter().flat_map(|&n| int(1, n as u64)).collect();
    tensor.extend([int(2, FLOAT), text(8, name), bytes(13, &location), int(14, 1)].concat());
    tensor
}

/// Negative sizes depend on the run: -1 is the batch, and each other number is a size of its own.
fn value_info(name: &str, kind: u64, shape: &[i64]) -> Vec<u8> {
    let symbol = |n: i64| if n == -1 { "batch".to_owned() } else { format!("size{}", -n) };
    let dimension = |&n: &i64| bytes(1, &if n < 0 { text(2, &symbol(n)) } else { int(1, n as u64) });
    let dimensions: Vec<u8> = shape.iter().flat_map(dimension).collect();
    let tensor = [int(1, kind), bytes(2, &dimensions)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

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
pub(crate) fn turn() -> Graph {
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

/// Returns a classifier without faults: .25 for `fine`, .75 for `bad`, else .5.
pub fn plain_classifier() -> Vec<u8> {
    Graph::default()
        .input("ids", INT64, &[-1, 1])
        .floats("p", &[9], &[0.5, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
        .node("Gather", &["p", "ids"], "scores")
        .output("scores", FLOAT, &[-1, 1])
        .model()
}

/// Returns an encoder with a fault on request. Its embedding is one number, and its features are a hundred times that
/// number.
pub fn faulty_encoder() -> Vec<u8> {
    faulty(Graph::default())
        .node("Identity", &["value"], "embedding")
        .floats("hundred", &[1], &[100.0])
        .node("Mul", &["value", "hundred"], "scaled")
        .ints("across", &[2], &[1, 384])
        .node("Tile", &["scaled", "across"], "wide")
        .node_with("Cast", &["wide"], "features", &[("to", INT8)])
        .output("embedding", FLOAT, &[-1, -1])
        .output("features", INT8, &[-1, -1])
        .model()
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

/// A folder for experts.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, id: &str, name: &str, bytes: &[u8]) -> String {
        let folder = self.path().join(id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
        format!("file = \"{name}\"\nsha256 = \"{}\"\n", sha256(bytes))
    }

    /// Adds an expert with its graph. `rest` follows the section `[model]` of its manifest.
    pub fn add(&self, id: &str, kind: &str, top: &str, graph: &[u8], rest: &str) -> &Self {
        let file = self.put(id, "model.onnx", graph);
        self.manifest(
            id,
            &format!(
                "id = \"{id}\"\nkind = \"{kind}\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n{top}\n[model]\n{file}{rest}"
            ),
        )
    }

    pub fn manifest(&self, id: &str, text: &str) -> &Self {
        fs::create_dir_all(self.path().join(id)).unwrap();
        fs::write(self.path().join(id).join("manifest.toml"), text).unwrap();
        self
    }

    /// Returns the manifest's lines for a tokenizer of one word.
    pub fn tokenizer(&self, id: &str) -> String {
        format!("[tokenizer]\n{}max_tokens = 1\n", self.put(id, "tokenizer.json", &tokenizer()))
    }

    pub fn classifier(&self, id: &str, graph: &[u8]) -> &Self {
        let rest = format!("{}[inputs]\nids = \"ids\"\n{SCORES}", self.tokenizer(id));
        self.add(id, "classifier", "", graph, &rest)
    }

    pub fn encoder(&self, id: &str, graph: &[u8]) -> &Self {
        let outputs =
            "[inputs]\nids = \"ids\"\n[outputs]\nembedding = \"embedding\"\nfeatures = \"features\"\n";
        let rest = format!("{}{outputs}", self.tokenizer(id));
        self.add(id, "encoder", "", graph, &rest)
    }

    pub fn head(&self, id: &str, graph: &[u8]) -> &Self {
        let rest = format!("[inputs]\nembedding = \"embedding\"\n{SCORES}");
        self.add(id, "head", "encoder = \"encoder\"", graph, &rest)
    }

    /// Writes a file of external data. Returns its lines of the manifest, which follow those of the model.
    pub fn external(&self, id: &str, name: &str, bytes: &[u8]) -> String {
        format!("[[model.external_data]]\n{}", self.put(id, name, bytes))
    }

    /// Adds a classifier whose manifest lists this external data.
    pub fn external_classifier(&self, id: &str, graph: &[u8], listed: &str) -> &Self {
        let rest = format!("{listed}{}[inputs]\nids = \"ids\"\n{SCORES}", self.tokenizer(id));
        self.add(id, "classifier", "", graph, &rest)
    }

    pub fn rules(&self, id: &str, rules: &str) -> &Self {
        let file = self.put(id, "rules.toml", rules.as_bytes());
        self.manifest(
            id,
            &format!(
                "id = \"{id}\"\nkind = \"rules\"\ndescription = \"d\"\nlicence = \"MIT\"\nsource = \"s\"\n[rules]\n{file}"
            ),
        )
    }
}

pub const SCORES: &str =
    "[outputs]\nscores = \"scores\"\n[[labels]]\nname = \"harm\"\ncategory = \"harm\"\nunsafe = true\n";
