//! Errors that refuse a panel.

use std::path::PathBuf;

use thiserror::Error;

/// The reason why a panel cannot be opened, or why it takes no more work. The variants' names are metric labels.
#[derive(Debug, Error)]
pub enum PanelError {
    /// The folder of experts, or a file in it, cannot be read.
    #[error("{}: cannot be read: {reason}; make the bundled experts with `make setup`, or correct the setting", path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The folder holds no expert.
    #[error("{}: no folder in it has a manifest.toml; make the bundled experts with `make setup`", path.display())]
    NoExperts {
        /// The folder.
        path: PathBuf,
    },
    /// The configuration names an expert that the folder does not hold.
    #[error("no expert is called {id}; there are: {}", known.join(", "))]
    UnknownExpert {
        /// The configured id.
        id: String,
        /// The ids in the folder.
        known: Vec<String>,
    },
    /// The configuration selects int8 graphs, and none can be used.
    #[error("experts.encoder is int8, and {problem}; set experts.encoder to float32{remedy}")]
    NoInt8 {
        /// The reason.
        problem: String,
        /// The other way to correct it, after a comma.
        remedy: &'static str,
    },
    /// The configuration has a budget for an expert that the folder does not hold.
    #[error(
        "a budget of [experts] is for {id}, and there are only: {}; remove it from the configuration, or run `aegis \
         tune` again if it is in tuned.toml",
        known.join(", ")
    )]
    UnknownBudget {
        /// The configured id.
        id: String,
        /// The ids in the folder.
        known: Vec<String>,
    },
    /// A field of a manifest is missing or invalid.
    #[error("{}: {field}: {problem}; {remedy}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The field, e.g. `model.sha256`.
        field: String,
        /// The problem with it.
        problem: String,
        /// The way to correct it.
        remedy: String,
    },
    /// A file that a manifest names is missing, or cannot be read.
    #[error(
        "{}: {field} in its manifest names it, and it cannot be read: {reason}; put the file there, or correct the name",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The manifest's field.
        field: String,
        /// The reason.
        reason: String,
    },
    /// A file has another hash than its manifest lists.
    #[error(
        "{}: SHA-256 is {found}, but {field} in its manifest is {expected}; fetch the file again, or put the new hash there if the file is meant to change",
        path.display()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// The manifest's field.
        field: String,
        /// The hash in the manifest.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// An entry of a rule file is invalid.
    #[error("{}: {field}: {problem}; {remedy}", path.display())]
    Rules {
        /// The rule file.
        path: PathBuf,
        /// The entry, e.g. `patterns[2].regex`.
        field: String,
        /// The problem with it.
        problem: String,
        /// The way to correct it.
        remedy: String,
    },
    /// A tokenizer or graph does not agree with its manifest.
    #[error("expert {id}: {field}: {problem}; {remedy}")]
    Misfit {
        /// The expert.
        id: String,
        /// The manifest's field, e.g. `inputs.mask`.
        field: String,
        /// The disagreement.
        problem: String,
        /// The way to correct it.
        remedy: String,
    },
    /// ONNX Runtime cannot be used.
    #[error("ONNX Runtime, {}: {reason}; `make setup` fetches the library, experts.runtime names it", path.display())]
    Runtime {
        /// The library.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The configured execution provider cannot be used.
    #[error(
        "execution provider {provider}: {reason}; `make cuda` fetches its libraries and says what experts.runtime and LD_LIBRARY_PATH must name (libcuda.so.1 comes with the card's driver, libnvinfer.so.10 with TensorRT), or set experts.provider to cpu"
    )]
    Provider {
        /// The provider.
        provider: String,
        /// The reason.
        reason: String,
    },
    /// An expert could not be loaded, and the configuration requires all of them.
    #[error(
        "expert {id} could not be loaded: model.file {}: {reason}; export the graph again for the ONNX Runtime that experts.runtime names, give the process more memory if that is short, or leave the expert out with experts.only",
        path.display()
    )]
    NotLoaded {
        /// The expert.
        id: String,
        /// Its graph.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A thread could not be started, or ended while it loaded experts.
    #[error("no worker thread could be started: {reason}; lower experts.sessions")]
    Threads {
        /// The reason.
        reason: String,
    },
    /// A stream accepts no more texts.
    #[error("the panel accepts no more texts: it is full, or its thread has ended; a fault of this program")]
    Refused,
    /// The folder's models are other ones than when the panel was opened, so a worker or a model was not replaced.
    #[error("{reason}; restore the folder, or restart the process to load what it holds now")]
    Changed {
        /// The difference.
        reason: &'static str,
    },
}

impl PanelError {
    /// The error's name, as metric label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "Unreadable",
            Self::NoExperts { .. } => "NoExperts",
            Self::UnknownExpert { .. } => "UnknownExpert",
            Self::UnknownBudget { .. } => "UnknownBudget",
            Self::NoInt8 { .. } => "NoInt8",
            Self::Manifest { .. } => "Manifest",
            Self::File { .. } => "File",
            Self::Hash { .. } => "Hash",
            Self::Rules { .. } => "Rules",
            Self::Misfit { .. } => "Misfit",
            Self::Runtime { .. } => "Runtime",
            Self::Provider { .. } => "Provider",
            Self::NotLoaded { .. } => "NotLoaded",
            Self::Threads { .. } => "Threads",
            Self::Refused => "Refused",
            Self::Changed { .. } => "Changed",
        }
    }
}

/// A field of a manifest that a tokenizer or graph does not agree with.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) field: &'static str,
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

impl Misfit {
    pub(super) fn new(field: &'static str, problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { field, problem: problem.into(), remedy }
    }

    /// The error of the expert `id`.
    pub(super) fn of(self, id: &str) -> PanelError {
        let Self { field, problem, remedy } = self;
        PanelError::Misfit { id: id.to_owned(), field: field.to_owned(), problem, remedy: remedy.to_owned() }
    }
}
