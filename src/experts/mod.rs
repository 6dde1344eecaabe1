//! The panel: experts that vote on texts.
//!
//! Each expert is a folder with a manifest (docs/adding-an-expert.md). [`Panel::open`] checks all of them (`manifest`,
//! `loader`) and loads their graphs, once for each worker thread. [`Panel::ask`] takes several texts and waits for the
//! votes and, if the panel has an encoder, the features of each. A [`Stream`] takes texts as they come and returns answers
//! as they are complete.
//!
//! # The path of a text
//!
//! | stage | type | file |
//! |---|---|---|
//! | 1. tokenise | `Submission`: the text's tokens, once for each tokenizer, with a `Request` for each model and window | `panel/ask`, `tokenizer` |
//! | 2. queue | `Scheduler`: requests wait. An equal request shares the run, and a known result comes from the cache | `scheduler`, `cache` |
//! | 3. run | `Worker`: takes a batch of requests of similar length and runs it on its own `Backend` | `worker`, [`batcher`], `backend` |
//! | 4. score | `ExpertScore`: the numbers of a graph as P(unsafe) and categories | `scores` |
//! | 5. answer | `PendingAnswer`: collects the outcomes, and is sent with the last of them or at its deadline | `pending` |
//!
//! A *model* is an encoder with its heads, or a classifier: the experts whose votes come from one run. The [`rules`] have
//! no model. They read [folded](text_folding) text in jobs of their own. A remote expert is a model that no worker runs: its
//! requests are tasks on the HTTP client's thread.
//!
//! An expert that fails abstains, with its reason. The `breaker` pauses an expert that keeps failing, a watchdog in the
//! `scheduler` cancels runs at their deadlines, and `reload` loads models that could not be loaded at the start.
//!
//! `backend` says where a new kind of expert goes.

mod backend;
mod batch_invariance;
pub mod batcher;
mod breaker;
mod cache;
mod config;
mod cost;
mod error;
mod features;
mod given_history;
mod info;
mod loader;
mod manifest;
mod panel;
mod pending;
mod prompts;
mod reload;
pub mod rules;
mod scheduler;
mod scores;
pub mod text_folding;
mod tokenizer;
mod worker;

pub use backend::TOLERANCE;
pub use backend::onnx::environment::{RUNTIME_TELEMETRY_OFF, environment};
pub use backend::onnx::provider::Provider;
pub use config::PanelConfig;
pub use cost::{PanelCosts, RunCost};
pub use error::PanelError;
pub use info::{EncoderInfo, ExpertInfo, ModelInfo, State};
pub use loader::{external_data, precisions};
pub use manifest::{Ask, Kind, Languages, Precision, View};
pub use panel::ask::{Asked, UnderLoad};
pub use panel::stream::{Stream, Waits};
pub use panel::{Answer, Examined, Panel};
pub use pending::RunSpan;
