//! The configuration of a panel.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::backend::onnx::provider::Provider;
use super::batcher::Limits;
use super::manifest::Precision;

/// The configuration of a panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelConfig {
    /// The folder whose folders are experts.
    pub folder: PathBuf,
    /// The library of ONNX Runtime. It is read only if an expert has a graph.
    pub runtime: PathBuf,
    /// The execution provider that runs the graphs.
    pub provider: Provider,
    /// The graph of those encoders that have several: each has one in float32.
    pub precision: Precision,
    /// The ids of the experts to ask; `None` is all. The encoders of heads are loaded with them. An encoder that is
    /// named here gives features without any head.
    pub only: Option<Vec<String>>,
    /// If `false`, remote experts are left out, and nothing is sent anywhere.
    pub remote: bool,
    /// The ids of the experts that a [shrunk](super::Stream::shrink) stream still asks. Heads that share an encoder
    /// with one of them are asked too, because they cost almost nothing, and so are rules.
    pub cheap: Vec<String>,
    /// Worker threads, each with its own session of every graph. `None` is the cores that the container allows, divided
    /// by the threads of a session; on a card it is two, so that one prepares a batch while the other runs.
    pub sessions: Option<usize>,
    /// Threads of each session.
    pub threads: usize,
    /// Threads of a stream that tokenise. `None` is one, which feeds as many cores as run graphs; a card may outrun it,
    /// so there it is half the cores, at most eight.
    pub tokenize_threads: Option<usize>,
    /// Limits of batches whose texts are padded to the longest of them.
    pub batch: Limits,
    /// Limits of batches whose texts are padded to a fixed length.
    pub fixed_batch: Limits,
    /// Padded tokens of a batch by the id of an encoder or classifier, in place of those limits.
    pub budgets: BTreeMap<String, usize>,
    /// The length in tokens of the longest text after which a session keeps the memory of its run for the next run.
    /// After a longer text it frees what it does not use.
    pub arena_tokens: usize,
    /// Bytes that the process may have resident. Above that, the run during which it grew is stopped and its expert
    /// abstains. `None` is no limit.
    pub memory: Option<usize>,
    /// Bytes for cached answers to texts that were asked about before; 0 disables the cache.
    pub cache: usize,
    /// The time that a run may take. Then it is stopped and its texts have timed out. A question takes at most twice as
    /// long, with the time that it waits.
    pub timeout: Duration,
    /// The time for which an expert that hangs or keeps failing is not asked. It doubles with each trial that fails, up
    /// to a minute.
    pub pause: Duration,
    /// Refuses the panel if an expert cannot be loaded, instead of letting it abstain.
    pub require_all: bool,
}

impl PanelConfig {
    /// A panel of all experts in `folder`, with the library that `make setup` installs there.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            runtime: folder.join("runtime/libonnxruntime.so"),
            folder,
            provider: Provider::Cpu,
            precision: Precision::Float32,
            only: None,
            remote: true,
            cheap: Vec::new(),
            sessions: None,
            threads: 1,
            tokenize_threads: None,
            batch: Limits { tokens: 256, rows: 32, overhead: 8 },
            fixed_batch: Limits { tokens: 3_200, rows: 16, overhead: 0 },
            budgets: BTreeMap::new(),
            arena_tokens: 512,
            memory: None,
            cache: 32 << 20,
            timeout: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            require_all: false,
        }
    }

    /// The number of worker threads, as configured or as fits the provider.
    pub(crate) fn workers(&self) -> usize {
        let usual = || if self.provider.is_card() { 2 } else { cores() / self.threads.max(1) };
        self.sessions.unwrap_or_else(usual).max(1)
    }

    /// The number of tokenizing threads of a stream, as configured or as fits the provider.
    pub(super) fn tokenize_workers(&self) -> usize {
        let usual = || if self.provider.is_card() { (cores() / 2).min(8) } else { 1 };
        self.tokenize_threads.unwrap_or_else(usual).max(1)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
