//! The command line.

mod check;
mod config;
mod dlq;
mod erase;
mod experts;
mod explain;
mod ledger;
mod print;
mod reload;
mod replay;
mod reseat;
mod run;
mod scan;
mod supervise;
mod topics;
mod tune;
mod verify;
mod weights;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigError, Loaded, configuration, load, untuned};
use crate::demo::DemoArgs;
use crate::evaluate::{EvaluateArgs, EvaluateError};
use crate::kafka::Connection;
use crate::ops::Exit;
use crate::ops::stdout::{self, SIGPIPE_EXIT, Stdout, errln};
use crate::replay::ReplayArgs;

/// What holds for every command.
const AFTER: &str = "Settings: the file, over it AEGIS__SECTION__KEY from the environment, over both --set section.key=value; \
    `aegis config show` tells what is in effect, docs/configuration.md lists them all.\n\
    Exit codes: 0 all well, 64 wrong command line, 65 wrong data or a promise that does not hold, 69 brokers or files \
    not to be had, 70 a fault of this program, 78 wrong configuration, 130 interrupted, 141 nobody reads what is printed.";

/// Moderates conversations on Kafka: experts vote, a no-regret learner combines the votes, human labels
/// teach it.
#[derive(Parser)]
#[command(name = "aegis", version, max_term_width = 100, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Scores events and learns from labels until it is told to stop
    Run(RunArgs),
    /// Reads configuration, policies and experts, and says what is wrong with them
    Check(check::CheckArgs),
    /// Shows the whole flow on real text, with a labeller that answers late
    Demo(DemoArgs),
    /// Folds label streams offline: the same state hash as the live learner's, and what it would have done
    Replay(Box<ReplayArgs>),
    /// Checks the topics on the brokers, and makes those that are missing
    Topics(topics::TopicsArgs),
    /// Lists the experts, or asks them about a text
    Experts(experts::ExpertsArgs),
    /// Measures every expert, plain majority and the default learner on held-out labelled text
    Evaluate(EvaluateArgs),
    /// Measures what the panel works best with on this machine, and writes tuned.toml beside the configuration
    Tune(tune::TuneArgs),
    /// Reads the topics back: one outcome for every event, in order, and the state that the ledger folds to
    Verify(verify::VerifyArgs),
    /// Tells what made a decision, and what would have made another
    Explain(explain::ExplainArgs),
    /// Shows what the learner has published
    Weights(weights::WeightsArgs),
    /// Shows what is set, and what can be
    Config(config::ConfigCommand),
    /// Looks at dead letters
    Dlq(dlq::DlqArgs),
    /// Edits the ledger: afterwards the learner's state is that of a world where it never was
    Ledger(ledger::LedgerArgs),
    /// Erases a subject from the ledger, and tells what stays elsewhere and until when
    Erase(erase::EraseArgs),
    /// Prints a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Which configuration.
#[derive(Clone, Args)]
pub struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "AEGIS_CONFIG")]
    config: PathBuf,
    /// Lies over the file and AEGIS__SECTION__KEY from the environment; can be repeated
    #[arg(long = "set", value_name = "section.key=value")]
    sets: Vec<String>,
}

impl ConfigArgs {
    fn load(&self) -> Result<Loaded, Failure> {
        Ok(load(&self.config, std::env::vars(), &self.sets)?)
    }

    /// The configuration alone, read anew.
    fn configuration(&self) -> Result<Config, ConfigError> {
        configuration(&self.config, std::env::vars(), &self.sets)
    }

    /// The same without what `aegis tune` has found.
    fn untuned(&self) -> Result<Config, ConfigError> {
        untuned(&self.config, std::env::vars(), &self.sets)
    }
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Which part of the work this process does
    #[arg(long, value_enum, default_value_t = Role::Both)]
    role: Role,
}

/// The roles.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Events in, decisions out
    Score,
    /// Labels in, predictors out
    Learn,
    /// Both in one process
    Both,
}

/// How a command failed: what to print, and the exit code.
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// Something did not come of asking these brokers: which, the error itself does not know.
    fn of(brokers: &Connection, error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Unavailable, error.into().context(format!("brokers {}", brokers.brokers)))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error)
    }
}

fn evaluate(args: &EvaluateArgs) -> Result<Exit, Failure> {
    let failed = |error: EvaluateError| {
        let exit = match &error {
            EvaluateError::Unavailable(_) => Exit::Unavailable,
            EvaluateError::Data(_) => Exit::Data,
        };
        Failure::new(exit, error)
    };
    crate::evaluate::run(args).map_err(failed).map(|()| Exit::Success)
}

/// Runs the command that the arguments name; its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap's own code for the rest is 2, ours 64.
            if error.print().is_err() {
                return SIGPIPE_EXIT.into();
            }
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    let result = match cli.command {
        Command::Run(args) => run::run(&args.config, args.role),
        Command::Check(args) => check::check(&args),
        Command::Demo(args) => {
            crate::demo::run(&args).map_err(|error| Failure::new(error.exit(), error)).map(|()| Exit::Success)
        }
        Command::Replay(args) => replay::replay(&args),
        Command::Topics(args) => topics::topics(&args),
        Command::Experts(args) => experts::experts(&args),
        Command::Evaluate(args) => evaluate(&args),
        Command::Tune(args) => tune::tune(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Weights(args) => weights::weights(&args),
        Command::Config(args) => config::config(&args),
        Command::Dlq(args) => dlq::dlq(&args),
        Command::Ledger(args) => ledger::ledger(&args),
        Command::Erase(args) => erase::erase(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "aegis", &mut Stdout);
            Ok(Exit::Success)
        }
    };
    let exit = match result {
        Ok(exit) => exit,
        Err(Failure { exit, error }) => {
            errln!("aegis: {error:#}");
            exit
        }
    };
    match stdout::finish() {
        Ok(()) => exit.into(),
        // Whoever read has enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => SIGPIPE_EXIT.into(),
        Err(error) => {
            errln!("aegis: standard output: {error}");
            Exit::Unavailable.into()
        }
    }
}
