//! `aegis config show|schema`: the settings in effect, and all possible settings.

use clap::{Args, Subcommand};

use super::print::{self, Output, printable, row};
use super::{ConfigArgs, Failure};
use crate::config::{policies_schema, schema, shown};
use crate::ops::Exit;

#[derive(Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Prints every setting in effect and its source, without secrets
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// Leaves out settings that have their defaults
        #[arg(long)]
        changed: bool,
        /// The format of the output
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Prints the JSON Schema of the configuration file
    Schema {
        /// Prints the JSON Schema of the policies file instead
        #[arg(long)]
        policies: bool,
    },
}

pub fn config(args: &ConfigCommand) -> Result<Exit, Failure> {
    match &args.command {
        Action::Schema { policies } => print::json(&if *policies { policies_schema() } else { schema() })?,
        Action::Show { config, changed, output } => {
            let mut all = shown(&config.file()?, std::env::vars(), &config.sets)?;
            if *changed {
                all.retain(|shown| shown.from != crate::config::Origin::Default);
            }
            if *output == Output::Json {
                print::json(&all)?;
                return Ok(Exit::Success);
            }
            let mut rows = vec![row(["key", "from", "value"])];
            rows.extend(all.iter().map(|shown| {
                vec![shown.key.clone(), shown.from.word().into(), printable(&shown.value.to_string())]
            }));
            print::table(&rows, &[]);
        }
    }
    Ok(Exit::Success)
}
