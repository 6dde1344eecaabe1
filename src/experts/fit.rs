//! Whether a graph fits its manifest: names and types as declared, sizes by a first run.

use std::borrow::Cow;

use ort::session::RunOptions;
use ort::value::{TensorElementType, TensorRef};

use super::backend::onnx::input::{ClassifierInput, StringInput, TokenInputs};
use super::backend::onnx::session::{Graph, GraphInput, Inputs, matrix};
use super::backend::onnx::{Classifier, Encoder, Head, Scorer};
use super::backend::result::{ErrorLog, RunError, catch_panic};
use super::error::PanelError;
use super::manifest::{Intake, Reading, Scores};
use super::tokenize::Misfit;
use crate::core::vote::Abstention;

pub(super) fn misfit(id: &str, (field, problem, mend): Misfit) -> PanelError {
    PanelError::Misfit { id: id.to_owned(), field: field.to_owned(), problem, mend: mend.to_owned() }
}

fn input(id: &str, graph: &Graph, field: &'static str, name: &str) -> Result<GraphInput, PanelError> {
    graph.input(name).ok_or_else(|| {
        let problem = format!("the graph has no input {name:?}; it has {}", graph.inputs().join(", "));
        misfit(id, (field, problem, "name one of those"))
    })
}

fn whole_number_input(
    id: &str,
    graph: &Graph,
    field: &'static str,
    name: &str,
) -> Result<GraphInput, PanelError> {
    let port = input(id, graph, field, name)?;
    match port.kind {
        TensorElementType::Int64 | TensorElementType::Int32 | TensorElementType::Float32 => Ok(port),
        other => {
            let problem = format!("the graph declares {other} for {name:?}");
            Err(misfit(id, (field, problem, "convert the graph to int64, int32 or float32 there")))
        }
    }
}

fn output(
    id: &str,
    graph: &Graph,
    field: &'static str,
    name: &str,
    kind: TensorElementType,
) -> Result<(), PanelError> {
    match graph.output(name) {
        Some(found) if found == kind => Ok(()),
        Some(found) => {
            let problem = format!("the graph gives {found} for {name:?}, not {kind}");
            Err(misfit(id, (field, problem, "add a Cast to the graph, or name another output")))
        }
        None => {
            let problem = format!("the graph has no output {name:?}; it has {}", graph.outputs().join(", "));
            Err(misfit(id, (field, problem, "name one of those")))
        }
    }
}

/// Refuses a graph that wants more than it would be given.
fn nothing_else(id: &str, graph: &Graph, given: &[&str]) -> Result<(), PanelError> {
    match graph.inputs().iter().find(|name| !given.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let problem = format!("the graph also wants {name:?}, and no role fills it");
            Err(misfit(
                id,
                (
                    "inputs",
                    problem,
                    "give it a role (ids, mask, types, text, embedding), or export without it",
                ),
            ))
        }
    }
}

fn text_ports(id: &str, graph: &Graph, reading: &Reading) -> Result<TokenInputs, PanelError> {
    let ids = whole_number_input(id, graph, "inputs.ids", &reading.ids)?;
    let optional = |field, name: &Option<String>| {
        name.as_ref().map(|name| whole_number_input(id, graph, field, name)).transpose()
    };
    let mask = optional("inputs.mask", &reading.mask)?;
    let types = optional("inputs.types", &reading.types)?;
    let given: Vec<&str> =
        [Some(&ids), mask.as_ref(), types.as_ref()].into_iter().flatten().map(|p| p.name.as_str()).collect();
    nothing_else(id, graph, &given)?;
    Ok(TokenInputs { ids, mask, types, padding: reading.padding })
}

/// An input of strings, for one text a row.
fn text_port(id: &str, graph: &Graph, name: &str) -> Result<StringInput, PanelError> {
    let port = input(id, graph, "inputs.text", name)?;
    if port.kind != TensorElementType::String {
        let problem = format!("the graph declares {} for {name:?}", port.kind);
        return Err(misfit(id, ("inputs.text", problem, "name an input of strings, or give a tokenizer")));
    }
    nothing_else(id, graph, &[name])?;
    Ok(StringInput { name: name.to_owned(), column: port.rank > 1 })
}

fn scorer(id: &str, slot: usize, graph: Graph, scores: &Scores) -> Result<Scorer, PanelError> {
    output(id, &graph, "outputs.scores", &scores.output, TensorElementType::Float32)?;
    if let Some(read) = &scores.read {
        output(id, &graph, "outputs.read", read, TensorElementType::Float32)?;
    }
    Ok(Scorer {
        id: id.to_owned(),
        expert_index: slot,
        graph,
        scores: scores.clone(),
        errors: ErrorLog::default(),
    })
}

/// A classifier for one worker.
pub(super) fn classifier(
    id: &str,
    slot: usize,
    graph: Graph,
    intake: &Intake,
    scores: &Scores,
) -> Result<Classifier, PanelError> {
    let text = match intake {
        Intake::Tokens(reading) => ClassifierInput::Tokens(text_ports(id, &graph, reading)?),
        Intake::Text { input, .. } => ClassifierInput::Text(text_port(id, &graph, input)?),
    };
    Ok(Classifier { input: text, scorer: scorer(id, slot, graph, scores)? })
}

/// A head for one worker.
pub(super) fn head(
    id: &str,
    slot: usize,
    graph: Graph,
    embedding: &str,
    scores: &Scores,
) -> Result<Head, PanelError> {
    let port = input(id, &graph, "inputs.embedding", embedding)?;
    if port.kind != TensorElementType::Float32 {
        let problem = format!("the graph declares {} for {embedding:?}", port.kind);
        return Err(misfit(id, ("inputs.embedding", problem, "convert the graph to float32 there")));
    }
    nothing_else(id, &graph, &[embedding])?;
    Ok(Head { embedding: embedding.to_owned(), scorer: scorer(id, slot, graph, scores)? })
}

/// An encoder for one worker, without heads yet.
pub(super) fn encoder(
    id: &str,
    graph: Graph,
    reading: &Reading,
    embedding: &str,
    features: Option<&str>,
) -> Result<Encoder, PanelError> {
    let text = text_ports(id, &graph, reading)?;
    output(id, &graph, "outputs.embedding", embedding, TensorElementType::Float32)?;
    if let Some(features) = features {
        output(id, &graph, "outputs.features", features, TensorElementType::Int8)?;
    }
    Ok(Encoder {
        id: id.to_owned(),
        graph,
        input: text,
        embedding: embedding.to_owned(),
        features: features.map(str::to_owned),
        heads: Vec::new(),
        absent: Vec::new(),
        errors: ErrorLog::default(),
    })
}

/// Runs one token through a graph, the greatest that the tokenizer can give: a graph with a smaller
/// vocabulary refuses it. Without a tokenizer it is a letter. The inner error is why the graph does not run at all.
fn first_run<T>(
    id: &str,
    greatest: Option<u32>,
    wrong_shape: &'static str,
    mut run: impl FnMut(&[u32], &RunOptions) -> Result<T, RunError>,
) -> Result<Result<T, String>, PanelError> {
    let options = match RunOptions::new() {
        Ok(options) => options,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let fault = match run(&[greatest.unwrap_or_else(|| u32::from('a'))], &options) {
        Ok(given) => return Ok(Ok(given)),
        Err(fault) => fault,
    };
    if fault.reason == Abstention::WrongShape {
        return Err(misfit(id, (wrong_shape, fault.detail, "correct the graph or the manifest")));
    }
    if let Some(greatest) = greatest
        && run(&[0], &options).is_ok()
    {
        let problem = format!("it gives tokens up to {greatest}, and the graph does not take that one");
        return Err(misfit(
            id,
            ("tokenizer.file", problem, "give the tokenizer that the graph was trained with"),
        ));
    }
    Ok(Err(fault.detail))
}

impl Scorer {
    /// How many numbers the graph gives for one text.
    fn width(&mut self, inputs: Inputs<'_>, options: &RunOptions) -> Result<usize, RunError> {
        let (graph, output) = (&mut self.graph, self.scores.output.as_str());
        let read = self.scores.read.as_deref();
        let one_number = |name: &str, width: usize| match width {
            1 => Ok(()),
            _ => Err(RunError::shape(format!("outputs.read: {name:?} has {width} numbers a text, not one"))),
        };
        catch_panic(|| {
            graph.run(inputs, options, |outputs| {
                if let Some(read) = read {
                    one_number(read, matrix::<f32>(outputs, read, 1)?.1)?;
                }
                Ok(matrix::<f32>(outputs, output, 1)?.1)
            })
        })
    }

    fn fits_labels(&self, width: usize) -> Result<(), PanelError> {
        let labels = self.scores.labels.len();
        if width == labels {
            return Ok(());
        }
        let problem = format!("the graph gives {width} numbers a text, and {labels} labels are listed");
        Err(misfit(&self.id, ("labels", problem, "list one for each number, in the graph's order")))
    }
}

impl Classifier {
    /// A first run. Some reason: it cannot be used.
    pub(super) fn probe(&mut self, greatest: Option<u32>) -> Result<Option<String>, PanelError> {
        let id = self.scorer.id.clone();
        let (text, scorer) = (&self.input, &mut self.scorer);
        match first_run(&id, greatest, "outputs.scores", |tokens, options| {
            scorer.width(text.fill(&[tokens])?, options)
        })? {
            Ok(width) => self.scorer.fits_labels(width).map(|()| None),
            Err(reason) => Ok(Some(reason)),
        }
    }
}

impl Encoder {
    /// A first run: an embedding, or why the encoder cannot be used.
    pub(super) fn probe(&mut self, greatest: u32) -> Result<Result<Vec<f32>, String>, PanelError> {
        let id = self.id.clone();
        let encoded =
            first_run(&id, Some(greatest), "outputs", |tokens, options| self.encode(&[tokens], options))?;
        Ok(encoded.map(|encoded| encoded.embedding))
    }
}

impl Head {
    /// A first run on an embedding. Some reason: it cannot be used.
    pub(super) fn probe(&mut self, embedding: &[f32]) -> Result<Option<String>, PanelError> {
        let id = self.scorer.id.clone();
        let (name, scorer) = (self.embedding.as_str(), &mut self.scorer);
        let ran = first_run(&id, None, "outputs.scores", |_, options| {
            let tensor =
                TensorRef::from_array_view(([1, embedding.len()], embedding)).map_err(RunError::failed)?;
            scorer.width(vec![(Cow::from(name), tensor.into())], options)
        })?;
        match ran {
            Ok(width) => self.scorer.fits_labels(width).map(|()| None),
            Err(reason) => Ok(Some(reason)),
        }
    }
}
