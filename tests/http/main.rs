//! Moderation over HTTP: the endpoints, their clients, and the records of requests.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod clients;
mod endpoints;
mod kill;
mod records;
mod world;
