//! One TOML file, `AEGIS__SECTION__KEY` from the environment over it, `--set section.key=value` over both.
//!
//! Every section has its defaults, so an empty file is a configuration; an unknown key is an error
//! that names the nearest known one.

mod document;
mod live;
mod load;
mod machine;
mod overlay;
pub mod pem;
mod policies;
mod registry;
mod roles;
mod shown;
mod topics;
mod traces;
mod tuned;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::codec::{EventFields, LabelFields, Pointer, Speaker, TimeUnit};
pub use document::{document, policies_schema, schema};
pub use live::{Live, ReloadError, reload};
pub use load::{Loaded, configuration, load, untuned};
pub use machine::Provider;
pub use policies::{Policies, PolicyError};
pub use registry::{Registry, Secret, Subjects};
pub use roles::{Encoding, Learn, Score, Tombstones};
pub use shown::{Origin, Shown, shown};
pub use topics::{Topics, topic_specs};
pub use traces::Traces;
pub use tuned::{TUNED, Tuned};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {reason}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong there.
        reason: String,
    },
    /// A key that does not exist, or a value of another type.
    #[error("{path}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Which key, and what to write instead.
        reason: String,
    },
    /// `--set` without `=` or without a key.
    #[error("--set {given}: write it as section.key=value")]
    Set {
        /// What was given.
        given: String,
    },
    /// The policies are wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Everything that can be set.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The brokers.
    pub kafka: Kafka,
    /// Names of the topics.
    pub topics: Topics,
    /// What tools that know only the event leave out.
    pub defaults: Defaults,
    /// Where JSON events of another shape have their fields.
    pub event_fields: EventFields,
    /// Where labels in JSON of another shape have their fields.
    pub label_fields: LabelFields,
    /// The panel.
    pub experts: Experts,
    /// The scoring role.
    pub score: Score,
    /// The learning role.
    pub learn: Learn,
    /// The schema registry.
    pub registry: Registry,
    /// Metrics and health.
    pub http: Http,
    /// Spans for an OpenTelemetry collector.
    pub traces: Traces,
    /// Logs.
    pub log: Log,
    /// File of the policies, relative to the configuration's folder; empty: one policy named `default`.
    pub policies: PathBuf,
    /// What `tuned.toml` gave.
    #[serde(skip)]
    pub tuned: Option<Tuned>,
}

/// `[kafka]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `host:port[,host:port]`.
    pub brokers: String,
    /// What a unit of outputs and consumed offsets is worth.
    pub delivery: Delivery,
    /// A role that has records to commit is not ready once none of a partition have been committed for this long, in
    /// milliseconds. Longer than twice `experts.timeout_ms`, and than a commit takes.
    pub stalled_after_ms: u64,
    /// librdkafka settings, passed on as they are; what would break the guarantees is refused.
    #[serde(deserialize_with = "overlay::strings", serialize_with = "shown::settings")]
    pub settings: BTreeMap<String, String>,
    /// Files that hold values of such settings, by the settings' names: passwords. Over `settings`; relative to
    /// the configuration's folder.
    pub secrets: BTreeMap<String, PathBuf>,
}

/// What a unit of outputs and consumed offsets is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// One Kafka transaction.
    ExactlyOnce,
    /// Outputs first, offsets after them: nothing is lost, a crash can repeat outputs.
    AtLeastOnce,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".into(),
            delivery: Delivery::ExactlyOnce,
            stalled_after_ms: 60_000,
            settings: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }
}

impl Kafka {
    /// The time after which a role that commits nothing is not ready.
    #[must_use]
    pub fn stalled_after(&self) -> Duration {
        Duration::from_millis(self.stalled_after_ms)
    }
}

/// `[defaults]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Tenant of JSON events and labels that name none.
    pub tenant: String,
    /// Policy of JSON events and labels that name none.
    pub policy: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { tenant: "default".into(), policy: "default".into() }
    }
}

/// `[experts]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Experts {
    /// Folder with one folder per expert, relative to the configuration's folder.
    pub folder: PathBuf,
    /// ONNX Runtime's library; empty: `runtime/libonnxruntime.so` in the experts' folder.
    pub runtime: PathBuf,
    /// What runs the graphs.
    pub provider: Provider,
    /// The panel by id; empty: every expert in the folder.
    pub only: Vec<String>,
    /// Experts that are asked even when the panel is shrunk under load, beside the rules.
    pub cheap: Vec<String>,
    /// Experts of the panel that vote and are scored and weigh nothing, by id. Followed while scoring runs.
    pub shadow: Vec<String>,
    /// Sessions; 0: as many as the process may use cores, by their threads; on a card two.
    pub sessions: usize,
    /// Threads of each session. More than one is rarely worth it: see `aegis tune`.
    pub threads: usize,
    /// Threads that tokenise; 0: one, and on a card half the cores, at most eight.
    pub tokenize_threads: usize,
    /// Padded tokens of a batch, where the processor runs graphs.
    pub batch_tokens: usize,
    /// Padded tokens of a batch, where a card does.
    pub card_batch_tokens: usize,
    /// Padded tokens of a batch for an encoder or classifier by its id, where the processor runs graphs, instead of
    /// `batch_tokens`.
    pub budgets: BTreeMap<String, usize>,
    /// Padded tokens of a batch for an encoder or classifier by its id, where a card does, instead of
    /// `card_batch_tokens`.
    pub card_budgets: BTreeMap<String, usize>,
    /// Memory of the card that each session may take for each graph, in MiB; 0: no limit.
    pub card_memory_mib: usize,
    /// A text waits this long for others of its length where a worker is free, in milliseconds.
    pub batch_delay_ms: u64,
    /// ONNX Runtime keeps the memory of a run for the next; after a text of more tokens than this it is given back.
    pub arena_tokens: usize,
    /// Memory that the process may have, in MiB: beyond it the run during which it grew is stopped, and its expert
    /// abstains; 0: no limit. On Linux.
    pub memory_mib: usize,
    /// Memory for answers to texts that were asked before, in MiB; 0: each text is run.
    pub cache_mib: usize,
    /// An expert that has not answered after this abstains, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for Experts {
    fn default() -> Self {
        Self {
            folder: "models".into(),
            runtime: PathBuf::new(),
            provider: Provider::Cpu,
            only: Vec::new(),
            cheap: Vec::new(),
            shadow: Vec::new(),
            sessions: 0,
            threads: 1,
            tokenize_threads: 0,
            batch_tokens: 256,
            card_batch_tokens: 16_384,
            budgets: BTreeMap::new(),
            card_budgets: BTreeMap::new(),
            card_memory_mib: 0,
            batch_delay_ms: 2,
            arena_tokens: 512,
            memory_mib: 0,
            cache_mib: 32,
            timeout_ms: 30_000,
        }
    }
}

impl Experts {
    /// How long a text waits for others.
    #[must_use]
    pub fn batch_delay(&self) -> Duration {
        Duration::from_millis(self.batch_delay_ms)
    }
}

/// `[http]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where /metrics, /livez and /readyz answer.
    pub listen: SocketAddr,
    /// Connections that are open at a time; a further one takes the place of the oldest. As many file descriptors are
    /// reserved for them, beside those of brokers and store.
    pub max_connections: usize,
    /// Milliseconds after which a connection is closed if no complete request has arrived, counted from its opening or its
    /// last response.
    pub idle_timeout_ms: u64,
}

impl Default for Http {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 9464));
        Self { listen, max_connections: 64, idle_timeout_ms: 30_000 }
    }
}

/// `[log]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A level, or a filter such as `info,aegis::learn=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
