//! Aegis moderates conversations on Kafka: experts vote, a no-regret learner combines the votes, and human
//! labels teach it.
//!
//! Data passes through these modules: [`kafka`] reads records, [`codec`] decodes them, [`experts`] vote, [`score`] decides,
//! and [`learn`] joins labels to decisions and folds them. Records that cannot be processed become [`dead_letter`]s. [`core`]
//! defines the types and the algorithms, and [`store`] keeps the learner's data on disk.
//!
//! * Around a running process: [`cli`] has the commands, [`config`] the settings, [`ops`] metrics, health, traces and
//!   shutdown, [`registry`] the client of a schema registry, and [`panics`] the handling of panics.
//! * [`console`] serves the pages on which people see what is decided, and review; [`review`] is the queue of requests.
//! * [`serve`] answers moderation requests over HTTP; [`access`] has what it and the console share to know their clients.
//! * Commands with a module of their own: [`replay`], [`evaluate`], [`verify`] and [`demo`]. [`charts`] draws for the
//!   first two.
//! * [`labels`] moves human labels between files, labelling tools and topics, and measures annotators.
//! * Prompts of LLM guards: [`guards`] has the formats of the families, as data. [`language`] tells in which language a text
//!   is.
//! * [`rows`] reads the files that users evaluate and score.
//! * For tests: [`crash`] has the points at which a process is killed or stopped.
//!
//! Begin with the module docs of [`score`] and [`learn`]: each follows one record through its stages.

// Output goes through `ops::stdout`: `println!` panics if the reader has closed the pipe.
#![deny(clippy::print_stdout)]

pub use aegis_core as core;

pub mod access;
pub mod charts;
pub mod cli;
pub mod codec;
pub mod config;
pub mod console;
pub mod crash;
pub mod dead_letter;
pub mod demo;
pub mod evaluate;
pub mod experts;
pub mod guards;
pub mod http;
pub mod kafka;
pub mod labels;
pub mod language;
pub mod learn;
pub mod ops;
pub mod panics;
pub mod registry;
pub mod replay;
pub mod report;
pub mod review;
pub mod rows;
pub mod score;
pub mod serve;
pub mod store;
pub mod verify;
