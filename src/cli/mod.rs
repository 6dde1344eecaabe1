//! The command line.

mod check;
mod config;
mod console;
mod credential_file;
mod dlq;
mod erase;
mod evaluate;
mod experts;
mod explain;
mod labels;
mod ledger;
mod panel_reload;
mod print;
mod reload;
mod replay;
mod report;
mod review;
mod run;
mod scan;
mod score;
mod serve;
mod supervise;
mod topics;
mod tune;
mod verify;
mod weights;

use std::io::ErrorKind;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigError, Loaded, configuration, find, load, untuned};
use crate::demo::DemoArgs;
use crate::evaluate::EvaluateArgs;
use crate::kafka::Connection;
use crate::ops::Exit;
use crate::ops::stdout::{self, SIGPIPE_EXIT, Stdout, errln};
use crate::replay::ReplayArgs;

/// The end of every help text.
const AFTER_HELP: &str = "Settings: AEGIS__SECTION__KEY from the environment overrides the file, and --set section.key=value overrides both. \
    `aegis config show` prints the settings in effect; docs/configuration.md lists all of them.\n\
    Exit codes: 0 success, 64 wrong command line, 65 wrong data or a guarantee that does not hold, 69 brokers or files \
    not available, 70 a fault of this program, 78 wrong configuration, 130 interrupted, 141 output closed by its reader.";

/// Moderates conversations on Kafka: experts vote, a no-regret learner combines the votes, and human labels
/// teach it.
#[derive(Parser)]
#[command(name = "aegis", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Scores events and learns from labels until it is stopped
    Run(RunArgs),
    /// Answers moderation requests over HTTP
    Serve(serve::ServeArgs),
    /// Serves the console: pages on which people see what is decided, and review
    Console(console::ConsoleArgs),
    /// Checks the configuration, the policies and the experts
    Check(check::CheckArgs),
    /// Runs the whole flow on real text, with a labeller that answers late
    Demo(DemoArgs),
    /// Folds label streams offline, to the same state hash as the live learner
    Replay(Box<ReplayArgs>),
    /// Estimates how much is unsafe and how much of it is caught, and previews another policy
    Report(Box<report::ReportArgs>),
    /// Checks the topics on the brokers, and creates missing ones
    Topics(topics::TopicsArgs),
    /// Lists the experts, or asks them about a text
    Experts(experts::ExpertsArgs),
    /// Measures every expert, plain majority and the learner on labelled text: your files, or Aegis's own sets
    Evaluate(Box<EvaluateArgs>),
    /// Writes a decision or a dead letter for each event of a file, without Kafka
    Score(Box<score::ScoreArgs>),
    /// Measures the best settings for the panel on this machine, and writes them to tuned.toml
    Tune(tune::TuneArgs),
    /// Verifies the topics: one outcome for every event, in order, and the state that the ledger folds to
    Verify(verify::VerifyArgs),
    /// Explains a decision, and finds the change of a vote that would reverse it
    Explain(explain::ExplainArgs),
    /// Shows the published predictors
    Weights(weights::WeightsArgs),
    /// Shows the settings in effect, and all possible settings
    Config(config::ConfigCommand),
    /// Lists, shows and replays dead letters
    Dlq(dlq::DlqArgs),
    /// Excludes annotators or subjects from the ledger, and recovers it
    Ledger(ledger::LedgerArgs),
    /// Imports labels, measures annotators, and records decisions about appeals
    Labels(labels::LabelsArgs),
    /// Exports open review requests to labelling tools
    Review(review::ReviewArgs),
    /// Erases a subject from the ledger, and lists the records that remain elsewhere
    Erase(erase::EraseArgs),
    /// Prints a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The arguments that select a configuration.
#[derive(Clone, Args)]
pub struct ConfigArgs {
    /// The configuration file [default: aegis.toml, then config/aegis.toml, in the working folder]
    #[arg(long, value_name = "FILE", env = "AEGIS_CONFIG")]
    config: Option<PathBuf>,
    /// Overrides the file and AEGIS__SECTION__KEY from the environment; can be repeated
    #[arg(long = "set", value_name = "section.key=value")]
    sets: Vec<String>,
}

impl ConfigArgs {
    /// Returns the configuration file: the named one, or the one that is found.
    fn file(&self) -> Result<PathBuf, ConfigError> {
        find(self.config.as_deref())
    }

    fn load(&self) -> Result<Loaded, Failure> {
        Ok(load(&self.file()?, std::env::vars(), &self.sets)?)
    }

    /// Reads the configuration without the policies.
    fn configuration(&self) -> Result<Config, ConfigError> {
        configuration(&self.file()?, std::env::vars(), &self.sets)
    }

    /// Reads the configuration without the settings of `tuned.toml`.
    fn untuned(&self) -> Result<Config, ConfigError> {
        untuned(&self.file()?, std::env::vars(), &self.sets)
    }
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The role of this process
    #[arg(long, value_enum, default_value_t = Role::Both)]
    role: Role,
}

/// The roles.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Reads events and writes decisions
    Score,
    /// Reads labels and writes predictors
    Learn,
    /// Runs both roles in one process
    Both,
}

/// The error of a command, with its exit code.
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// An error of a request to these brokers, which it names.
    fn of(brokers: &Connection, error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Unavailable, error.into().context(format!("brokers {}", brokers.brokers)))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error)
    }
}

/// Runs the command that the arguments name. Returns its exit code.
#[must_use]
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors. clap's exit code for errors is 2, ours is 64.
            if error.print().is_err() {
                return SIGPIPE_EXIT;
            }
            return if error.use_stderr() { Exit::Usage.code() } else { Exit::Success.code() };
        }
    };
    let result = match cli.command {
        Command::Run(args) => run::run(&args.config, args.role),
        Command::Serve(args) => serve::serve(&args),
        Command::Console(args) => console::console(&args),
        Command::Check(args) => check::check(&args),
        Command::Demo(args) => {
            crate::demo::run(&args).map_err(|error| Failure::new(error.exit(), error)).map(|()| Exit::Success)
        }
        Command::Replay(args) => replay::replay(&args),
        Command::Report(args) => report::report(&args),
        Command::Topics(args) => topics::topics(&args),
        Command::Experts(args) => experts::experts(&args),
        Command::Evaluate(args) => evaluate::evaluate(&args),
        Command::Score(args) => score::score(&args),
        Command::Tune(args) => tune::tune(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Weights(args) => weights::weights(&args),
        Command::Config(args) => config::config(&args),
        Command::Dlq(args) => dlq::dlq(&args),
        Command::Ledger(args) => ledger::ledger(&args),
        Command::Labels(args) => labels::labels(&args),
        Command::Review(args) => review::review(&args),
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
        Ok(()) => exit.code(),
        // The reader has closed the pipe.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => SIGPIPE_EXIT,
        Err(error) => {
            errln!("aegis: standard output: {error}");
            Exit::Unavailable.code()
        }
    }
}
