//! The loaded graphs and their runs.

use std::borrow::Cow;
use std::sync::Arc;

use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::TensorElementType;

use super::provider::Provider;
use crate::experts::backend::result::RunError;
use crate::experts::error::PanelError;

/// The memory that a session keeps after a run. The runtime keeps all of it for the next run, so that without a bound
/// one burst of long texts would hold it forever.
struct Arena {
    /// The length of the longest text after which the memory is kept, in tokens.
    tokens: usize,
    /// The devices on which sessions have arenas.
    devices: String,
}

impl Arena {
    /// Returns `true` if memory is freed after a run whose longest text has `longest` tokens.
    fn releases(&self, longest: usize) -> bool {
        longest > self.tokens
    }

    /// The options of a run whose longest text has `longest` tokens. With `release`, memory is freed after it in any
    /// case.
    fn options(&self, longest: usize, release: bool) -> ort::Result<RunOptions> {
        let mut options = RunOptions::new()?;
        if release || self.releases(longest) {
            options.set("memory.enable_memory_arena_shrinkage", &self.devices)?;
        }
        Ok(options)
    }
}

/// The bytes of a graph, and those of its external data by location.
pub(crate) struct GraphBytes {
    pub(crate) graph: Vec<u8>,
    pub(crate) external: Vec<(String, Arc<[u8]>)>,
}

/// A loaded graph, for one worker.
pub(crate) struct Graph {
    session: Session,
    memory: (AllocationDevice<'static>, i32),
    arena: Arena,
}

/// The input tensors of a run, with the inputs' names.
pub(crate) type Inputs<'a> = Vec<(Cow<'a, str>, SessionInputValue<'a>)>;

/// An input that a graph declares.
#[derive(Debug, Clone)]
pub(crate) struct GraphInput {
    pub(crate) name: String,
    pub(crate) kind: TensorElementType,
    /// The number of dimensions.
    pub(crate) rank: usize,
}

impl Graph {
    /// Loads a graph that runs in `threads` threads, and frees memory after runs of texts longer than `arena_tokens`.
    ///
    /// # Errors
    /// Returns an error if the provider cannot be used. The inner error is the reason why the graph cannot be loaded.
    pub(crate) fn load(
        environment: &Environment,
        provider: &Provider,
        threads: usize,
        arena_tokens: usize,
        bytes: &GraphBytes,
    ) -> Result<Result<Self, String>, PanelError> {
        let refuse = |error: ort::Error| PanelError::Provider {
            provider: provider.word(),
            reason: error.to_string().trim().to_owned(),
        };
        let with_provider =
            Session::builder(environment).and_then(|b| Ok(b.with_execution_providers(provider.dispatch())?));
        let builder = with_provider.map_err(refuse)?;
        let arena = Arena { tokens: arena_tokens, devices: provider.devices() };
        let session = Self::commit(builder, threads, bytes).map_err(|error| error.to_string());
        Ok(session.map(|session| Self { session, memory: provider.memory(), arena }))
    }

    fn commit(builder: SessionBuilder, threads: usize, bytes: &GraphBytes) -> ort::Result<Session> {
        // No spinning, because workers share the cores. No memory patterns, because shapes change with each batch and
        // the runtime keeps a pattern for each shape.
        let mut builder = builder
            .with_optimization_level(GraphOptimizationLevel::Level3)?
            .with_intra_threads(threads.max(1))?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_memory_pattern(false)?;
        for (location, bytes) in &bytes.external {
            builder = builder.with_external_initializer_file_in_memory(location, Arc::clone(bytes))?;
        }
        builder.commit_from_memory(&bytes.graph)
    }

    /// The options of a run whose longest text costs `longest` tokens. With `release`, memory is freed after it.
    pub(crate) fn options(&self, longest: usize, release: bool) -> ort::Result<RunOptions> {
        self.arena.options(longest, release)
    }

    /// Returns `true` if memory is freed after a run whose longest text costs `longest` tokens.
    pub(crate) fn releases(&self, longest: usize) -> bool {
        self.arena.releases(longest)
    }

    pub(crate) fn inputs(&self) -> Vec<String> {
        self.session.inputs().iter().map(|input| input.name().to_owned()).collect()
    }

    pub(crate) fn outputs(&self) -> Vec<String> {
        self.session.outputs().iter().map(|output| output.name().to_owned()).collect()
    }

    /// The input of that name, if it is a tensor.
    pub(crate) fn input(&self, name: &str) -> Option<GraphInput> {
        let input = self.session.inputs().iter().find(|input| input.name() == name)?;
        let rank = input.dtype().tensor_shape().map_or(0, |shape| shape.len());
        Some(GraphInput { name: name.to_owned(), kind: input.dtype().tensor_type()?, rank })
    }

    /// The sizes of the input of that name, -1 for those that depend on the run. Empty if it is not a tensor.
    pub(crate) fn input_shape(&self, name: &str) -> Vec<i64> {
        let input = self.session.inputs().iter().find(|input| input.name() == name);
        input.and_then(|input| input.dtype().tensor_shape()).map(|shape| shape.to_vec()).unwrap_or_default()
    }

    /// The element type of the output of that name, if it is a tensor.
    pub(crate) fn output(&self, name: &str) -> Option<TensorElementType> {
        self.session.outputs().iter().find(|output| output.name() == name)?.dtype().tensor_type()
    }

    /// Runs the graph and returns what `take` makes of its outputs.
    pub(crate) fn run<T>(
        &mut self,
        inputs: Inputs<'_>,
        options: &RunOptions,
        take: impl FnOnce(&SessionOutputs<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let outputs = self.session.run_with_options(inputs, options).map_err(RunError::failed)?;
        take(&outputs)
    }

    /// Runs the graph and returns what `take` makes of its outputs, which it may keep.
    pub(crate) fn run_owned<T>(
        &mut self,
        inputs: Inputs<'_>,
        options: &RunOptions,
        take: impl FnOnce(SessionOutputs<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        take(self.session.run_with_options(inputs, options).map_err(RunError::failed)?)
    }

    /// Runs the graph with bound outputs: `shared` stays on the provider's device, where graphs of the same provider
    /// read it, and `other` is copied to the host.
    pub(crate) fn run_bound<T>(
        &mut self,
        inputs: Inputs<'_>,
        options: &RunOptions,
        (shared, other): (&str, &[&str]),
        take: impl FnOnce(SessionOutputs<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        self.run_with_outputs(inputs, options, (&[shared], other), take)
    }

    /// Runs the graph only as far as these outputs need it. The first ones stay on the provider's device, and the others
    /// are copied to the host.
    pub(crate) fn run_with_outputs<T>(
        &mut self,
        inputs: Inputs<'_>,
        options: &RunOptions,
        (shared, other): (&[&str], &[&str]),
        take: impl FnOnce(SessionOutputs<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let bound = || {
            let mut binding = self.session.create_binding()?;
            for (name, value) in &inputs {
                binding.bind_input(&**name, &**value)?;
            }
            let memory = |(device, id): (AllocationDevice<'static>, i32), kind: MemoryType| {
                MemoryInfo::new(device, id, AllocatorType::Device, kind)
            };
            for name in shared {
                binding.bind_output_to_device(*name, &memory(self.memory.clone(), MemoryType::Default)?)?;
            }
            for name in other {
                let host = memory((AllocationDevice::CPU, 0), MemoryType::CPUOutput)?;
                binding.bind_output_to_device(*name, &host)?;
            }
            Ok(binding)
        };
        let binding = bound().map_err(|error: ort::Error| RunError::failed(error))?;
        take(self.session.run_binding_with_options(&binding, options).map_err(RunError::failed)?)
    }
}
