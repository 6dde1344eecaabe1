//! The learners: reference numbers, properties, bounds, and the errors of others.

mod bounds;
mod errors;
mod long;
mod members;
mod properties;
mod recovery;
mod reference;
mod spec;
mod streams;
mod worth;
