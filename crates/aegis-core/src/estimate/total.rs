//! The estimated number of unsafe events in a set of decisions.
