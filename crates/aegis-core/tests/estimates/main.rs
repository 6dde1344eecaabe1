//! Estimates from sampled labels against the truth that all labels give.

mod simulation;
