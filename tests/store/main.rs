//! The store against a model of it, and on a disk that fails.

#[path = "support/disk.rs"]
#[allow(dead_code, reason = "each test binary uses what it needs")]
mod disk;
#[path = "support/mod.rs"]
mod store_support;

mod faults;
mod full_disk;
mod model;
mod writer;
