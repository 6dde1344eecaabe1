//! Values for the codec's tests: one full example of each record, and strategies for any.
#![allow(dead_code)] // each test file uses its part

pub mod examples;
pub mod strategies;
