//! Estimates from sampled labels against the truth that all labels give.

mod groups;
mod sampling;
mod simulation;
