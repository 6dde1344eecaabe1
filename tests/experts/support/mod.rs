//! Tiny experts that tests create: graphs of a few nodes, with a fault that a word of the text selects.

#![allow(dead_code, unused_imports, reason = "each test binary uses what it needs")]

pub mod adapter;
pub mod asked;
pub mod causal;
pub mod causal_graph;
mod folder;
mod graph;
mod tiny;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use folder::{Folder, SCORES};
pub use graph::{BOOL, FLOAT, FLOAT16, Graph, INT8, INT32, INT64, STRING};
pub use tiny::{
    WORDS, encoding, faulty_classifier, faulty_encoder, hanging_head, head, plain, plain_classifier,
    plain_encoder, shaky_head, stuck_classifier, stuck_head, tokenizer, turn,
};

/// Returns the folder in which `make setup` installs the experts.
pub fn models() -> PathBuf {
    let folder = std::env::var_os("AEGIS_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), PathBuf::from);
    assert!(
        folder.join("runtime/libonnxruntime.so").is_file(),
        "{} holds no runtime: run `make setup` first, or set AEGIS_MODELS",
        folder.display()
    );
    folder
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
