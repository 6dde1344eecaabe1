//! `aegis serve`: answers moderation requests over HTTP, and manages API keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::credential_file::{CredentialFile, EntryCommand};
use super::print::row;
use super::{ConfigArgs, Failure, run};
use crate::config::{Config, Moderation as Settings};
use crate::ops::Exit;
use crate::ops::stdout::{errln, outln};
use crate::serve::keys::{ANY, ApiKeys, KeysError};

#[derive(Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct ServeArgs {
    #[command(flatten)]
    config: Option<ConfigArgs>,
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Adds, lists and removes API keys
    Key {
        #[command(subcommand)]
        command: EntryCommand<KeyFile>,
    },
}

#[derive(Args)]
struct NewKey {
    /// The name: ASCII letters, digits and . _ - @. It appears in logs and limits
    name: String,
    /// The tenant of its requests. *: they may name any
    #[arg(long, default_value = ANY)]
    tenant: String,
    /// The policy of its requests. *: they may name any
    #[arg(long, default_value = ANY)]
    policy: String,
}

pub fn serve(args: &ServeArgs) -> Result<Exit, Failure> {
    match (&args.command, &args.config) {
        (Some(Action::Key { command }), _) => command.run(),
        (None, Some(config)) => run::serve(config),
        (None, None) => Err(Failure { exit: Exit::Usage, error: anyhow!("--config FILE is missing") }),
    }
}

/// Returns the configured address, or `None` if there is none.
pub fn address(config: &Config) -> Result<Option<SocketAddr>, Failure> {
    config.http.moderation.address().map_err(|reason| Failure { exit: Exit::Config, error: anyhow!(reason) })
}

/// Returns the address of `aegis serve`, after checking the settings that only a server needs.
pub fn own_address(config: &Config) -> Result<SocketAddr, Failure> {
    let wrong = |reason: String| Failure { exit: Exit::Config, error: anyhow!(reason) };
    config.http.moderation.check_records().map_err(wrong)?;
    Ok(address(config)?.unwrap_or(Settings::DEFAULT_LISTEN))
}

/// The file of API keys.
struct KeyFile;

impl CredentialFile for KeyFile {
    type Entry = NewKey;
    type Error = KeysError;

    const ADD: &str = "Adds a key, and prints it once";
    const LIST: &str = "Lists the keys with their tenants and policies";
    const REMOVE: &str = "Removes a key. A running server refuses it within a second";
    const SETTING: &str = "http.moderation.keys";
    const EXAMPLE: &str = "api-keys";

    fn path(config: Config) -> PathBuf {
        config.http.moderation.keys
    }

    fn is_unavailable(error: &KeysError) -> bool {
        matches!(error, KeysError::File { .. })
    }

    fn add(file: &Path, NewKey { name, tenant, policy }: &NewKey) -> Result<(), KeysError> {
        let sent = ApiKeys::add(file, name, tenant, policy)?;
        errln!("the key {name}, which is not shown again:");
        outln!("{sent}");
        Ok(())
    }

    fn rows(file: &Path) -> Result<Vec<Vec<String>>, KeysError> {
        let mut rows = vec![row(["key", "tenant", "policy"])];
        rows.extend(ApiKeys::read(file)?.all().iter().map(|key| {
            let [tenant, policy] = [&key.tenant, &key.policy].map(|scope| scope.as_deref().unwrap_or(ANY));
            row([&*key.name, tenant, policy])
        }));
        Ok(rows)
    }

    fn remove(file: &Path, name: &str) -> Result<String, KeysError> {
        ApiKeys::remove(file, name)?;
        Ok(format!("{name} is removed"))
    }
}
