//! The documentation is tested: commands run and print what pages show, command lines parse, links lead somewhere,
//! snippets load.

mod asyncapi;
mod command;
mod links;
mod listed;
mod local;
mod page;
mod parsed;
mod scenes;
mod shell;
mod shown;
mod snippets;
#[path = "../support/mod.rs"]
mod support;
