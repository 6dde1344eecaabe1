//! Label streams folded offline.
pub mod write;
