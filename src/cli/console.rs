//! `aegis console`: serves the console, and manages its users.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};

use super::print::{self, row};
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
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct ConsoleArgs {
    #[command(flatten)]
    config: Option<ConfigArgs>,
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Adds, lists and removes the console's users
    User {
        #[command(subcommand)]
        command: UserAction,
    },
}

#[derive(Subcommand)]
enum UserAction {
    /// Adds a user, and prints the token or password once
    Add {
        /// The name: ASCII letters, digits and . _ - @. It is the annotator of a reviewer's labels
        name: String,
        /// The role of the user
        #[arg(long, value_enum, default_value_t = Role::Viewer)]
        role: Role,
        /// The proof of identity that the user gives
        #[arg(long, value_enum, default_value_t = Kind::Token)]
        kind: Kind,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Lists the users with their roles
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Removes a user, whose sessions end
    Remove {
        /// The name
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub fn console(args: &ConsoleArgs) -> Result<Exit, Failure> {
    match (&args.command, &args.config) {
        (Some(Action::User { command }), _) => user(command),
        (None, Some(config)) => serve(config),
        (None, None) => Err(Failure { exit: Exit::Usage, error: anyhow!("--config FILE is missing") }),
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

/// Returns the file of credentials.
fn file(config: &ConfigArgs) -> Result<PathBuf, Failure> {
    let file = config.configuration()?.console.credentials;
    if file.as_os_str().is_empty() {
        let reason =
            "console.credentials names no file: set it in the configuration, e.g. to \"console-users\"";
        return Err(Failure { exit: Exit::Config, error: anyhow!(reason) });
    }
    Ok(file)
}

fn user(action: &UserAction) -> Result<Exit, Failure> {
    let failed = |error: CredentialsError| {
        let exit = match error {
            CredentialsError::File { .. } => Exit::Unavailable,
            _ => Exit::Data,
        };
        Failure::new(exit, error)
    };
    match action {
        UserAction::Add { name, role, kind, config } => {
            let path = file(config)?;
            let secret = Credentials::add(&path, name, *role, *kind).map_err(failed)?;
            match &secret {
                Some(_) => errln!(
                    "{name} is a {}, with this {}, which is not shown again:",
                    role.word(),
                    kind.word()
                ),
                None => errln!("{name} is a {}, if the proxy says so", role.word()),
            }
            if let Some(secret) = secret {
                outln!("{secret}");
            }
        }
        UserAction::List { config } => {
            let users = Credentials::read(&file(config)?).map_err(failed)?.users();
            let mut rows = vec![row(["user", "role", "proof"])];
            rows.extend(users.iter().map(|user| row([&*user.name, user.role.word(), user.kind.word()])));
            print::table(&rows, &[]);
        }
        UserAction::Remove { name, config } => {
            Credentials::remove(&file(config)?, name).map_err(failed)?;
            outln!("{name} is removed, and sessions of {name} have ended");
        }
    }
    Ok(Exit::Success)
}
