//! ONNX Runtime: the environment of the process, its graphs, and their inputs and outputs as tensors.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::{PrimitiveTensorElementType, Tensor, TensorElementType, TensorValueType};

use crate::experts::backend::result::RunError;
use crate::experts::error::PanelError;
use crate::panics::contain;

/// The execution provider that runs the graphs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Provider {
    /// The CPU.
    #[default]
    Cpu,
    /// CUDA on an NVIDIA card. It needs the library and packages of `onnxruntime-gpu`.
    Cuda {
        /// The number of the card.
        device: i32,
        /// Bytes of the card that each session may take; `None` is no limit.
        memory_limit: Option<usize>,
    },
    /// TensorRT on an NVIDIA card, which builds an engine for each graph first. CUDA runs the nodes that it does not
    /// support.
    TensorRt {
        /// The number of the card.
        device: i32,
        /// Bytes of the card that each session may take; `None` is no limit.
        memory_limit: Option<usize>,
        /// The folder that keeps the engines, because building one takes minutes.
        engines: PathBuf,
    },
}

impl Provider {
    /// The provider's name in logs and lists, e.g. `cpu` or `cuda:0`.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda { device, .. } => format!("cuda:{device}"),
            Self::TensorRt { device, .. } => format!("tensorrt:{device}"),
        }
    }

    /// Returns `true` if graphs run on a card.
    #[must_use]
    pub fn is_card(&self) -> bool {
        *self != Self::Cpu
    }

    /// The devices on which sessions have arenas, as the runtime names them.
    pub(crate) fn devices(&self) -> String {
        match self {
            Self::Cpu => "cpu:0".to_owned(),
            Self::Cuda { device, .. } | Self::TensorRt { device, .. } => format!("cpu:0;gpu:{device}"),
        }
    }

    /// The device on which an output can stay for another graph to read it.
    fn memory(&self) -> (AllocationDevice<'static>, i32) {
        match self {
            Self::Cpu => (AllocationDevice::CPU, 0),
            Self::Cuda { device, .. } | Self::TensorRt { device, .. } => (AllocationDevice::CUDA, *device),
        }
    }

    /// The providers in order of preference: each node runs on the first that supports it.
    fn dispatch(&self) -> Vec<ep::ExecutionProviderDispatch> {
        let cuda = |device: i32, memory_limit: Option<usize>| {
            // TF32 rounds factors to ten bits, so that votes would depend on the device.
            let cuda = ep::CUDA::default().with_device_id(device).with_tf32(false);
            memory_limit.map_or(cuda.clone(), |limit| cuda.with_memory_limit(limit)).build()
        };
        let all = match self {
            Self::Cpu => vec![ep::CPU::default().with_arena_allocator(true).build()],
            Self::Cuda { device, memory_limit } => vec![cuda(*device, *memory_limit)],
            Self::TensorRt { device, memory_limit, engines } => {
                let engine = ep::TensorRT::default()
                    .with_device_id(*device)
                    .with_engine_cache(true)
                    .with_engine_cache_path(engines.display());
                let engine =
                    memory_limit.map_or(engine.clone(), |limit| engine.with_max_workspace_size(limit));
                vec![engine.build(), cuda(*device, *memory_limit)]
            }
        };
        // Otherwise a missing provider falls back to the CPU silently.
        all.into_iter().map(ep::ExecutionProviderDispatch::error_on_failure).collect()
    }
}

/// The memory that a session keeps after a run. The runtime keeps all of it for the next run, so that without a bound
/// one burst of long texts would hold it forever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arena {
    /// The length of the longest text after which the memory is kept, in tokens.
    pub(crate) tokens: usize,
    /// The devices on which sessions have arenas.
    pub(crate) devices: String,
}

impl Arena {
    /// Returns `true` if memory is freed after a run whose longest text has `longest` tokens.
    fn releases(&self, longest: usize) -> bool {
        longest > self.tokens
    }

    /// The options of a run whose longest text has `longest` tokens. With `release`, memory is freed after it in any
    /// case.
    pub(crate) fn options(&self, longest: usize, release: bool) -> ort::Result<RunOptions> {
        let mut options = RunOptions::new()?;
        if release || self.releases(longest) {
            options.set("memory.enable_memory_arena_shrinkage", &self.devices)?;
        }
        Ok(options)
    }
}

/// The environment, with the path of its library. ort allows one per process, for the life of the process.
static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Loads ONNX Runtime's library, or returns the environment that is loaded already. A process has one of them.
///
/// # Errors
/// Returns an error if the library cannot be loaded, or if the process has already loaded another one.
pub fn environment(library: &Path) -> Result<Environment, PanelError> {
    let refuse = |reason: String| PanelError::Runtime { path: library.to_owned(), reason };
    // The loader would search for a relative name beside the executable.
    let path = library.canonicalize().map_err(|error| refuse(error.to_string()))?;
    let mut held = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((loaded, environment)) = held.as_ref() {
        if *loaded == path {
            return Ok(environment.clone());
        }
        return Err(refuse(format!("this process has already loaded {}", loaded.display())));
    }
    let built = contain(|| {
        let logger = |level: LogLevel, _: &str, _: &str, place: &str, message: &str| {
            // The runtime's messages help developers, and are too many for operators.
            tracing::debug!(?level, place, message, "ONNX Runtime");
        };
        let builder = ort::init_from(&path).map_err(|error| error.to_string())?;
        let builder = builder.with_name("aegis").with_telemetry(false).with_logger(Arc::new(logger));
        let environment = builder.build().map_err(|error| error.to_string())?;
        environment.set_log_level(LogLevel::Warning);
        Ok(environment)
    });
    let environment =
        built.unwrap_or_else(|_| Err("it is not an ONNX Runtime of a supported version".to_owned()));
    let environment = environment.map_err(refuse)?;
    *held = Some((path, environment.clone()));
    Ok(environment)
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

    fn commit(
        builder: ort::session::builder::SessionBuilder,
        threads: usize,
        bytes: &GraphBytes,
    ) -> ort::Result<Session> {
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
        (shared, other): (&str, Option<&str>),
        take: impl FnOnce(SessionOutputs<'_>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let other: Vec<&str> = other.into_iter().collect();
        self.run_with_outputs(inputs, options, (&[shared], &other), take)
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

/// Whole numbers as a tensor of the element type that the graph declares.
pub(crate) fn whole_numbers(
    kind: TensorElementType,
    shape: [usize; 2],
    values: &[i64],
) -> Result<SessionInputValue<'static>, RunError> {
    let made = match kind {
        TensorElementType::Int64 => Tensor::from_array((shape, values.to_vec())).map(SessionInputValue::from),
        TensorElementType::Int32 => {
            let values: Result<Vec<i32>, _> = values.iter().map(|&v| i32::try_from(v)).collect();
            let values = values.map_err(RunError::failed)?;
            Tensor::from_array((shape, values)).map(SessionInputValue::from)
        }
        TensorElementType::Float32 => {
            // This is exact, because ids stay far below 2^24.
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Tensor::from_array((shape, values)).map(SessionInputValue::from)
        }
        other => {
            return Err(RunError::shape(format!("inputs of type {other} cannot be filled")));
        }
    };
    made.map_err(RunError::failed)
}

/// Reads an output of shape `[rows, width]`. Returns the numbers, row by row, and the width.
pub(crate) fn matrix<T: PrimitiveTensorElementType + Copy>(
    outputs: &SessionOutputs<'_>,
    name: &str,
    rows: usize,
) -> Result<(Vec<T>, usize), RunError> {
    let value = outputs.get(name).ok_or_else(|| RunError::shape(format!("no output {name}")))?;
    let (shape, numbers) =
        value.try_extract_tensor::<T>().map_err(|error| RunError::shape(error.to_string()))?;
    Ok((numbers.to_vec(), width(name, shape, rows)?))
}

/// Takes an output of shape `[rows, width]` on the device that holds it. Returns it with a copy of the numbers on the
/// host, row by row, and the width.
pub(crate) fn shared_matrix(
    outputs: &mut SessionOutputs<'_>,
    name: &str,
    rows: usize,
) -> Result<(Tensor<f32>, Vec<f32>, usize), RunError> {
    let value = outputs.remove(name).ok_or_else(|| RunError::shape(format!("no output {name}")))?;
    let shared =
        value.downcast::<TensorValueType<f32>>().map_err(|error| RunError::shape(error.to_string()))?;
    let width = width(name, shared.shape(), rows)?;
    let numbers = if shared.memory_info().is_cpu_accessible() {
        shared.extract_tensor().1.to_vec()
    } else {
        let host = shared.to(AllocationDevice::CPU, 0).map_err(RunError::failed)?;
        host.extract_tensor().1.to_vec()
    };
    Ok((shared, numbers, width))
}

/// The number of columns of an output that must have one row for each text.
fn width(name: &str, shape: &[i64], rows: usize) -> Result<usize, RunError> {
    let fits = match *shape {
        [n, width] if usize::try_from(n) == Ok(rows) => {
            usize::try_from(width).ok().filter(|width| *width > 0)
        }
        _ => None,
    };
    fits.ok_or_else(|| RunError::shape(format!("{name} has shape {shape:?} for {rows} texts")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_refused_by_name() {
        let error = environment(Path::new("/nowhere/libonnxruntime.so")).unwrap_err();
        assert_eq!(error.name(), "Runtime");
        assert!(
            error.to_string().contains("/nowhere/libonnxruntime.so")
                && error.to_string().contains("make setup")
        );
    }
}
