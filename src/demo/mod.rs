//! `aegis demo`: the whole flow on real text, with a labeller that answers late.

mod audits;
mod brokers;
mod drive;
mod error;
mod flow;
mod plan;
mod report;
mod stream;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::{self, Config, Live, Policies};
use crate::console::Console;
use crate::core::event::Millis;
use crate::core::sampling::AuditRates;
use crate::experts::{Panel, PanelConfig};
use crate::kafka::Connection;
use crate::ops::metrics;
use crate::ops::stdout::errln;
use crate::ops::{Exit, Progress, Shutdown};
use brokers::Brokers;
use drive::Drive;
pub use error::DemoError;
use flow::Flow;
use plan::{AuditDraws, POLICY};
use stream::{Side, Stream};
use texts::Texts;

/// `aegis demo`
#[derive(Args)]
pub struct DemoArgs {
    /// Good events to stream
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    events: u32,
    /// The same seed gives the same events, labels and arrival
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the summary and the rounds
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
    /// `embedded`, or the host:port of an Apache Kafka
    #[arg(long, default_value = "embedded")]
    broker: String,
    /// Folder of the experts and the demo's texts
    #[arg(long, value_name = "DIR", default_value = "models", env = "AEGIS_MODELS")]
    models: PathBuf,
    /// Serves the console on 127.0.0.1:9465, and keeps both roles and the console running after the summary until Ctrl-C
    #[arg(long, conflicts_with = "drive")]
    console: bool,
    /// Streams one side of the demo to the configuration's brokers, lap after lap of --events, until it is told
    /// to stop; nothing else of the demo runs
    #[arg(long, value_enum, value_name = "SIDE", conflicts_with_all = ["broker", "out"])]
    drive: Option<Side>,
    /// With --drive: the configuration with the brokers and topics [default: aegis.toml, then config/aegis.toml, in the
    /// working folder]
    #[arg(long, value_name = "FILE", env = "AEGIS_CONFIG")]
    config: Option<PathBuf>,
    /// With --drive: events a second
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    rate: f64,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=100_000.0).contains(rate));
    rate.ok_or_else(|| "a number from 0.01 to 100000".to_owned())
}

/// The time of the first event by its producer's clock: the same in every run, so that rounds have the same order.
const START: Millis = 1_767_225_600_000;
/// The share of events that are audited. A policy's default is a hundredth, which is enough for a stream of a day.
const AUDIT_RATE: f64 = 0.1;
/// The time that the brokers may take to answer.
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two checks of the roles' progress.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Returns a conversion of the system's errors about a path.
fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> DemoError {
    let path = path.to_path_buf();
    move |reason| DemoError::Io { path, reason }
}

/// Runs the demo and prints its summary. With `--console`, both roles and the console run until shutdown is requested; nothing
/// is left running.
///
/// # Errors
/// Returns a [`DemoError`] if anything needed is missing, a role stops early, or the outcomes are wrong.
pub fn run(args: &DemoArgs) -> Result<(), DemoError> {
    let shutdown = Shutdown::on_signals().map_err(io_error(Path::new("signals")))?;
    let texts = Texts::read(&args.models)?;
    if let Some(side) = args.drive {
        return drive_side(args, side, &texts, &shutdown);
    }
    let policies = Arc::new(policies());
    let audits = AuditDraws::new(policies.get(POLICY), "");
    let plan = plan::plan(&texts, args.events as usize, args.seed, START, &audits);
    errln!(
        "{} events of real text, {} malformed records among them, and {} labels that come late",
        plan.events,
        plan.malformed,
        plan.labels
    );
    let mut config = demo_config(clear_output(&args.out)?);
    let brokers = Brokers::start(args, &plan, &mut config)?;
    let config = Arc::new(config);
    let panel = open_panel(&args.models)?;
    let console =
        if args.console { Some(open_console(&config, &policies, &brokers.connection)?) } else { None };

    let started = Instant::now();
    let flow = Flow::start(&config, &policies, &panel, &brokers)?;
    let drive = Drive::new(&brokers.connection, &config.topics)?;
    let mut progress = Progress::start("deciding", Some(plan.events + plan.malformed));
    let driven = match drive.run(&plan, &mut progress, &|| shutdown.requested() || flow.failed()) {
        Ok(drive) => drive,
        Err(error) => {
            // If a role has stopped, its error is the cause of this one.
            flow.stop()?;
            return Err(error);
        }
    };
    let deciding = started.elapsed();
    progress.finish();
    flow.wait_for(&plan, &shutdown);
    flow.stop()?;
    if shutdown.requested() {
        return Err(DemoError::Interrupted);
    }
    let outcomes = driven.finish()?;
    report::report(&report::Run {
        args,
        plan: &plan,
        outcomes: &outcomes,
        policies: &policies,
        connection: &brokers.connection,
        topics: &config.topics,
        delivery: brokers.delivery,
        deciding,
        elapsed: started.elapsed(),
    })?;
    let Some(console) = console else { return Ok(()) };
    errln!("the console is at http://{} until Ctrl-C; its reviews teach", console.address());
    Flow::start(&config, &policies, &panel, &brokers)?.run_until(&shutdown)
}

/// Returns the configuration of both roles, with the learner's store at this path.
fn demo_config(store: PathBuf) -> Config {
    let mut config = Config::default();
    config.learn.store = store;
    // The events' own time lies in the past; the labels' lateness is counted in events.
    config.learn.horizon_days = 36_500;
    config.learn.publish_interval_ms = 500;
    config.console.show_text = true;
    config
}

/// Starts the console, whose figures include those of this process's metrics.
fn open_console(
    config: &Arc<Config>,
    policies: &Arc<Policies>,
    connection: &Connection,
) -> Result<Console, DemoError> {
    let metrics = metrics::install().map_err(|error| DemoError::Metrics(error.to_string()))?;
    let (config, policies) = (Arc::clone(config), Live::from(Arc::clone(policies)));
    let address = config::Console::DEFAULT_LISTEN;
    let console = Console::start(config, policies, connection.clone(), address, Some(metrics))?;
    errln!("the console is at http://{}", console.address());
    Ok(console)
}

/// Returns the default policy, with audits enough for figures from a short stream.
fn policies() -> Policies {
    let mut policies = Policies::default();
    for policy in policies.policies.values_mut() {
        policy.audit_rates = AuditRates::flat(AUDIT_RATE);
    }
    policies
}

/// Removes the output of an earlier run, creates the folder, and returns the path of the learner's store in it.
fn clear_output(folder: &Path) -> Result<PathBuf, DemoError> {
    let store = folder.join("store");
    for old in [&store, &folder.join("rounds.jsonl"), &folder.join("summary.json")] {
        let removed = if old.is_dir() { fs::remove_dir_all(old) } else { fs::remove_file(old) };
        removed
            .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .map_err(io_error(old))?;
    }
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    Ok(store)
}

fn open_panel(models: &Path) -> Result<Arc<Panel>, DemoError> {
    let started = Instant::now();
    let mut config = PanelConfig::new(models);
    config.runtime = models.join("runtime/libonnxruntime.so");
    let panel = Arc::new(Panel::open(config)?);
    errln!("{} experts loaded in {:.1} s", panel.experts().len(), started.elapsed().as_secs_f64());
    Ok(panel)
}

/// Runs `--drive`: one side of the stream, on the brokers of a configuration.
fn drive_side(args: &DemoArgs, side: Side, texts: &Texts, shutdown: &Shutdown) -> Result<(), DemoError> {
    let file = config::find(args.config.as_deref())?;
    let config::Loaded { config, policies } = config::load(&file, std::env::vars(), &[])?;
    let connection = Connection {
        settings: config.kafka.settings.clone(),
        group_protocol: config.kafka.group_protocol,
        ..Connection::new(config.kafka.brokers.clone())
    };
    let stream = Stream {
        connection: &connection,
        topics: &config.topics,
        policy: policies.get(POLICY),
        texts,
        events: args.events,
        seed: args.seed,
        rate: args.rate,
    };
    stream.drive(side, shutdown)?;
    if shutdown.exit() == Exit::Interrupted { Err(DemoError::Interrupted) } else { Ok(()) }
}
