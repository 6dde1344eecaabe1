//! A session of a causal language model: rows of token ids in, the logits of each row's next token out.

use std::borrow::Cow;
use std::sync::Arc;

use half::f16;
use ort::memory::Allocator;
use ort::session::{Adapter, RunOptions, SessionInputValue, SessionOutputs};
use ort::value::{DynTensor, DynValue, Tensor, TensorElementType};

use super::layout::{LOGITS, Layout};
use crate::experts::backend::onnx::session::{Graph, Inputs};
use crate::experts::backend::onnx::tensors::whole_numbers;
use crate::experts::backend::result::{RunError, catch_panic};
use crate::experts::error::Misfit;
use crate::experts::manifest::Side;

/// The id that fills short rows. Masks hide it, so any id of the vocabulary serves.
const PADDING_ID: i64 = 0;

/// Keys and values of tokens that were read before, in the order of the layout's pasts.
pub(super) struct KeyValueCache {
    values: Vec<DynValue>,
    /// The number of tokens.
    pub(super) length: usize,
}

/// The options of a guard's runs, which select its LoRA adapter. An adapter itself cannot move to another thread, but
/// options that hold it can, so those of a guard with an adapter are made once.
pub(crate) enum GuardOptions {
    /// The plain base.
    Base,
    /// Runs with an adapter, whose numbers replace initializers of the graph.
    Adapter {
        /// Memory is kept for the next run.
        keep: Arc<RunOptions>,
        /// Memory is freed after the run.
        release: Arc<RunOptions>,
    },
}

impl GuardOptions {
    /// The options of runs with an adapter, for the sessions of one worker.
    pub(crate) fn with_adapter(model: &CausalModel, adapter: &Adapter) -> Result<Self, RunError> {
        let make = |release: bool| {
            let mut options = model.graph.options(0, release)?;
            options.add_adapter(adapter)?;
            Ok(Arc::new(options))
        };
        let made = make(false).and_then(|keep| Ok(Self::Adapter { keep, release: make(true)? }));
        made.map_err(|error: ort::Error| RunError::failed(error))
    }

    /// The options of a run whose longest row has `longest` tokens. With `release`, memory is freed after it.
    pub(super) fn of_run(
        &self,
        model: &CausalModel,
        longest: usize,
        release: bool,
    ) -> Result<Arc<RunOptions>, RunError> {
        let Self::Adapter { keep, release: releasing } = self else {
            return model.graph.options(longest, release).map(Arc::new).map_err(RunError::failed);
        };
        let options = if release || model.graph.releases(longest) { releasing } else { keep };
        // The run before it may have been cancelled.
        options.unterminate().map_err(RunError::failed)?;
        Ok(Arc::clone(options))
    }

    pub(crate) fn has_adapter(&self) -> bool {
        matches!(self, Self::Adapter { .. })
    }
}

/// The logits of each row's next token, and the cache behind the run if it was wanted.
pub(super) struct Step {
    pub(super) logits: Vec<Vec<f32>>,
    pub(super) cache: Option<KeyValueCache>,
}

/// The options of a step.
#[derive(Clone, Copy)]
pub(super) struct StepOptions<'a> {
    pub(super) run: &'a RunOptions,
    /// `run` selects an adapter.
    pub(super) has_adapter: bool,
}

/// Rows that run together.
pub(super) struct Rows<'a> {
    pub(super) rows: &'a [&'a [u32]],
    /// The tokens before each row. A cache of one row serves all rows if `repeat` is set, or if the graph shares it.
    pub(super) past: Option<&'a KeyValueCache>,
    /// The cache is repeated for each row.
    pub(super) repeat: bool,
    /// The side on which short rows are padded.
    pub(super) side: Side,
}

impl<'a> Rows<'a> {
    /// One row.
    pub(super) fn alone(row: &'a [&'a [u32]; 1], past: Option<&'a KeyValueCache>) -> Self {
        Self { rows: row, past, repeat: false, side: Side::Left }
    }
}

/// A session of a causal language model.
pub(crate) struct CausalModel {
    graph: Graph,
    pub(super) layout: Layout,
}

impl CausalModel {
    /// Checks the inputs and outputs of a graph.
    ///
    /// # Errors
    /// Returns a `Misfit` if it is not the graph of a causal language model.
    pub(crate) fn new(graph: Graph) -> Result<Self, Misfit> {
        let layout = Layout::of(&graph)?;
        Ok(Self { graph, layout })
    }

    /// Runs one token.
    ///
    /// # Errors
    /// Returns an error if the graph does not take it.
    pub(crate) fn try_token(&mut self, options: &GuardOptions, id: u32) -> Result<(), RunError> {
        let run = options.of_run(self, 1, false)?;
        let step = StepOptions { run: &run, has_adapter: options.has_adapter() };
        self.run(&Rows::alone(&[&[id]], None), step, false).map(drop)
    }

    /// Runs rows. `keep`: the cache behind the rows is wanted, which needs rows of equal length.
    pub(super) fn run(
        &mut self,
        rows: &Rows<'_>,
        options: StepOptions<'_>,
        keep: bool,
    ) -> Result<Step, RunError> {
        catch_panic(|| {
            let inputs = inputs(&self.layout, rows)?;
            let layout = &self.layout;
            let take = |mut outputs: SessionOutputs<'_>| {
                let logits = last_logits(&outputs, rows)?;
                let cache = keep.then(|| take_cache(layout, &mut outputs, rows)).transpose()?;
                Ok(Step { logits, cache })
            };
            // Adapters have no effect on a run with bound outputs, so with an adapter every output is made.
            if options.has_adapter {
                return self.graph.run_owned(inputs, options.run, take);
            }
            let present = layout.past.iter().map(|past| past.present.as_str());
            let kept: Vec<&str> = if keep { present.collect() } else { Vec::new() };
            self.graph.run_with_outputs(inputs, options.run, (&kept, &[LOGITS]), take)
        })
    }
}

/// The input tensors of rows.
fn inputs<'a>(layout: &'a Layout, rows: &Rows<'a>) -> Result<Inputs<'a>, RunError> {
    let (count, past) = (rows.rows.len(), rows.past.map_or(0, |cache| cache.length));
    let width = rows.rows.iter().map(|row| row.len()).max().unwrap_or(0).max(1);
    let (mut ids, mut mask, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows.rows {
        let before = if rows.side == Side::Left { width - row.len() } else { 0 };
        mask.extend(std::iter::repeat_n(1, past));
        for column in 0..width {
            let token = column.checked_sub(before).and_then(|index| Some((index, *row.get(index)?)));
            ids.push(token.map_or(PADDING_ID, |(_, id)| i64::from(id)));
            mask.push(i64::from(token.is_some()));
            let position = token.map_or(0, |(index, _)| past + index);
            positions.push(i64::try_from(position).map_err(RunError::failed)?);
        }
    }
    let shape = [count, width];
    let mut inputs = vec![(Cow::from(&layout.ids.name), whole_numbers(layout.ids.kind, shape, &ids)?)];
    if let Some(input) = &layout.mask {
        inputs.push((Cow::from(&input.name), whole_numbers(input.kind, [count, past + width], &mask)?));
    }
    if let Some(input) = &layout.positions {
        inputs.push((Cow::from(&input.name), whole_numbers(input.kind, shape, &positions)?));
    }
    if let Some(name) = &layout.cache_branch {
        let branch = Tensor::from_array(([1], vec![rows.past.is_some()])).map_err(RunError::failed)?;
        inputs.push((Cow::from(name), branch.into()));
    }
    for (place, input) in layout.past.iter().enumerate() {
        let value = match rows.past.map(|cache| &cache.values[place]) {
            Some(value) if rows.repeat && count > 1 => repeated(value, count)?.into(),
            Some(value) => SessionInputValue::from(value),
            None => {
                let rows = if layout.shares_past { 1 } else { count };
                let shape = [rows, input.heads, 0, input.width];
                let empty =
                    DynTensor::new(&Allocator::default(), input.kind, shape).map_err(RunError::failed)?;
                empty.into_dyn().into()
            }
        };
        inputs.push((Cow::from(&input.name), value));
    }
    Ok(inputs)
}

/// A cache of one row, repeated for each of `rows`.
fn repeated(value: &DynValue, rows: usize) -> Result<DynValue, RunError> {
    fn copies<T: ort::value::PrimitiveTensorElementType + Copy + std::fmt::Debug + 'static>(
        value: &DynValue,
        rows: usize,
    ) -> ort::Result<DynValue> {
        let (shape, numbers) = value.try_extract_tensor::<T>()?;
        let mut shape: Vec<i64> = shape.to_vec();
        if let Some(first) = shape.first_mut() {
            *first *= i64::try_from(rows).unwrap_or(i64::MAX);
        }
        Ok(Tensor::from_array((shape, numbers.repeat(rows)))?.into_dyn())
    }
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float16) => copies::<f16>(value, rows),
        _ => copies::<f32>(value, rows),
    }
    .map_err(RunError::failed)
}

/// The logits of each row's last token. Their shape is \[rows, tokens, vocabulary\], where a graph may give only the last
/// column, or \[rows, vocabulary\].
fn last_logits(outputs: &SessionOutputs<'_>, rows: &Rows<'_>) -> Result<Vec<Vec<f32>>, RunError> {
    let value = outputs.get(LOGITS).ok_or_else(|| RunError::shape(format!("no output {LOGITS}")))?;
    let shape = value.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
    let sizes: Option<Vec<usize>> = shape.iter().map(|&size| usize::try_from(size).ok()).collect();
    let width = rows.rows.iter().map(|row| row.len()).max().unwrap_or(0).max(1);
    let count = rows.rows.len();
    let (columns, vocabulary) = match sizes.as_deref() {
        Some(&[n, vocabulary]) if n == count => (1, vocabulary),
        Some(&[n, columns, vocabulary]) if n == count && (columns == 1 || columns == width) => {
            (columns, vocabulary)
        }
        _ => {
            return Err(RunError::shape(format!(
                "{LOGITS} has shape {shape:?} for {count} rows of {width} tokens"
            )));
        }
    };
    let column = |row: &&[u32]| match rows.side {
        Side::Right if columns > 1 => row.len().saturating_sub(1),
        _ => columns - 1,
    };
    let starts = rows.rows.iter().enumerate().map(|(n, row)| (n * columns + column(row)) * vocabulary);
    let wrong = |error: ort::Error| RunError::shape(error.to_string());
    if value.dtype().tensor_type() == Some(TensorElementType::Float16) {
        let (_, numbers) = value.try_extract_tensor::<f16>().map_err(wrong)?;
        let row = |start| numbers[start..start + vocabulary].iter().map(|number| number.to_f32()).collect();
        return Ok(starts.map(row).collect());
    }
    let (_, numbers) = value.try_extract_tensor::<f32>().map_err(wrong)?;
    Ok(starts.map(|start| numbers[start..start + vocabulary].to_vec()).collect())
}

/// Takes the keys and values behind a run of rows.
fn take_cache(
    layout: &Layout,
    outputs: &mut SessionOutputs<'_>,
    rows: &Rows<'_>,
) -> Result<KeyValueCache, RunError> {
    let length = rows.past.map_or(0, |cache| cache.length) + rows.rows.first().map_or(0, |row| row.len());
    let mut values = Vec::with_capacity(layout.past.len());
    for past in &layout.past {
        let present = &past.present;
        let value = outputs.remove(present).ok_or_else(|| RunError::shape(format!("no output {present}")))?;
        let shape = value.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
        if shape.get(2).copied() != i64::try_from(length).ok() {
            return Err(RunError::shape(format!("{present} has shape {shape:?} for {length} tokens")));
        }
        values.push(value);
    }
    Ok(KeyValueCache { values, length })
}
