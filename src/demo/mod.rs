//! The whole flow on real text, with a labeller.
