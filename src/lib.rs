//! Aegis moderates conversations on Kafka: experts vote, a no-regret learner combines the votes, and human
//! labels teach it.
//!
//! Data passes through these modules: [`kafka`] reads and writes records, [`codec`] decodes them, [`experts`]
//! vote, [`score`] decides, and [`learn`] joins labels to decisions and folds them. [`core`] defines the types
//! and the algorithms, and [`store`] keeps the learner's data on disk.

// Output goes through `ops::stdout`: `println!` panics if the reader has closed the pipe.
#![deny(clippy::print_stdout)]

pub use aegis_core as core;

pub mod charts;
pub mod cli;
pub mod codec;
pub mod config;
pub mod crash;
pub mod dead_letter;
pub mod demo;
pub mod evaluate;
pub mod experts;
pub mod kafka;
pub mod learn;
pub mod ops;
pub mod panics;
pub mod registry;
pub mod replay;
pub mod score;
pub mod store;
pub mod verify;
