//! Why a panel is refused at start.

use std::path::PathBuf;

use thiserror::Error;

/// Why a panel cannot be opened. The names are metric labels.
#[derive(Debug, Error)]
pub enum PanelError {
    /// The folder of experts, or a file in it, cannot be read.
    #[error("{}: cannot be read: {reason}; make the bundled experts with `make setup`, or correct the setting", path.display())]
    Unreadable {
        /// Folder or file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The folder holds no expert.
    #[error("{}: no folder in it has a manifest.toml; make the bundled experts with `make setup`", path.display())]
    NoExperts {
        /// The folder.
        path: PathBuf,
    },
    /// An expert is asked for that the folder does not hold.
    #[error("no expert is called {id}; there are: {}", known.join(", "))]
    UnknownExpert {
        /// The id asked for.
        id: String,
        /// The ids in the folder.
        known: Vec<String>,
    },
    /// A budget is for an expert that the folder does not hold.
    #[error(
        "a budget of [experts] is for {id}, and there are only: {}; take it out of the configuration, or run `aegis \
         tune` again where it is tuned.toml's",
        known.join(", ")
    )]
    UnknownBudget {
        /// The id that it is for.
        id: String,
        /// The ids in the folder.
        known: Vec<String>,
    },
    /// A manifest does not say what it must.
    #[error("{}: {field}: {problem}; {mend}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The field, e.g. `model.sha256`.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        mend: String,
    },
    /// A file that a manifest names is not there, or cannot be read.
    #[error(
        "{}: {field} in its manifest names it, and it cannot be read: {reason}; put the file there, or correct the name",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The manifest's field.
        field: String,
        /// The system's reason.
        reason: String,
    },
    /// A file is not the one that its manifest names.
    #[error(
        "{}: SHA-256 is {found}, but {field} in its manifest is {expected}; fetch the file again, or put the new hash there if the file is meant to change",
        path.display()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// The manifest's field.
        field: String,
        /// What the manifest says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A rule file does not say what it must.
    #[error("{}: {field}: {problem}; {mend}", path.display())]
    Rules {
        /// The rule file.
        path: PathBuf,
        /// The entry, e.g. `patterns[2].regex`.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        mend: String,
    },
    /// A tokenizer or graph does not fit its manifest.
    #[error("expert {id}: {field}: {problem}; {mend}")]
    Misfit {
        /// The expert.
        id: String,
        /// The manifest's field, e.g. `inputs.mask`.
        field: String,
        /// What does not fit.
        problem: String,
        /// What to do.
        mend: String,
    },
    /// ONNX Runtime cannot be used.
    #[error("ONNX Runtime, {}: {reason}; `make setup` fetches the library, experts.runtime names it", path.display())]
    Runtime {
        /// The library.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The execution provider asked for cannot be used.
    #[error(
        "execution provider {provider}: {reason}; `make cuda` fetches its libraries and says what experts.runtime and LD_LIBRARY_PATH must name (libcuda.so.1 comes with the card's driver, libnvinfer.so.10 with TensorRT), or set experts.provider to cpu"
    )]
    Provider {
        /// The provider.
        provider: String,
        /// Why not.
        reason: String,
    },
    /// An expert could not be loaded, and all are required.
    #[error(
        "expert {id} could not be loaded: model.file {}: {reason}; export the graph again for the ONNX Runtime that experts.runtime names, give the process more memory if that is short, or leave the expert out with experts.only",
        path.display()
    )]
    NotLoaded {
        /// The expert.
        id: String,
        /// Its graph.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// No threads to work with.
    #[error("no worker thread could be started: {reason}; lower experts.sessions")]
    Threads {
        /// The system's reason.
        reason: String,
    },
    /// A stream took a text no more.
    #[error("the panel takes no more texts: it is full, or its thread has ended; a fault of this program")]
    Refused,
    /// A worker that hung could not be replaced.
    #[error("{reason}; restore the folder, or restart the process to take what it holds now")]
    Changed {
        /// What changed.
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
