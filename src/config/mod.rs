//! The configuration: one TOML file, overridden by `AEGIS__SECTION__KEY` from the environment, and both by `--set
//! section.key=value`.
//!
//! Every setting has a default, so an empty file is a valid configuration. An unknown key is an error that names the
//! nearest known one.

mod console;
mod document;
mod home;
mod live;
mod load;
mod machine;
mod moderation;
mod overlay;
mod policies;
mod records;
mod registry;
mod report;
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
pub use crate::kafka::GroupProtocol;
pub use console::Console;
pub use document::{document, policies_schema, schema};
pub use home::{PLACES, find};
pub use live::{Live, ReloadError, reload};
pub use load::{Loaded, configuration, load, untuned};
pub use machine::Provider;
pub use moderation::{Moderation, OnReview};
pub use policies::{Policies, PolicyError};
pub use registry::{Registry, Secret, Subjects};
pub use report::Report;
pub use roles::{Encoding, Learn, Score, Tombstones};
pub use shown::{Origin, Shown, shown};
pub use topics::{Topics, topic_specs};
pub use traces::Traces;
pub use tuned::{TUNED, Tuned};

/// Errors of loading a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
    /// No file is named, and none is in the places where one is looked for.
    #[error(
        "there is no configuration: looked for {places}; create one of these files, or name another one with --config \
         FILE or AEGIS_CONFIG"
    )]
    NotFound {
        /// The files that do not exist.
        places: String,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {reason}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// The position and the error there.
        reason: String,
    },
    /// A key does not exist, or a value is not valid.
    #[error("{path}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, and the values that it accepts.
        reason: String,
    },
    /// `--set` has no `=` or no key.
    #[error("--set {given}: write it as section.key=value")]
    Set {
        /// The argument up to the `=`.
        given: String,
    },
    /// The policies are not valid.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// All settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The connection to the brokers.
    pub kafka: Kafka,
    /// The names of the topics.
    pub topics: Topics,
    /// Values for fields that JSON events and labels leave out.
    pub defaults: Defaults,
    /// JSON pointers to the fields of events of another shape.
    pub event_fields: EventFields,
    /// JSON pointers to the fields of labels of another shape.
    pub label_fields: LabelFields,
    /// The panel of experts.
    pub experts: Experts,
    /// The scoring role.
    pub score: Score,
    /// The learning role.
    pub learn: Learn,
    /// The figures and alarms that the learning role keeps.
    pub report: Report,
    /// The schema registry.
    pub registry: Registry,
    /// Metrics and health.
    pub http: Http,
    /// The console: pages to see and to review on.
    pub console: Console,
    /// Spans sent to an OpenTelemetry collector.
    pub traces: Traces,
    /// Log output.
    pub log: Log,
    /// The file of the policies, relative to the configuration's folder. If empty, there is one policy, named `default`.
    pub policies: PathBuf,
    /// The settings that `tuned.toml` contains.
    #[serde(skip)]
    pub tuned: Option<Tuned>,
}

/// `[kafka]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// The addresses of the brokers: `host:port[,host:port]`.
    pub brokers: String,
    /// The guarantee with which outputs and consumed offsets are committed.
    pub delivery: Delivery,
    /// The protocol with which the members of a consumer group share partitions. Both roles use it. Members may change it
    /// one by one, while the others run.
    pub group_protocol: GroupProtocol,
    /// A role is not ready if a partition has had records to commit for this long, in milliseconds, and none have been
    /// committed. Choose a value above twice `experts.timeout_ms`, and above the duration of a commit.
    pub stalled_after_ms: u64,
    /// Settings of librdkafka, passed on unchanged. Settings that would break the guarantees are refused.
    #[serde(deserialize_with = "overlay::strings", serialize_with = "shown::settings")]
    pub settings: BTreeMap<String, String>,
    /// Files with the values of librdkafka settings such as passwords, by the settings' names. They override `settings`,
    /// and are relative to the configuration's folder.
    pub secrets: BTreeMap<String, PathBuf>,
}

/// The guarantee with which outputs and consumed offsets are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Outputs and offsets are one Kafka transaction.
    ExactlyOnce,
    /// Offsets are committed after the outputs: nothing is lost, and a crash can repeat outputs.
    AtLeastOnce,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "localhost:9092".into(),
            delivery: Delivery::ExactlyOnce,
            group_protocol: GroupProtocol::Classic,
            stalled_after_ms: 60_000,
            settings: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }
}

impl Kafka {
    /// Returns the time after which a role that commits nothing is not ready.
    #[must_use]
    pub fn stalled_after(&self) -> Duration {
        Duration::from_millis(self.stalled_after_ms)
    }
}

/// `[defaults]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// The tenant of JSON events and labels that name none.
    pub tenant: String,
    /// The policy of JSON events and labels that name none.
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
    /// The folder that holds one folder per expert, relative to the configuration's folder.
    pub folder: PathBuf,
    /// The library of ONNX Runtime. If empty, it is `runtime/libonnxruntime.so` in the experts' folder.
    pub runtime: PathBuf,
    /// The execution provider that runs the graphs.
    pub provider: Provider,
    /// The arithmetic of the encoders that have a graph for it: float32, or int8, which is faster and runs on the CPU
    /// only. All scorers of a group need the same, because the learner reads features of one kind only.
    pub encoder: EncoderPrecision,
    /// Lets a scorer begin although the predictor in use reads the features of another encoder, which it then does not
    /// get. Set it while a whole group changes to another encoder.
    pub change_encoder: bool,
    /// The ids of the experts on the panel. If empty, every expert in the folder is on it.
    pub only: Vec<String>,
    /// The experts that, besides the rules, are asked even when the panel is shrunk under load.
    pub cheap: Vec<String>,
    /// The ids of experts that are put in shadow mode, besides those whose manifests say `shadow = true`: they vote and
    /// are measured, and their votes have no weight. A running scorer follows changes of this setting.
    pub shadow: Vec<String>,
    /// The ids of experts whose votes have weight although their manifests put them in shadow mode. A running scorer
    /// follows changes of this setting.
    pub voting: Vec<String>,
    /// The probability with which an expert that is asked only when its vote could change the decision is asked about an
    /// event in any case, from 0 to 1. Its quality is measured on these events. With 1 it is always asked.
    pub explore: f64,
    /// The number of sessions. If 0, it is the number of available cores divided by `threads`, and two on a GPU.
    pub sessions: usize,
    /// The threads of each session. More than one is rarely faster: see `aegis tune`.
    pub threads: usize,
    /// The threads that tokenize. If 0, it is one, and on a GPU half of the cores, at most eight.
    pub tokenize_threads: usize,
    /// The padded tokens of a batch on the CPU.
    pub batch_tokens: usize,
    /// The padded tokens of a batch on a GPU.
    pub card_batch_tokens: usize,
    /// The padded tokens of a batch on the CPU for single encoders or classifiers, by their ids. They override
    /// `batch_tokens`.
    pub budgets: BTreeMap<String, usize>,
    /// The padded tokens of a batch on a GPU for single encoders or classifiers, by their ids. They override
    /// `card_batch_tokens`.
    pub card_budgets: BTreeMap<String, usize>,
    /// The GPU memory that each session may use for each graph, in MiB. 0 means no limit.
    pub card_memory_mib: usize,
    /// The time that a text waits for others of its length although a worker is free, in milliseconds.
    pub batch_delay_ms: u64,
    /// ONNX Runtime keeps the memory of a run for the next one. After a text of more tokens than this it is released.
    pub arena_tokens: usize,
    /// The memory limit of the process on Linux, in MiB. The run during which memory grows beyond it is stopped, and its
    /// expert abstains. 0 means no limit.
    pub memory_mib: usize,
    /// The memory for cached answers to texts, in MiB. If 0, nothing is cached.
    pub cache_mib: usize,
    /// The time after which an expert that has not answered abstains, in milliseconds.
    pub timeout_ms: u64,
}

/// The arithmetic of the encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderPrecision {
    /// Single-precision floating point.
    Float32,
    /// Products of bytes, with scales that do not depend on the texts.
    Int8,
}

impl Default for Experts {
    fn default() -> Self {
        Self {
            folder: "models".into(),
            runtime: PathBuf::new(),
            provider: Provider::Cpu,
            encoder: EncoderPrecision::Float32,
            change_encoder: false,
            only: Vec::new(),
            cheap: Vec::new(),
            shadow: Vec::new(),
            voting: Vec::new(),
            explore: 0.02,
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
    /// Returns `true` if an expert is in shadow mode: if it is named in `shadow`, or if its manifest says so and `voting`
    /// does not name it.
    #[must_use]
    pub fn is_shadow(&self, id: &str, in_manifest: bool) -> bool {
        let names = |ids: &[String]| ids.iter().any(|one| one == id);
        names(&self.shadow) || (in_manifest && !names(&self.voting))
    }

    /// Returns the time that a text waits for others.
    #[must_use]
    pub fn batch_delay(&self) -> Duration {
        Duration::from_millis(self.batch_delay_ms)
    }
}

/// `[http]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The address that serves /metrics, /livez and /readyz.
    pub listen: SocketAddr,
    /// The number of connections that are open at a time. A further one replaces the oldest. As many file descriptors
    /// are reserved for them, in addition to those of brokers and store.
    pub max_connections: usize,
    /// The time after which a connection is closed if no complete request has arrived, in milliseconds since its opening
    /// or its last response.
    pub idle_timeout_ms: u64,
    /// Moderation requests over HTTP.
    pub moderation: Moderation,
}

impl Default for Http {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 9464));
        let moderation = Moderation::default();
        Self { listen, max_connections: 64, idle_timeout_ms: 30_000, moderation }
    }
}

/// `[log]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The format of log lines.
    pub format: LogFormat,
    /// The log level, or a filter such as `info,aegis::learn=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}
