//! The execution providers: the devices on which graphs run.

use std::path::PathBuf;

use ort::ep;
use ort::memory::AllocationDevice;

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
    pub(super) fn devices(&self) -> String {
        match self {
            Self::Cpu => "cpu:0".to_owned(),
            Self::Cuda { device, .. } | Self::TensorRt { device, .. } => format!("cpu:0;gpu:{device}"),
        }
    }

    /// The device on which an output can stay for another graph to read it.
    pub(super) fn memory(&self) -> (AllocationDevice<'static>, i32) {
        match self {
            Self::Cpu => (AllocationDevice::CPU, 0),
            Self::Cuda { device, .. } | Self::TensorRt { device, .. } => (AllocationDevice::CUDA, *device),
        }
    }

    /// The providers in order of preference: each node runs on the first that supports it.
    pub(super) fn dispatch(&self) -> Vec<ep::ExecutionProviderDispatch> {
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
