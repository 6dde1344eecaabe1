//! The inputs and outputs of a causal language model's graph, as exporters name them.
//!
//! | input | shape | meaning |
//! |---|---|---|
//! | `input_ids` | \[rows, tokens\] | token ids |
//! | `attention_mask` | \[rows, past + tokens\] | 1 for tokens, 0 for padding |
//! | `position_ids` | \[rows, tokens\] | the tokens' positions, which go on after the past |
//! | `use_cache_branch` | \[1\] | `true` if there is a past, in merged decoders |
//! | `past_key_values.N.key`, `.value` | \[rows, heads, past, width\] | keys and values of earlier tokens |
//!
//! Outputs are `logits` and, for each past, `present.N.key` and `present.N.value`. A past whose number of rows is fixed
//! to one is shared by all rows of a run. Only `input_ids` and `logits` are required.

use ort::value::TensorElementType;

use crate::experts::backend::onnx::session::{Graph, GraphInput};
use crate::experts::error::Misfit;

/// The output that holds the next token's scores.
pub(super) const LOGITS: &str = "logits";
const PAST_PREFIX: &str = "past_key_values.";
const PRESENT_PREFIX: &str = "present.";
const REMEDY: &str =
    "export the model as a decoder for text generation with the names of docs/adding-an-expert.md";

/// An input for the keys or values of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PastInput {
    pub(super) name: String,
    /// The output that holds the same keys or values with those of this run.
    pub(super) present: String,
    pub(super) kind: TensorElementType,
    pub(super) heads: usize,
    pub(super) width: usize,
}

/// The inputs of a graph, and the type of its logits.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) ids: GraphInput,
    pub(super) mask: Option<GraphInput>,
    pub(super) positions: Option<GraphInput>,
    /// The input that selects the branch with a past.
    pub(super) cache_branch: Option<String>,
    /// Empty if the graph takes no past.
    pub(super) past: Vec<PastInput>,
    /// All rows of a run share a past of one row.
    pub(super) shares_past: bool,
    /// The numbers in the graph have 16 bits.
    pub(super) half: bool,
}

impl Layout {
    /// Reads the layout of a graph.
    ///
    /// # Errors
    /// Returns a `Misfit` if the graph lacks an input or output, or has one that is not known.
    pub(super) fn of(graph: &Graph) -> Result<Self, Misfit> {
        let refuse = |problem: String| Misfit::new("model.file", problem, REMEDY);
        let ids = whole_number(graph, "input_ids")?.ok_or_else(|| {
            refuse(format!("the graph has no input input_ids; it has {}", graph.inputs().join(", ")))
        })?;
        let logits = graph.output(LOGITS).ok_or_else(|| {
            refuse(format!("the graph has no output {LOGITS}; it has {}", graph.outputs().join(", ")))
        })?;
        if !is_float(logits) {
            return Err(refuse(format!("the graph gives {logits} for {LOGITS}, not float32 or float16")));
        }
        let (mut past, mut shares_past, mut cache_branch) = (Vec::new(), Vec::new(), None);
        for name in graph.inputs() {
            match name.as_str() {
                "input_ids" | "attention_mask" | "position_ids" => {}
                "use_cache_branch" => cache_branch = Some(name),
                _ if name.starts_with(PAST_PREFIX) => {
                    let (input, shared) = past_input(graph, name)?;
                    past.push(input);
                    shares_past.push(shared);
                }
                _ => return Err(refuse(format!("the graph also wants {name:?}, which a guard cannot fill"))),
            }
        }
        let shares = shares_past.first().copied().unwrap_or(false);
        if shares_past.iter().any(|other| *other != shares) {
            return Err(refuse("some pasts have one row and others have several".to_owned()));
        }
        let half = logits == TensorElementType::Float16
            || past.iter().any(|input| input.kind == TensorElementType::Float16);
        Ok(Self {
            ids,
            mask: whole_number(graph, "attention_mask")?,
            positions: whole_number(graph, "position_ids")?,
            cache_branch,
            past,
            shares_past: shares,
            half,
        })
    }
}

fn is_float(kind: TensorElementType) -> bool {
    matches!(kind, TensorElementType::Float32 | TensorElementType::Float16)
}

/// The input of that name, which takes whole numbers; `None` if the graph has none.
fn whole_number(graph: &Graph, name: &str) -> Result<Option<GraphInput>, Misfit> {
    match graph.input(name) {
        Some(input) if !matches!(input.kind, TensorElementType::Int64 | TensorElementType::Int32) => {
            let problem = format!("the graph declares {} for {name}", input.kind);
            Err(Misfit::new("model.file", problem, "convert the graph to int64 or int32 there"))
        }
        found => Ok(found),
    }
}

/// Reads an input for a past. Returns it, and whether its number of rows is fixed to one.
fn past_input(graph: &Graph, name: String) -> Result<(PastInput, bool), Misfit> {
    let refuse = |problem: String| Misfit::new("model.file", problem, REMEDY);
    let input = graph.input(&name).ok_or_else(|| refuse(format!("{name} is not a tensor")))?;
    let sizes: Vec<Option<usize>> =
        graph.input_shape(&name).iter().map(|&size| usize::try_from(size).ok()).collect();
    let &[rows, Some(heads), _, Some(width)] = sizes.as_slice() else {
        let shape = graph.input_shape(&name);
        return Err(refuse(format!(
            "{name} has shape {shape:?}, not [rows, heads, tokens, width] with fixed heads and width"
        )));
    };
    if !is_float(input.kind) {
        return Err(refuse(format!("the graph declares {} for {name}, not float32 or float16", input.kind)));
    }
    let present = name.replacen(PAST_PREFIX, PRESENT_PREFIX, 1);
    if graph.output(&present) != Some(input.kind) {
        return Err(refuse(format!("the graph has no output {present} of the type of {name}")));
    }
    Ok((PastInput { name, present, kind: input.kind, heads, width }, rows == Some(1)))
}
