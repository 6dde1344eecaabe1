//! The panel: loading, voting, faults and hanging graphs.

#[path = "support/mod.rs"]
mod experts_support;
#[path = "../support/identity.rs"]
mod identity;

mod faults;
mod guards;
mod guards_real;
mod guards_refused;
mod hang;
mod int8;
mod joint;
mod languages;
mod multilingual;
mod panel;
mod prompts;
mod quality;
mod refused;
mod remote;
mod smollm;
mod stream;
mod view_figures;
mod views;
mod windows;
