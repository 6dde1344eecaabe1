//! The commands `add`, `list` and `remove`, which change a file of credentials.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::{ConfigArgs, Failure, print};
use crate::config::Config;
use crate::ops::Exit;
use crate::ops::stdout::outln;

/// A kind of file of credentials, one entry in a line, each with a name.
pub trait CredentialFile {
    /// The arguments of a new entry.
    type Entry: Args;
    /// The errors of the file.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The help text of `add`.
    const ADD: &'static str;
    /// The help text of `list`.
    const LIST: &'static str;
    /// The help text of `remove`.
    const REMOVE: &'static str;
    /// The setting with the path of the file.
    const SETTING: &'static str;
    /// A value of the setting, as an example.
    const EXAMPLE: &'static str;

    /// Returns the path of the file, which is empty if the setting names none.
    fn path(config: Config) -> PathBuf;

    /// Returns `true` if the file cannot be read or written; `false` if an entry is wrong.
    fn is_unavailable(error: &Self::Error) -> bool;

    /// Adds an entry, and prints its secret if it has one.
    ///
    /// # Errors
    /// Returns an error if the entry is wrong or exists, or if the file cannot be read or written.
    fn add(file: &Path, entry: &Self::Entry) -> Result<(), Self::Error>;

    /// Returns the rows of a table of all entries, below the names of the columns.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or a line is not valid.
    fn rows(file: &Path) -> Result<Vec<Vec<String>>, Self::Error>;

    /// Removes the entry with this name. Returns the sentence to print.
    ///
    /// # Errors
    /// Returns an error if there is no such entry, or if the file cannot be read or written.
    fn remove(file: &Path, name: &str) -> Result<String, Self::Error>;
}

/// A command on the entries of a file of credentials.
#[derive(Subcommand)]
pub enum EntryCommand<F: CredentialFile> {
    #[command(about = F::ADD)]
    Add {
        #[command(flatten)]
        entry: F::Entry,
        #[command(flatten)]
        config: ConfigArgs,
    },
    #[command(about = F::LIST)]
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    #[command(about = F::REMOVE)]
    Remove {
        /// The name
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

impl<F: CredentialFile> EntryCommand<F> {
    /// Runs the command on the file that the configuration names.
    pub fn run(&self) -> Result<Exit, Failure> {
        let failed = |error: F::Error| {
            Failure::new(if F::is_unavailable(&error) { Exit::Unavailable } else { Exit::Data }, error)
        };
        match self {
            Self::Add { entry, config } => F::add(&file::<F>(config)?, entry).map_err(failed)?,
            Self::List { config } => print::table(&F::rows(&file::<F>(config)?).map_err(failed)?, &[]),
            Self::Remove { name, config } => {
                outln!("{}", F::remove(&file::<F>(config)?, name).map_err(failed)?);
            }
        }
        Ok(Exit::Success)
    }
}

/// Returns the file that the configuration names.
fn file<F: CredentialFile>(config: &ConfigArgs) -> Result<PathBuf, Failure> {
    let file = F::path(config.configuration()?);
    if file.as_os_str().is_empty() {
        let (setting, example) = (F::SETTING, F::EXAMPLE);
        let reason = anyhow!("{setting} names no file: set it in the configuration, e.g. to \"{example}\"");
        return Err(Failure { exit: Exit::Config, error: reason });
    }
    Ok(file)
}
