//! External data of ONNX graphs: weights that a graph keeps in other files.
//!
//! Each such file is in the expert's folder and is listed in the manifest with its hash. The runtime gets the bytes and
//! opens no file itself: it would look in the directory in which the process was started, and would verify nothing.

use std::collections::BTreeSet;

use prost::Message;

use super::files::{read_external_verified, read_verified};
use super::parts::LoadError;
use crate::experts::backend::onnx::session::GraphBytes;
use crate::experts::error::PanelError;
use crate::experts::manifest::{GraphFiles, is_plain_file};

/// The number of bytes of a location that an error message shows.
const SHOWN_BYTES: usize = 80;

/// Reads a graph with its external data.
///
/// # Errors
/// Returns `NotLoaded` if the file is no ONNX graph, and `Refused` if a file is missing, has another hash than the
/// manifest lists, or is not listed.
pub(super) fn read_graph(files: &GraphFiles) -> Result<GraphBytes, LoadError> {
    let graph = read_verified(&files.file)?;
    check_locations(files, &locations(&graph).map_err(LoadError::NotLoaded)?)?;
    let external = files.external.iter().map(|file| Ok((file.name(), read_external_verified(file)?)));
    Ok(GraphBytes { graph, external: external.collect::<Result<_, PanelError>>()? })
}

/// Refuses a graph whose external data is not exactly what its manifest lists.
fn check_locations(files: &GraphFiles, found: &Locations) -> Result<(), PanelError> {
    let refuse = |problem: String, remedy: &str| {
        Err(PanelError::Manifest {
            path: files.file.path.with_file_name("manifest.toml"),
            field: "model.external_data".to_owned(),
            problem,
            remedy: remedy.to_owned(),
        })
    };
    if let Some(nested) = found.nested.first() {
        return refuse(
            format!("the graph keeps numbers of a node or of a nested graph in {}", quoted(nested)),
            "save the graph with all of them inside, or only initializers of the main graph outside",
        );
    }
    let is_listed = |location: &[u8]| files.external.iter().any(|file| file.name().as_bytes() == location);
    if let Some(location) = found.initializers.iter().find(|location| !is_listed(location)) {
        return if std::str::from_utf8(location).is_ok_and(is_plain_file) {
            refuse(
                format!("the graph keeps weights in {}, which is not listed", quoted(location)),
                "list that file of this folder with its sha256sum: docs/adding-an-expert.md shows how",
            )
        } else {
            refuse(
                format!("the graph keeps weights in {}, which is no file of this folder", quoted(location)),
                "save the graph again with its weights in one file beside it",
            )
        };
    }
    let is_unused = |name: &String| !found.initializers.contains(name.as_bytes());
    if let Some(unused) = files.external.iter().map(|file| file.name()).find(is_unused) {
        return refuse(
            format!("the graph keeps nothing in {}", quoted(unused.as_bytes())),
            "remove it from the list, or put the graph that belongs to it here",
        );
    }
    Ok(())
}

/// A location for an error message, cut to [`SHOWN_BYTES`].
fn quoted(location: &[u8]) -> String {
    let text = String::from_utf8_lossy(location.get(..SHOWN_BYTES).unwrap_or(location)).into_owned();
    format!("{text:?}{}", if location.len() > SHOWN_BYTES { " …" } else { "" })
}

/// The locations of a graph's external data.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// The locations of the main graph's initializers.
    initializers: BTreeSet<Vec<u8>>,
    /// All other locations. The runtime accepts no bytes for them.
    nested: Vec<Vec<u8>>,
}

/// Finds the locations of a graph's external data.
///
/// # Errors
/// Returns a message if the bytes are no ONNX graph.
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

/// The parts of ONNX's messages in which external data can be. Other fields are skipped. Strings are bytes, because the
/// runtime does not require UTF-8.
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
    /// Adds the locations of everything but the initializers.
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

/// An attribute of a node. Fields that are singular in ONNX's definition are repeated here, because they can occur
/// several times on the wire.
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
    /// The `data_location`: 1 for external data.
    #[prost(int32, tag = "14")]
    data_location: i32,
}

impl Tensor {
    /// The locations of its external data; an empty location if it has external data and names none.
    fn locations(&self) -> Vec<Vec<u8>> {
        let named = self.external.iter().filter(|entry| entry.key == b"location");
        let mut named: Vec<_> = named.map(|entry| entry.value.clone()).collect();
        if named.is_empty() && self.data_location != 0 {
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
        Tensor { external: vec![entry("location", location), entry("offset", "0")], data_location: 1 }
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
        let inside = Tensor { external: Vec::new(), data_location: 0 };
        let nameless = Tensor { external: Vec::new(), data_location: 1 };
        let main = graph(vec![outside("b"), inside, outside("a"), outside("b"), nameless], Vec::new());
        // A second graph is merged into the first.
        let model = Model { graph: vec![main, graph(vec![outside("c")], Vec::new())], functions: Vec::new() };
        assert_eq!(found(&model), (["", "a", "b", "c"].map(str::to_owned).to_vec(), Vec::new()));
    }

    #[test]
    fn locations_in_attributes_and_nested_graphs_are_found() {
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
    fn bytes_that_are_no_protobuf_or_too_deep_are_no_graph() {
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
