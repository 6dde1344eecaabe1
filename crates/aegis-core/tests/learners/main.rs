//! Tests of the learners: reference numbers, properties, bounds, and known errors of other implementations.

mod bounds;
mod errors;
mod long;
mod members;
mod properties;
mod ranges;
mod recovery;
mod reference;
mod spec;
mod streams;
mod worth;
