//! The pure part: meanings and arithmetic, without clock, I/O, async, random numbers or metrics.
//!
//! In the order of the flow: an [`event`] is read, experts give each a [`vote`], a [`predictor`]
//! combines them, a [`policy`] makes a [`decision`] of it, which may ask for a [`review`]; a human [`label`]
//! joins its decision in the [`ledger`].

pub mod decision;
pub mod draw;
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
pub mod text;
pub mod trace;
pub mod vote;
pub mod watermark;
