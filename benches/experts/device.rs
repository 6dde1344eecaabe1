//! The devices that run the graphs: the CPU and a GPU.

use std::sync::Arc;
use std::time::Duration;

use aegis::experts::batcher::Limits;
use aegis::experts::{Panel, PanelConfig, Provider, environment};
use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use crate::models;

/// The number of sessions of each graph.
const SESSIONS: usize = 2;

/// A device. The CPU has the configuration's default limits, and a GPU larger ones.
pub struct Device {
    pub provider: Provider,
    /// The path of ONNX Runtime's library in the models' folder.
    pub library: &'static str,
    /// Limits of batches whose texts are padded to the longest of them.
    pub limits: Limits,
    /// Limits of batches whose texts are padded to a fixed length.
    pub fixed: Limits,
    /// The number of texts that the panel accepts at a time.
    pub room: usize,
}

pub const PROCESSOR: Device = Device {
    provider: Provider::Cpu,
    library: "runtime/libonnxruntime.so",
    limits: Limits { tokens: 256, rows: 32, overhead: 8 },
    fixed: Limits { tokens: 3_200, rows: 16, overhead: 0 },
    room: 256,
};
pub const CARD: Device = Device {
    provider: Provider::Cuda { device: 0, memory_limit: None },
    library: "cuda/libonnxruntime.so",
    limits: Limits { tokens: 16_384, rows: 1_024, overhead: 8 },
    fixed: Limits { tokens: 16_384, rows: 1_024, overhead: 0 },
    room: 4_096,
};

impl Device {
    /// Returns the settings of a panel with these experts, or with all.
    pub fn config(&self, only: Option<&[&str]>) -> PanelConfig {
        let default = PanelConfig::new(models());
        if !self.provider.is_card() {
            assert_eq!((default.batch, default.fixed_batch), (self.limits, self.fixed));
        }
        PanelConfig {
            runtime: models().join(self.library),
            provider: self.provider.clone(),
            only: only.map(|only| only.iter().map(|id| (*id).to_owned()).collect()),
            sessions: Some(SESSIONS),
            batch: self.limits,
            fixed_batch: self.fixed,
            require_all: true,
            timeout: Duration::from_secs(600), // other programs may slow the machine
            ..default
        }
    }

    /// Opens a panel with these experts, or with all.
    pub fn panel(&self, only: Option<&[&str]>) -> Arc<Panel> {
        Arc::new(Panel::open(self.config(only)).unwrap())
    }

    /// Opens as many sessions of the encoder alone as the panel has.
    pub fn sessions(&self) -> Vec<Session> {
        let environment = environment(&models().join(self.library)).unwrap();
        let graph = std::fs::read(models().join("minilm/model.onnx")).unwrap();
        let one = || {
            let builder = Session::builder(&environment)
                .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::Level3)?))
                .and_then(|b| Ok(b.with_intra_threads(1)?.with_memory_pattern(false)?));
            let mut builder = builder.unwrap();
            if self.provider.is_card() {
                let cuda = ep::CUDA::default().with_tf32(false).build().error_on_failure();
                builder = builder.with_execution_providers([cuda]).unwrap();
            }
            builder.commit_from_memory(&graph).unwrap()
        };
        std::iter::repeat_with(one).take(SESSIONS).collect()
    }
}
