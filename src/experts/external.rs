//! Weights that an ONNX graph keeps in files of their own, its external data: each file is in the expert's folder, is
//! listed in the manifest with its hash, and is given to the runtime as bytes. The runtime opens no file itself: it
//! would look for one where the process was started, and check nothing.

use std::collections::BTreeSet;

use prost::Message;

use super::error::PanelError;
use super::files::{verified, verified_beside};
use super::manifest::GraphFiles;
pub(super) use crate::experts::backend::onnx::session::GraphBytes as Bytes;

/// Bytes of a location that an error shows.
const SHOWN: usize = 80;

/// Reads a graph with its external data. The inner error is the graph's: it is no ONNX, and cannot be loaded.
///
/// # Errors
/// Returns an error if a file is missing, is not the one that the manifest means, or is not listed there.
pub(super) fn read(files: &GraphFiles) -> Result<Result<Bytes, String>, PanelError> {
    let graph = verified(&files.file)?;
    let refuse = |problem: String, mend: &str| PanelError::Manifest {
        path: files.file.path.with_file_name("manifest.toml"),
        field: "model.external_data".to_owned(),
        problem,
        mend: mend.to_owned(),
    };
    let found = match locations(&graph) {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    if let Some(nested) = found.nested.first() {
        return Err(refuse(
            format!("the graph keeps numbers of a node or of a nested graph in {}", shown(nested)),
            "save the graph with all of them inside, or only initializers of the main graph outside",
        ));
    }
    let listed = |location: &[u8]| files.external.iter().any(|file| file.name().as_bytes() == location);
    if let Some(location) = found.initializers.iter().find(|location| !listed(location)) {
        let plain = std::str::from_utf8(location).is_ok_and(super::check::is_plain_file);
        return Err(if plain {
            refuse(
                format!("the graph keeps weights in {}, which is not listed", shown(location)),
                "list that file of this folder with its sha256sum: docs/adding-an-expert.md shows how",
            )
        } else {
            refuse(
                format!("the graph keeps weights in {}, which is no file of this folder", shown(location)),
                "save the graph again with its weights in one file beside it",
            )
        });
    }
    if let Some(unused) =
        files.external.iter().find(|file| !found.initializers.contains(file.name().as_bytes()))
    {
        return Err(refuse(
            format!("the graph keeps nothing in {}", shown(unused.name().as_bytes())),
            "remove it from the list, or put the graph that belongs to it here",
        ));
    }
    let external = files.external.iter().map(|file| Ok((file.name(), verified_beside(file)?)));
    Ok(Ok(Bytes { graph, external: external.collect::<Result<_, PanelError>>()? }))
}

fn shown(location: &[u8]) -> String {
    let text = String::from_utf8_lossy(location.get(..SHOWN).unwrap_or(location)).into_owned();
    format!("{text:?}{}", if location.len() > SHOWN { " …" } else { "" })
}

/// Where a graph keeps numbers outside of its own file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// Those of the main graph's initializers.
    initializers: BTreeSet<Vec<u8>>,
    /// Those of anything else. The runtime takes no bytes for them.
    nested: Vec<Vec<u8>>,
}

/// Finds the external data of a graph.
///
/// # Errors
/// Returns a reason, for people, if the bytes are no ONNX.
pub fn locations(graph: &[u8]) -> Result<Locations, String> {
    let model = Model::decode(graph).map_err(|error| format!("it is no ONNX graph: {error}"))?;
    let mut found = Locations::default();
    for graph in &model.graph {
        for tensor in &graph.initializers {
            found.initializers.extend(tensor.locations());
        }
        graph.nested(&mut found.nested);
    }
    for function in &model.functions {
        function.nodes.iter().for_each(|node| node.nested(&mut found.nested));
        function.defaults.iter().for_each(|attribute| attribute.nested(&mut found.nested));
    }
    Ok(found)
}

/// The parts of ONNX's messages in which external data can be; all else is skipped. Texts are bytes, for the runtime
/// does not ask for UTF-8.
#[derive(Message)]
struct Model {
    #[prost(message, repeated, tag = "7")]
    graph: Vec<Graph>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "15")]
    sparse: Vec<Sparse>,
}

impl Graph {
    /// All but its initializers.
    fn nested(&self, found: &mut Vec<Vec<u8>>) {
        self.nodes.iter().for_each(|node| node.nested(found));
        self.sparse.iter().for_each(|sparse| sparse.nested(found));
    }
}

#[derive(Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    defaults: Vec<Attribute>,
}

#[derive(Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

impl Node {
    fn nested(&self, found: &mut Vec<Vec<u8>>) {
        self.attributes.iter().for_each(|attribute| attribute.nested(found));
    }
}

/// What may be there once may be there several times on the wire.
#[derive(Message)]
struct Attribute {
    #[prost(message, repeated, tag = "5")]
    tensor: Vec<Tensor>,
    #[prost(message, repeated, tag = "6")]
    graph: Vec<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, repeated, tag = "22")]
    sparse: Vec<Sparse>,
    #[prost(message, repeated, tag = "23")]
    sparses: Vec<Sparse>,
}

impl Attribute {
    fn nested(&self, found: &mut Vec<Vec<u8>>) {
        self.tensor.iter().chain(&self.tensors).for_each(|tensor| found.extend(tensor.locations()));
        self.sparse.iter().chain(&self.sparses).for_each(|sparse| sparse.nested(found));
        for graph in self.graph.iter().chain(&self.graphs) {
            graph.initializers.iter().for_each(|tensor| found.extend(tensor.locations()));
            graph.nested(found);
        }
    }
}

#[derive(Message)]
struct Sparse {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Tensor>,
    #[prost(message, repeated, tag = "2")]
    indices: Vec<Tensor>,
}

impl Sparse {
    fn nested(&self, found: &mut Vec<Vec<u8>>) {
        self.values.iter().chain(&self.indices).for_each(|tensor| found.extend(tensor.locations()));
    }
}

#[derive(Message)]
struct Tensor {
    #[prost(message, repeated, tag = "13")]
    external: Vec<Entry>,
    /// 1: the numbers are outside.
    #[prost(int32, tag = "14")]
    place: i32,
}

impl Tensor {
    /// Where its numbers are, if they are outside. An empty location if it names none.
    fn locations(&self) -> Vec<Vec<u8>> {
        let named = self.external.iter().filter(|entry| entry.key == b"location");
        let mut named: Vec<_> = named.map(|entry| entry.value.clone()).collect();
        if named.is_empty() && self.place != 0 {
            named.push(Vec::new());
        }
        named
    }
}

#[derive(Message)]
struct Entry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(location: &str) -> Tensor {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
        Tensor { external: vec![entry("location", location), entry("offset", "0")], place: 1 }
    }

    fn graph(initializers: Vec<Tensor>, nodes: Vec<Node>) -> Graph {
        Graph { nodes, initializers, sparse: Vec::new() }
    }

    fn found(model: &Model) -> (Vec<String>, Vec<String>) {
        let Locations { initializers, nested } = locations(&model.encode_to_vec()).unwrap();
        let texts = |all: Vec<Vec<u8>>| all.into_iter().map(|one| String::from_utf8(one).unwrap()).collect();
        (texts(initializers.into_iter().collect()), texts(nested))
    }

    #[test]
    fn initializers_are_found_each_location_once() {
        let inside = Tensor { external: Vec::new(), place: 0 };
        let nameless = Tensor { external: Vec::new(), place: 1 };
        let main = graph(vec![outside("b"), inside, outside("a"), outside("b"), nameless], Vec::new());
        // A second graph is merged into the first.
        let model = Model { graph: vec![main, graph(vec![outside("c")], Vec::new())], functions: Vec::new() };
        assert_eq!(found(&model), (["", "a", "b", "c"].map(str::to_owned).to_vec(), Vec::new()));
    }

    #[test]
    fn what_is_in_attributes_and_nested_graphs_is_found() {
        let attribute = |name: &str| Attribute {
            tensor: vec![outside(&format!("{name}-t"))],
            graph: vec![graph(vec![outside(&format!("{name}-g"))], Vec::new())],
            tensors: vec![outside(&format!("{name}-ts"))],
            graphs: vec![graph(vec![outside(&format!("{name}-gs"))], Vec::new())],
            sparse: vec![Sparse { values: vec![outside(&format!("{name}-v"))], indices: Vec::new() }],
            sparses: vec![Sparse { values: Vec::new(), indices: vec![outside(&format!("{name}-i"))] }],
        };
        let node = |name: &str| Node { attributes: vec![attribute(name)] };
        let sparse = vec![Sparse { values: vec![outside("s")], indices: Vec::new() }];
        let main = Graph { nodes: vec![node("n")], initializers: Vec::new(), sparse };
        let function = Function { nodes: vec![node("f")], defaults: vec![attribute("d")] };
        let (initializers, mut nested) = found(&Model { graph: vec![main], functions: vec![function] });
        nested.sort_unstable();
        let mut expected = vec!["s".to_owned()];
        for name in ["d", "f", "n"] {
            expected.extend(["t", "g", "ts", "gs", "v", "i"].map(|part| format!("{name}-{part}")));
        }
        expected.sort_unstable();
        assert_eq!((initializers, nested), (Vec::new(), expected));
    }

    #[test]
    fn what_is_no_protobuf_or_too_deep_is_no_graph() {
        assert!(locations(b"this is no graph").is_err());
        let mut deep = graph(vec![outside("x")], Vec::new());
        for _ in 0..40 {
            let attribute = Attribute { graph: vec![deep], ..Attribute::default() };
            deep = graph(Vec::new(), vec![Node { attributes: vec![attribute] }]);
        }
        let model = Model { graph: vec![deep], functions: Vec::new() };
        let reason = locations(&model.encode_to_vec()).unwrap_err();
        assert!(reason.contains("recursion"), "{reason}");
    }
}
