//! `aegis config show|schema`: what is set, and what can be.

use clap::{Args, Subcommand};

use super::print::{self, Output, printable, row};
use super::{ConfigArgs, Failure};
use crate::config::{policies_schema, schema, shown};
use crate::ops::Exit;

#[derive(Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    command: Which,
}

#[derive(Subcommand)]
enum Which {
    /// Every setting as it is in effect, and where it comes from; secrets are hidden
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// Leaves out what nobody has set
        #[arg(long)]
        changed: bool,
        /// For people or for machines
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// The JSON Schema of the configuration file
    Schema {
        /// That of the policies file instead
        #[arg(long)]
        policies: bool,
    },
}

pub fn config(args: &ConfigCommand) -> Result<Exit, Failure> {
    match &args.command {
        Which::Schema { policies } => print::json(&if *policies { policies_schema() } else { schema() })?,
        Which::Show { config, changed, output } => {
            let mut all = shown(&config.config, std::env::vars(), &config.sets)?;
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
