#![doc = include_str!("../README.md")]

pub mod alarm;
pub mod decision;
pub mod decisive;
pub mod draw;
pub mod estimate;
pub mod event;
pub mod explain;
pub mod features;
pub mod fold;
pub mod hash;
pub mod label;
pub mod learners;
pub mod ledger;
pub mod ledger_state;
pub mod math;
pub mod policy;
pub mod predictor;
pub mod review;
mod ruling;
pub mod sampling;
pub mod text;
pub mod trace;
pub mod vote;
pub mod watermark;
