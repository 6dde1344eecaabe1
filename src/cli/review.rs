//! `aegis review export`: open review requests as tasks of labelling tools.

mod export;
mod texts;

use clap::{Args, Subcommand};

use super::Failure;
use crate::ops::Exit;

#[derive(Args)]
pub struct ReviewArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Writes open review requests as tasks for Label Studio or Argilla, or as JSON lines
    Export(export::ExportArgs),
}

pub fn review(args: &ReviewArgs) -> Result<Exit, Failure> {
    match &args.command {
        Action::Export(args) => export::export(args),
    }
}
