//! The panel: experts that vote on texts.
//!
//! Each expert is a folder with a manifest (docs/adding-an-expert.md). [`Panel::open`] checks all of them and loads
//! their graphs, once for each worker thread. [`Panel::ask`] takes a window of texts and waits for the votes and, if
//! the panel has an encoder, the features of each. A [`Stream`] takes texts as they come and returns answers as they
//! are complete.
//!
//! A text is tokenised once for each tokenizer (`tokenizer`) and then waits in the `scheduler`. A free `worker` takes a
//! batch of texts of similar length ([`batcher`]) and runs it on a `backend`; `scores` turns the numbers into votes.
//! The [`rules`] read [folded](text_folding) text instead. An expert that fails abstains, with its reason.

mod backend;
mod batch_invariance;
pub mod batcher;
mod breaker;
mod cache;
mod config;
mod cost;
mod error;
mod info;
mod loader;
mod manifest;
mod panel;
mod pending;
mod reload;
pub mod rules;
mod scheduler;
mod scores;
pub mod text_folding;
mod tokenizer;
mod worker;

pub use backend::onnx::session::{Provider, environment};
pub use batch_invariance::TOLERANCE;
pub use config::PanelConfig;
pub use cost::{PanelCosts, RunCost};
pub use error::PanelError;
pub use info::{EncoderInfo, ExpertInfo, ModelInfo, State};
pub use loader::external_data;
pub use manifest::Kind;
pub use panel::ask::UnderLoad;
pub use panel::stream::Stream;
pub use panel::{Answer, Examined, Panel};
pub use pending::RunSpan;
