//! Aegis moderates conversations on Kafka: experts vote, a no-regret learner combines the votes, human
//! labels teach it.
//!
//! The modules are the rooms that data walks through: [`kafka`] brings records, [`codec`] reads them,
//! [`experts`] vote, [`score`] decides, [`learn`] joins labels to decisions and folds them, with [`core`]
//! saying what everything means and [`store`] remembering.

// say.rs prints: `println!` panics where nobody reads.
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
pub mod pem;
pub mod registry;
pub mod replay;
mod say;
pub mod score;
pub mod store;
pub mod topics;
pub mod traced;
pub mod verify;
