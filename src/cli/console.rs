//! `aegis console`: serves the console, and manages its users.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};

use super::credential_file::{CredentialFile, EntryCommand};
use super::print::row;
use super::reload::Watch;
use super::supervise::Supervisor;
use super::{ConfigArgs, Failure, run};
use crate::config::{Config, Console as Settings, Live, Loaded, LogFormat};
pub use crate::console::MAX_CONNECTIONS;
use crate::console::access::{Credentials, CredentialsError, Kind, Role};
use crate::console::{Console, ConsoleError};
use crate::ops::stdout::{errln, outln};
use crate::ops::{Exit, Hangup, Health, Shutdown, telemetry};
use crate::panics;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConsoleArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Adds, lists and removes the console's users
    User {
        #[command(subcommand)]
        command: EntryCommand<UserFile>,
    },
}

#[derive(Args)]
struct NewUser {
    /// The name: ASCII letters, digits and . _ - @. It is the annotator of a reviewer's labels
    name: String,
    /// The role of the user
    #[arg(long, value_enum, default_value_t = Role::Viewer)]
    role: Role,
    /// The proof of identity that the user gives
    #[arg(long, value_enum, default_value_t = Kind::Token)]
    kind: Kind,
}

pub fn console(args: &ConsoleArgs) -> Result<Exit, Failure> {
    match &args.command {
        Some(Action::User { command }) => command.run(),
        None => serve(&args.config),
    }
}

/// Returns the exit code of an error: a setting, or something that is not available.
pub fn failure(error: ConsoleError) -> Failure {
    let exit = match error {
        ConsoleError::Serve(_) | ConsoleError::Thread(_) => Exit::Unavailable,
        _ => Exit::Config,
    };
    Failure::new(exit, error)
}

fn serve(args: &ConfigArgs) -> Result<Exit, Failure> {
    let Loaded { config, policies } = args.load()?;
    let format = match config.log.format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(format, &config.log.level).map_err(|error| Failure::new(Exit::Config, error))?;
    let unavailable = |error| Failure { exit: Exit::Unavailable, error };
    let shutdown = Shutdown::on_signals().context("signals cannot be handled").map_err(unavailable)?;
    let hangup = Hangup::on_signal().context("signals cannot be handled").map_err(unavailable)?;
    let ending = shutdown.clone();
    panics::install(move |part| ending.panicked(part));
    let connection = run::connection(&config)?;
    let address = address(&config)?.unwrap_or(Settings::DEFAULT_LISTEN);
    let (config, policies) = (Arc::new(config), Live::from(Arc::new(policies)));
    let console =
        Console::start(Arc::clone(&config), policies.clone(), connection, address, None).map_err(failure)?;
    outln!("the console is at http://{}", console.address());
    let mut supervisor = Supervisor::new(shutdown.clone(), Health::default());
    let watch = Watch {
        live: policies,
        file: Some(config.policies.clone()).filter(|file| !file.as_os_str().is_empty()),
        experts: None,
        hangup,
        shutdown: shutdown.clone(),
    };
    supervisor.helper("policies", || watch.run())?;
    let ended = supervisor.wait();
    drop(console);
    ended.map(|()| shutdown.exit())
}

/// Returns the configured address, or `None` if there is none.
pub fn address(config: &Config) -> Result<Option<std::net::SocketAddr>, Failure> {
    config.console.address().map_err(|reason| Failure { exit: Exit::Config, error: anyhow!(reason) })
}

/// The file of the console's users.
struct UserFile;

impl CredentialFile for UserFile {
    type Entry = NewUser;
    type Error = CredentialsError;

    const ADD: &str = "Adds a user, and prints the token or password once";
    const LIST: &str = "Lists the users with their roles";
    const REMOVE: &str = "Removes a user, whose sessions end";
    const SETTING: &str = "console.credentials";
    const EXAMPLE: &str = "console-users";

    fn path(config: Config) -> PathBuf {
        config.console.credentials
    }

    fn is_unavailable(error: &CredentialsError) -> bool {
        matches!(error, CredentialsError::File { .. })
    }

    fn add(file: &Path, NewUser { name, role, kind }: &NewUser) -> Result<(), CredentialsError> {
        let secret = Credentials::add(file, name, *role, *kind)?;
        let (role, kind) = (role.word(), kind.word());
        match secret {
            Some(secret) => {
                errln!("{name} is a {role}, with this {kind}, which is not shown again:");
                outln!("{secret}");
            }
            None => errln!("{name} is a {role}, if the proxy says so"),
        }
        Ok(())
    }

    fn rows(file: &Path) -> Result<Vec<Vec<String>>, CredentialsError> {
        let mut rows = vec![row(["user", "role", "proof"])];
        let users = Credentials::read(file)?.users();
        rows.extend(users.iter().map(|user| row([&*user.name, user.role.word(), user.kind.word()])));
        Ok(rows)
    }

    fn remove(file: &Path, name: &str) -> Result<String, CredentialsError> {
        Credentials::remove(file, name)?;
        Ok(format!("{name} is removed, and sessions of {name} have ended"))
    }
}
