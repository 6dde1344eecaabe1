//! `aegis demo`: the whole flow on real text, with a labeller that answers late.

mod audits;
mod drive;
mod error;
mod plan;
mod report;
mod stream;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::config::topic_specs;
use crate::config::{self, Config, Live, Policies};
use crate::console::Console;
use crate::core::event::Millis;
use crate::core::sampling::AuditRates;
use crate::experts::{Panel, PanelConfig};
use crate::kafka::embedded::{Embedded, KEPT_BYTES};
use crate::kafka::topics::ensure;
use crate::kafka::{Connection, Delivery, Followed, Follower, From};
use crate::learn::{Learn, LearnError};
use crate::ops::metrics;
use crate::ops::stdout::errln;
use crate::ops::{Exit, Health, Progress, Shutdown, StopReason};
use crate::score::{PanelHandle, Score, ScoreError};
use drive::Drive;
pub use error::DemoError;
use plan::{AuditDraws, POLICY, Plan, Sent};
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
    #[arg(long, value_enum, value_name = "SIDE", requires = "config", conflicts_with_all = ["broker", "out"])]
    drive: Option<Side>,
    /// With --drive: names the brokers and topics
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
/// The greatest size of a decision.
const DECISION_BYTES: usize = 4_096;
/// The average size in the ledger of a labelled round with its labels.
const ROUND_BYTES: usize = 1_000;
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
    if let (Some(side), Some(config)) = (args.drive, &args.config) {
        return drive_side(args, side, config, &texts, &shutdown);
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
    let store = clear_output(&args.out)?;
    let mut config = Config::default();
    config.learn.store = store;
    // The events' own time lies in the past; the labels' lateness is counted in events.
    config.learn.horizon_days = 36_500;
    config.learn.publish_interval_ms = 500;
    config.console.show_text = true;
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
fn drive_side(
    args: &DemoArgs,
    side: Side,
    config: &Path,
    texts: &Texts,
    shutdown: &Shutdown,
) -> Result<(), DemoError> {
    let config::Loaded { config, policies } = config::load(config, std::env::vars(), &[])?;
    let connection = Connection {
        settings: config.kafka.settings.clone(),
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

/// The brokers in use, embedded or not.
struct Brokers {
    connection: Connection,
    delivery: config::Delivery,
    /// Ends the embedded broker when dropped.
    _embedded: Option<Embedded>,
}

impl Brokers {
    fn start(args: &DemoArgs, plan: &Plan, config: &mut Config) -> Result<Self, DemoError> {
        let connection = |bootstrap: String| {
            let settings = [("message.max.bytes".to_owned(), "4000000".to_owned())].into();
            Connection { settings, ..Connection::new(bootstrap) }
        };
        if args.broker == "embedded" {
            let broker = embedded_broker(args, plan, config)?;
            return Ok(Self {
                connection: connection(broker.bootstrap().to_owned()),
                delivery: config::Delivery::AtLeastOnce,
                _embedded: Some(broker),
            });
        }
        // Topics and groups of its own, on a broker that others use too.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_millis();
        let prefix = format!("aegis-demo-{now}");
        config.topics = std::mem::take(&mut config.topics).under(&prefix);
        config.score.group = format!("{prefix}.score");
        config.learn.group = format!("{prefix}.learn");
        let connection = connection(args.broker.clone());
        let mut specs = topic_specs(config, 6);
        for spec in &mut specs {
            spec.config.insert("max.message.bytes".into(), "4000000".into());
        }
        ensure(&connection, &specs, BROKER_TIMEOUT)?;
        Ok(Self { connection, delivery: config::Delivery::ExactlyOnce, _embedded: None })
    }
}

/// Starts the embedded broker, which keeps 5 MiB a partition and drops older records, with partitions enough for twice
/// what is sent.
fn embedded_broker(args: &DemoArgs, plan: &Plan, config: &Config) -> Result<Embedded, DemoError> {
    if plan.events * ROUND_BYTES > KEPT_BYTES {
        return Err(DemoError::TooMany { events: args.events });
    }
    let sent: usize = plan.sent.iter().map(size).sum();
    let partitions = 2 + 2 * sent.max(plan.events * DECISION_BYTES) / KEPT_BYTES;
    let specs = topic_specs(config, i32::try_from(partitions).unwrap_or(i32::MAX));
    let topics: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
    Ok(Embedded::start(&topics)?)
}

/// Returns about the bytes of a record.
fn size(sent: &Sent) -> usize {
    match sent {
        Sent::Event(event) => event.turns.iter().map(|turn| turn.text.len() + 16).sum::<usize>() + 128,
        Sent::Malformed(payload) | Sent::BadLabel(payload) => payload.len(),
        Sent::Label(_) => 256,
    }
}

/// Both roles on threads of this process.
struct Flow {
    score: JoinHandle<Result<(), ScoreError>>,
    learn: JoinHandle<Result<(), LearnError>>,
    shutdown: Shutdown,
    progress: Arc<crate::learn::Progress>,
}

impl Flow {
    fn start(
        config: &Arc<Config>,
        policies: &Arc<Policies>,
        panel: &Arc<Panel>,
        brokers: &Brokers,
    ) -> Result<Self, DemoError> {
        // Signals stop the demo, and the demo stops the roles.
        let shutdown = Shutdown::new();
        let delivery = |id: String| match brokers.delivery {
            config::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
            config::Delivery::ExactlyOnce => Delivery::ExactlyOnce {
                transactional_id: id,
                timeout: brokers.connection.transaction_timeout(),
            },
        };
        let score = Score {
            config: Arc::clone(config),
            policies: Arc::clone(policies).into(),
            panel: PanelHandle::in_force(Arc::clone(panel), &config.experts.shadow),
            connection: brokers.connection.clone(),
            delivery: delivery(format!("{}-1", config.score.group)),
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        let progress = Arc::<crate::learn::Progress>::default();
        let learn = Learn {
            config: Arc::clone(config),
            policies: Arc::clone(policies).into(),
            connection: brokers.connection.clone(),
            delivery: delivery(config.learn.group.clone()),
            health: Health::default(),
            shutdown: shutdown.clone(),
            progress: Arc::clone(&progress),
        };
        let spawn_error = || io_error(Path::new("threads"));
        Ok(Self {
            score: thread::Builder::new()
                .name("score".into())
                .spawn(move || score.run())
                .map_err(spawn_error())?,
            learn: thread::Builder::new()
                .name("learn".into())
                .spawn(move || learn.run())
                .map_err(spawn_error())?,
            shutdown,
            progress,
        })
    }

    /// Waits until everything of the plan is decided and learned, a role fails, or shutdown is requested.
    fn wait_for(&self, plan: &Plan, shutdown: &Shutdown) {
        let labels = i64::try_from(plan.labels).unwrap_or(i64::MAX);
        let behind = || self.progress.labels() < labels || self.progress.decisions() < plan.events;
        while behind() && !shutdown.requested() && !self.failed() {
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Runs both roles until shutdown is requested or one of them fails.
    fn run_until(self, shutdown: &Shutdown) -> Result<(), DemoError> {
        while !shutdown.requested() && !self.failed() {
            thread::sleep(POLL_INTERVAL);
        }
        self.stop()
    }

    /// Returns `true` if a role has stopped on its own.
    fn failed(&self) -> bool {
        self.score.is_finished() || self.learn.is_finished()
    }

    /// Stops both roles cleanly and waits for them.
    fn stop(self) -> Result<(), DemoError> {
        self.shutdown.request(StopReason::Program);
        let score = self.score.join();
        let learn = self.learn.join();
        score.map_err(|_| DemoError::Panicked("score"))??;
        learn.map_err(|_| DemoError::Panicked("learn"))??;
        Ok(())
    }
}

/// Returns all records of a topic in order. If `whole`, it is an error if the topic has lost any.
fn read_back(
    connection: &Connection,
    topic: &str,
    whole: bool,
) -> Result<Vec<crate::kafka::Consumed>, DemoError> {
    let mut follower = Follower::open(connection, topic, &From::Beginning, BROKER_TIMEOUT)?;
    let mut records = Vec::new();
    let mut last_record = Instant::now();
    loop {
        match follower.poll(Duration::from_millis(50))? {
            Followed::Record(record) => {
                records.push(record);
                last_record = Instant::now();
            }
            Followed::End => return Ok(records),
            Followed::Skipped { from, .. } if whole => {
                return Err(DemoError::Unbalanced(format!("{topic} has lost records before offset {from}")));
            }
            _ if last_record.elapsed() > BROKER_TIMEOUT => {
                return Err(DemoError::Unbalanced(format!("{topic} fell silent before its end")));
            }
            _ => {}
        }
    }
}
