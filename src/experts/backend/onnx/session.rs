//! ONNX Runtime: one environment for the process, graphs, and what they take and give.

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

use crate::core::vote::Abstention;
use crate::experts::error::PanelError;
use crate::experts::external::Bytes;
use crate::panics::contain;

/// What runs the graphs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA card; needs the library and packages of `onnxruntime-gpu`.
    Cuda {
        /// Number of the card.
        device: i32,
        /// Bytes that each session may take on it.
        memory_limit: Option<usize>,
    },
    /// The same card through TensorRT, which builds an engine for each graph first; what it cannot do is CUDA's.
    TensorRt {
        /// Number of the card.
        device: i32,
        /// Bytes that each session may take on it.
        memory_limit: Option<usize>,
        /// Folder for the engines: building one takes minutes.
        engines: PathBuf,
    },
}

impl Provider {
    /// The provider's word in logs and lists, e.g. `cpu` or `cuda:0`.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda { device, .. } => format!("cuda:{device}"),
            Self::TensorRt { device, .. } => format!("tensorrt:{device}"),
        }
    }

    /// Whether graphs run on a card.
    #[must_use]
    pub fn is_card(&self) -> bool {
        *self != Self::Cpu
    }

    /// Where sessions have arenas, as the runtime names them.
    pub(crate) fn devices(&self) -> String {
        match self {
            Self::Cpu => "cpu:0".to_owned(),
            Self::Cuda { device, .. } | Self::TensorRt { device, .. } => format!("cpu:0;gpu:{device}"),
        }
    }

    /// Where what a graph gives can stay for another graph to read.
    fn memory(&self) -> (AllocationDevice<'static>, i32) {
        match self {
            Self::Cpu => (AllocationDevice::CPU, 0),
            Self::Cuda { device, .. } | Self::TensorRt { device, .. } => (AllocationDevice::CUDA, *device),
        }
    }

    /// The first that can run a node does.
    fn dispatch(&self) -> Vec<ep::ExecutionProviderDispatch> {
        let cuda = |device: i32, memory_limit: Option<usize>| {
            // TF32 rounds factors to ten bits: votes would hang on the device that gave them.
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
        // Without this a missing provider falls back to the processor, silently.
        all.into_iter().map(ep::ExecutionProviderDispatch::error_on_failure).collect()
    }
}

/// What becomes of the memory that a run took. The runtime keeps it for the next run; without a bound one burst of
/// long texts would hold it for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arena {
    /// Length of the longest text after which it is kept.
    pub(crate) tokens: usize,
    /// Where sessions have arenas.
    pub(crate) devices: String,
}

impl Arena {
    /// Options for a run whose longest text has so many tokens; `give_back`: whatever it has.
    pub(crate) fn options(&self, longest: usize, give_back: bool) -> ort::Result<RunOptions> {
        let mut options = RunOptions::new()?;
        if give_back || longest > self.tokens {
            options.set("memory.enable_memory_arena_shrinkage", &self.devices)?;
        }
        Ok(options)
    }
}

/// The environment with the library that it came from. ort allows one per process, for good.
static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Loads ONNX Runtime's library, or gives what is loaded: one for the process, for whatever runs graphs in it.
///
/// # Errors
/// Where it cannot be loaded, or another one has been.
pub fn environment(library: &Path) -> Result<Environment, PanelError> {
    let refuse = |reason: String| PanelError::Runtime { path: library.to_owned(), reason };
    // A relative name would be sought beside the executable.
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
            // The runtime's own words: useful to a developer, and too many for an operator.
            tracing::debug!(?level, place, message, "ONNX Runtime");
        };
        let builder = ort::init_from(&path).map_err(|error| error.to_string())?;
        let builder = builder.with_name("aegis").with_telemetry(false).with_logger(Arc::new(logger));
        let environment = builder.build().map_err(|error| error.to_string())?;
        environment.set_log_level(LogLevel::Warning);
        Ok(environment)
    });
    let environment =
        built.unwrap_or_else(|_| Err("it is no ONNX Runtime of a version known here".to_owned()));
    let environment = environment.map_err(refuse)?;
    *held = Some((path, environment.clone()));
    Ok(environment)
}

/// Why a run gave nothing.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) reason: Abstention,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self { reason: Abstention::Failed, detail: error.to_string() }
    }

    pub(crate) fn shape(detail: String) -> Self {
        Self { reason: Abstention::WrongShape, detail }
    }
}

/// Runs `work`; a panic in it is a fault like any other.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    contain(work).unwrap_or_else(|_| Err(Fault::failed("it panicked")))
}

/// A graph ready to run, for one worker.
pub(crate) struct Graph {
    session: Session,
    memory: (AllocationDevice<'static>, i32),
}

/// What a graph is run on, by the inputs' names.
pub(crate) type Inputs<'a> = Vec<(Cow<'a, str>, SessionInputValue<'a>)>;

/// A named input with the type that the graph declares.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) kind: TensorElementType,
    /// Dimensions.
    pub(crate) rank: usize,
}

impl Graph {
    /// Loads a graph for so many threads. The outer error is the provider's, the inner the graph's.
    pub(crate) fn load(
        environment: &Environment,
        provider: &Provider,
        threads: usize,
        bytes: &Bytes,
    ) -> Result<Result<Self, String>, PanelError> {
        let refuse = |error: ort::Error| PanelError::Provider {
            provider: provider.word(),
            reason: error.to_string().trim().to_owned(),
        };
        let with_provider =
            Session::builder(environment).and_then(|b| Ok(b.with_execution_providers(provider.dispatch())?));
        let builder = with_provider.map_err(refuse)?;
        let made = Self::commit(builder, threads, bytes);
        Ok(made.map(|session| Self { session, memory: provider.memory() }).map_err(|error| error.to_string()))
    }

    fn commit(
        builder: ort::session::builder::SessionBuilder,
        threads: usize,
        bytes: &Bytes,
    ) -> ort::Result<Session> {
        // No spinning: workers share the cores. No memory patterns: shapes
        // change with each batch, and a pattern is kept for each.
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

    pub(crate) fn inputs(&self) -> Vec<String> {
        self.session.inputs().iter().map(|input| input.name().to_owned()).collect()
    }

    pub(crate) fn outputs(&self) -> Vec<String> {
        self.session.outputs().iter().map(|output| output.name().to_owned()).collect()
    }

    /// The input of that name, where it is a tensor.
    pub(crate) fn input(&self, name: &str) -> Option<Port> {
        let input = self.session.inputs().iter().find(|input| input.name() == name)?;
        let rank = input.dtype().tensor_shape().map_or(0, |shape| shape.len());
        Some(Port { name: name.to_owned(), kind: input.dtype().tensor_type()?, rank })
    }

    /// The type of the output of that name, where it is a tensor.
    pub(crate) fn output(&self, name: &str) -> Option<TensorElementType> {
        self.session.outputs().iter().find(|output| output.name() == name)?.dtype().tensor_type()
    }

    /// Runs the graph and lets `take` read what comes out.
    pub(crate) fn run<T>(
        &mut self,
        inputs: Inputs<'_>,
        options: &RunOptions,
        take: impl FnOnce(&SessionOutputs<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let outputs = self.session.run_with_options(inputs, options).map_err(Fault::failed)?;
        take(&outputs)
    }

    /// The same with outputs bound: `shared` stays where the provider works, and graphs of the same provider read it
    /// there; `other` comes to the host.
    pub(crate) fn run_bound<T>(
        &mut self,
        inputs: Inputs<'_>,
        options: &RunOptions,
        (shared, other): (&str, Option<&str>),
        take: impl FnOnce(SessionOutputs<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let bound = || {
            let mut binding = self.session.create_binding()?;
            for (name, value) in &inputs {
                binding.bind_input(&**name, &**value)?;
            }
            let (device, id) = self.memory.clone();
            let there = MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default)?;
            binding.bind_output_to_device(shared, &there)?;
            if let Some(name) = other {
                let host = (AllocationDevice::CPU, MemoryType::CPUOutput);
                binding.bind_output_to_device(
                    name,
                    &MemoryInfo::new(host.0, 0, AllocatorType::Device, host.1)?,
                )?;
            }
            Ok(binding)
        };
        let binding = bound().map_err(|error: ort::Error| Fault::failed(error))?;
        take(self.session.run_binding_with_options(&binding, options).map_err(Fault::failed)?)
    }
}

/// Whole numbers as a tensor of the type that the graph declares.
pub(crate) fn whole_numbers(
    kind: TensorElementType,
    shape: [usize; 2],
    values: &[i64],
) -> Result<SessionInputValue<'static>, Fault> {
    let made = match kind {
        TensorElementType::Int64 => Tensor::from_array((shape, values.to_vec())).map(SessionInputValue::from),
        TensorElementType::Int32 => {
            let values: Vec<i32> = values.iter().map(|&v| i32::try_from(v).unwrap_or(0)).collect();
            Tensor::from_array((shape, values)).map(SessionInputValue::from)
        }
        TensorElementType::Float32 => {
            // Exact: ids stay far below 2^24.
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Tensor::from_array((shape, values)).map(SessionInputValue::from)
        }
        other => {
            return Err(Fault::shape(format!("inputs of type {other} cannot be filled")));
        }
    };
    made.map_err(Fault::failed)
}

/// Reads an output of `rows` rows; gives the numbers, row by row, and how many a row has.
pub(crate) fn matrix<T: PrimitiveTensorElementType + Copy>(
    outputs: &SessionOutputs<'_>,
    name: &str,
    rows: usize,
) -> Result<(Vec<T>, usize), Fault> {
    let value = outputs.get(name).ok_or_else(|| Fault::shape(format!("no output {name}")))?;
    let (shape, numbers) =
        value.try_extract_tensor::<T>().map_err(|error| Fault::shape(error.to_string()))?;
    Ok((numbers.to_vec(), width(name, shape, rows)?))
}

/// Takes an output of `rows` rows as it lies, wherever that is; with the numbers on the host, row by row, and how many
/// a row has.
pub(crate) fn shared_matrix(
    outputs: &mut SessionOutputs<'_>,
    name: &str,
    rows: usize,
) -> Result<(Tensor<f32>, Vec<f32>, usize), Fault> {
    let value = outputs.remove(name).ok_or_else(|| Fault::shape(format!("no output {name}")))?;
    let shared = value.downcast::<TensorValueType<f32>>().map_err(|error| Fault::shape(error.to_string()))?;
    let width = width(name, shared.shape(), rows)?;
    let numbers = if shared.memory_info().is_cpu_accessible() {
        shared.extract_tensor().1.to_vec()
    } else {
        let host = shared.to(AllocationDevice::CPU, 0).map_err(Fault::failed)?;
        host.extract_tensor().1.to_vec()
    };
    Ok((shared, numbers, width))
}

/// How many numbers a row has, where there is a row for each text.
fn width(name: &str, shape: &[i64], rows: usize) -> Result<usize, Fault> {
    match *shape {
        [n, width] if usize::try_from(n) == Ok(rows) && width > 0 => Ok(usize::try_from(width).unwrap_or(0)),
        _ => Err(Fault::shape(format!("{name} has shape {shape:?} for {rows} texts"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_fault() {
        let fault = guarded::<()>(|| panic!("on purpose")).unwrap_err();
        assert_eq!(fault.reason, Abstention::Failed);
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
    }

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
