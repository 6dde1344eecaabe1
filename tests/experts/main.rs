//! The panel: loading, voting, faults and hanging graphs.

#[path = "support/mod.rs"]
mod experts_support;

mod faults;
mod hang;
mod panel;
mod quality;
mod refused;
mod smollm;
mod stream;
mod windows;
