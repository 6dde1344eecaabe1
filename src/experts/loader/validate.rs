//! Checks that a graph agrees with its manifest: the names and types of its inputs and outputs as declared, and their
//! sizes by a first run.

use std::borrow::Cow;

use ort::session::RunOptions;
use ort::value::{TensorElementType, TensorRef};

use super::parts::LoadError;
use crate::core::vote::Abstention;
use crate::experts::backend::Profile;
use crate::experts::backend::onnx::input::{ClassifierInput, StringInput, TokenInputs};
use crate::experts::backend::onnx::session::{Graph, GraphInput, Inputs};
use crate::experts::backend::onnx::tensors::matrix;
use crate::experts::backend::onnx::{Classifier, Encoder, Head, Scorer};
use crate::experts::backend::result::{ErrorLog, RunError, catch_panic};
use crate::experts::error::{Misfit, PanelError};
use crate::experts::manifest::features::FeatureOutputs;
use crate::experts::manifest::{Scores, TextInput, TokenizerSpec};

fn input(graph: &Graph, field: &'static str, name: &str) -> Result<GraphInput, Misfit> {
    graph.input(name).ok_or_else(|| {
        let problem = format!("the graph has no input {name:?}; it has {}", graph.inputs().join(", "));
        Misfit::new(field, problem, "name one of those")
    })
}

fn number_input(graph: &Graph, field: &'static str, name: &str) -> Result<GraphInput, Misfit> {
    let input = input(graph, field, name)?;
    match input.kind {
        TensorElementType::Int64 | TensorElementType::Int32 | TensorElementType::Float32 => Ok(input),
        other => {
            let problem = format!("the graph declares {other} for {name:?}");
            Err(Misfit::new(field, problem, "convert the graph to int64, int32 or float32 there"))
        }
    }
}

fn check_output(
    graph: &Graph,
    field: &'static str,
    name: &str,
    kind: TensorElementType,
) -> Result<(), Misfit> {
    match graph.output(name) {
        Some(found) if found == kind => Ok(()),
        Some(found) => {
            let problem = format!("the graph gives {found} for {name:?}, not {kind}");
            Err(Misfit::new(field, problem, "add a Cast to the graph, or name another output"))
        }
        None => {
            let problem = format!("the graph has no output {name:?}; it has {}", graph.outputs().join(", "));
            Err(Misfit::new(field, problem, "name one of those"))
        }
    }
}

/// Refuses a graph that has inputs which the manifest does not name.
fn refuse_other_inputs(graph: &Graph, named: &[&str]) -> Result<(), Misfit> {
    match graph.inputs().iter().find(|name| !named.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Misfit::new(
            "inputs",
            format!("the graph also wants {name:?}, and no role fills it"),
            "give it a role (ids, mask, types, text, embedding), or export without it",
        )),
    }
}

fn token_inputs(graph: &Graph, spec: &TokenizerSpec) -> Result<TokenInputs, Misfit> {
    let ids = number_input(graph, "inputs.ids", &spec.ids)?;
    let optional =
        |field, name: &Option<String>| name.as_ref().map(|name| number_input(graph, field, name)).transpose();
    let mask = optional("inputs.mask", &spec.mask)?;
    let types = optional("inputs.types", &spec.types)?;
    let inputs = [Some(&ids), mask.as_ref(), types.as_ref()].into_iter().flatten();
    refuse_other_inputs(graph, &inputs.map(|input| input.name.as_str()).collect::<Vec<_>>())?;
    Ok(TokenInputs { ids, mask, types, padding: spec.padding })
}

/// An input of strings, one for each text.
fn string_input(graph: &Graph, name: &str) -> Result<StringInput, Misfit> {
    let input = input(graph, "inputs.text", name)?;
    if input.kind != TensorElementType::String {
        let problem = format!("the graph declares {} for {name:?}", input.kind);
        return Err(Misfit::new("inputs.text", problem, "name an input of strings, or give a tokenizer"));
    }
    refuse_other_inputs(graph, &[name])?;
    Ok(StringInput { name: name.to_owned(), column: input.rank > 1 })
}

fn scorer(id: &str, expert_index: usize, graph: Graph, scores: &Scores) -> Result<Scorer, Misfit> {
    check_output(&graph, "outputs.scores", &scores.output, TensorElementType::Float32)?;
    if let Some(read) = &scores.read {
        check_output(&graph, "outputs.read", read, TensorElementType::Float32)?;
    }
    Ok(Scorer { id: id.to_owned(), expert_index, graph, scores: scores.clone(), errors: ErrorLog::default() })
}

/// A classifier for one worker.
pub(super) fn classifier(
    id: &str,
    expert_index: usize,
    graph: Graph,
    input: &TextInput,
    scores: &Scores,
) -> Result<Classifier, Misfit> {
    let profile = Profile::of_input(input);
    let input = match input {
        TextInput::Tokens(spec) => ClassifierInput::Tokens(token_inputs(&graph, spec)?),
        TextInput::Text { input, .. } => ClassifierInput::Text(string_input(&graph, input)?),
    };
    Ok(Classifier { profile, input, scorer: scorer(id, expert_index, graph, scores)? })
}

/// A head for one worker.
pub(super) fn head(
    id: &str,
    expert_index: usize,
    graph: Graph,
    embedding: &str,
    scores: &Scores,
) -> Result<Head, Misfit> {
    let input = input(&graph, "inputs.embedding", embedding)?;
    if input.kind != TensorElementType::Float32 {
        let problem = format!("the graph declares {} for {embedding:?}", input.kind);
        return Err(Misfit::new("inputs.embedding", problem, "convert the graph to float32 there"));
    }
    refuse_other_inputs(&graph, &[embedding])?;
    Ok(Head { embedding: embedding.to_owned(), scorer: scorer(id, expert_index, graph, scores)? })
}

/// An encoder for one worker, without heads yet.
pub(super) fn encoder(
    id: &str,
    graph: Graph,
    spec: &TokenizerSpec,
    embedding: &str,
    features: &FeatureOutputs,
) -> Result<Encoder, Misfit> {
    let input = token_inputs(&graph, spec)?;
    check_output(&graph, "outputs.embedding", embedding, TensorElementType::Float32)?;
    if let Some(alone) = &features.alone {
        check_output(&graph, "outputs.features", alone, TensorElementType::Int8)?;
    }
    if let Some(part) = &features.part {
        check_output(&graph, "outputs.features_part", part, TensorElementType::Int16)?;
    }
    Ok(Encoder {
        id: id.to_owned(),
        graph,
        input,
        embedding: embedding.to_owned(),
        features: features.clone(),
        heads: Vec::new(),
        absent: Vec::new(),
        errors: ErrorLog::default(),
    })
}

/// Runs a graph on one token: the greatest id that its tokenizer gives, because a graph with a smaller vocabulary fails
/// on it. A graph that has no tokenizer gets a letter.
///
/// # Errors
/// Returns `Refused` if the graph's output has the wrong shape or if the graph fails on the greatest id alone, and
/// `NotLoaded` if it does not run at all.
fn first_run<T>(
    id: &str,
    greatest_id: Option<u32>,
    output_field: &'static str,
    mut run: impl FnMut(&[u32], &RunOptions) -> Result<T, RunError>,
) -> Result<T, LoadError> {
    let options = RunOptions::new().map_err(|error| LoadError::NotLoaded(error.to_string()))?;
    let error = match run(&[greatest_id.unwrap_or_else(|| u32::from('a'))], &options) {
        Ok(output) => return Ok(output),
        Err(error) => error,
    };
    if error.reason == Abstention::WrongShape {
        let misfit = Misfit::new(output_field, error.detail, "correct the graph or the manifest");
        return Err(misfit.of(id).into());
    }
    if let Some(greatest) = greatest_id
        && run(&[0], &options).is_ok()
    {
        let problem = format!("it gives tokens up to {greatest}, and the graph does not take that one");
        let remedy = "give the tokenizer that the graph was trained with";
        return Err(Misfit::new("tokenizer.file", problem, remedy).of(id).into());
    }
    Err(LoadError::NotLoaded(error.detail))
}

impl Scorer {
    /// The number of values that the graph gives for one text.
    fn width(&mut self, inputs: Inputs<'_>, options: &RunOptions) -> Result<usize, RunError> {
        let (graph, output) = (&mut self.graph, self.scores.output.as_str());
        let read = self.scores.read.as_deref();
        let check_one_value = |name: &str, width: usize| match width {
            1 => Ok(()),
            _ => Err(RunError::shape(format!("outputs.read: {name:?} has {width} numbers a text, not one"))),
        };
        catch_panic(|| {
            graph.run(inputs, options, |outputs| {
                if let Some(read) = read {
                    check_one_value(read, matrix::<f32>(outputs, read, 1)?.1)?;
                }
                Ok(matrix::<f32>(outputs, output, 1)?.1)
            })
        })
    }

    fn check_labels(&self, width: usize) -> Result<(), PanelError> {
        let labels = self.scores.labels.len();
        if width == labels {
            return Ok(());
        }
        let problem = format!("the graph gives {width} numbers a text, and {labels} labels are listed");
        Err(Misfit::new("labels", problem, "list one for each number, in the graph's order").of(&self.id))
    }
}

impl Classifier {
    /// Runs the graph for the first time.
    pub(super) fn first_run(&mut self, greatest_id: Option<u32>) -> Result<(), LoadError> {
        let id = self.scorer.id.clone();
        let (input, scorer) = (&self.input, &mut self.scorer);
        let width = first_run(&id, greatest_id, "outputs.scores", |tokens, options| {
            scorer.width(input.fill(&[tokens])?, options)
        })?;
        Ok(self.scorer.check_labels(width)?)
    }
}

impl Encoder {
    /// Runs the graph for the first time. Returns the embedding.
    pub(super) fn first_run(&mut self, greatest_id: u32) -> Result<Vec<f32>, LoadError> {
        let id = self.id.clone();
        let run = |tokens: &[u32], options: &RunOptions| self.encode(&[tokens], options);
        Ok(first_run(&id, Some(greatest_id), "outputs", run)?.embedding)
    }
}

impl Head {
    /// Runs the graph for the first time, on an embedding.
    pub(super) fn first_run(&mut self, embedding: &[f32]) -> Result<(), LoadError> {
        let id = self.scorer.id.clone();
        let (name, scorer) = (self.embedding.as_str(), &mut self.scorer);
        let width = first_run(&id, None, "outputs.scores", |_, options| {
            let tensor =
                TensorRef::from_array_view(([1, embedding.len()], embedding)).map_err(RunError::failed)?;
            scorer.width(vec![(Cow::from(name), tensor.into())], options)
        })?;
        Ok(self.scorer.check_labels(width)?)
    }
}
