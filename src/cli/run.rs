//! `aegis run`: assembles and runs the roles.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::PrometheusHandle;

use super::panel_reload::PanelReloader;
use super::reload::{Watch, validate_names};
use super::supervise::Supervisor;
use super::{ConfigArgs, Failure, Role, console, serve as serve_command};
use crate::config::{self, Config, EncoderPrecision, Experts, LogFormat, Policies};
use crate::console::Console;
use crate::experts::batcher::Limits;
use crate::experts::{Panel, PanelConfig, Precision, Provider};
use crate::kafka::{Connection, Delivery, check_auth};
use crate::learn::Learn;
use crate::ops::{Exit, Hangup, Health, Server, Shutdown, descriptors, health, metrics, telemetry, traces};
use crate::panics;
use crate::report;
use crate::score::{PanelHandle, Score, in_shadow};
use crate::serve::{self as moderation, Moderation};

/// Returns the settings of the panel.
pub fn panel_config(experts: &Experts) -> PanelConfig {
    let mut panel = PanelConfig::new(&experts.folder);
    if !experts.runtime.as_os_str().is_empty() {
        panel.runtime.clone_from(&experts.runtime);
    }
    let memory_limit = (experts.card_memory_mib > 0).then_some(experts.card_memory_mib << 20);
    panel.provider = match experts.provider {
        config::Provider::Cpu => Provider::Cpu,
        config::Provider::Cuda(card) => Provider::Cuda { device: card.into(), memory_limit },
        config::Provider::TensorRt(card) => {
            Provider::TensorRt { device: card.into(), memory_limit, engines: experts.folder.join("engines") }
        }
    };
    panel.precision = match experts.encoder {
        EncoderPrecision::Float32 => Precision::Float32,
        EncoderPrecision::Int8 => Precision::Int8,
    };
    panel.only = (!experts.only.is_empty()).then(|| experts.only.clone());
    panel.cheap.clone_from(&experts.cheap);
    panel.sessions = (experts.sessions > 0).then_some(experts.sessions);
    panel.threads = experts.threads;
    panel.tokenize_threads = (experts.tokenize_threads > 0).then_some(experts.tokenize_threads);
    panel.batch.tokens = experts.batch_tokens;
    panel.budgets.clone_from(&experts.budgets);
    if panel.provider.is_card() {
        // A GPU runs a hundred texts in the time of one.
        panel.batch = Limits { tokens: experts.card_batch_tokens, rows: 1_024, ..panel.batch };
        panel.fixed_batch = Limits { tokens: experts.card_batch_tokens, rows: 1_024, ..panel.fixed_batch };
        panel.budgets.clone_from(&experts.card_budgets);
    }
    panel.arena_tokens = experts.arena_tokens;
    panel.memory = (experts.memory_mib > 0).then_some(experts.memory_mib << 20);
    panel.cache = experts.cache_mib << 20;
    panel.timeout = Duration::from_millis(experts.timeout_ms);
    panel
}

/// Opens the panel.
pub fn panel(config: &Config) -> Result<Panel, Failure> {
    Panel::open(panel_config(&config.experts)).map_err(|error| Failure::new(Exit::Config, error))
}

/// Opens the panel, or returns an error if an expert cannot be loaded. With `aegis run` such an expert abstains.
pub fn complete_panel(config: &Config) -> Result<Panel, Failure> {
    let config = PanelConfig { require_all: true, ..panel_config(&config.experts) };
    Panel::open(config).map_err(|error| Failure::new(Exit::Config, error))
}

/// Checks that the experts in `shadow` and `voting` are on the panel, and that not all of it is in shadow mode.
pub fn validate_shadow(panel: &Panel, settings: &Experts) -> Result<(), Failure> {
    let experts = panel.experts();
    let wrong = |error| Err(Failure { exit: Exit::Config, error });
    for (setting, ids) in [("shadow", &settings.shadow), ("voting", &settings.voting)] {
        if let Some(unknown) = ids.iter().find(|id| !experts.iter().any(|expert| expert.id == **id)) {
            return wrong(anyhow!(
                "experts.{setting} names {unknown}, which is no expert of the panel: `aegis experts list` shows its experts"
            ));
        }
    }
    if let Some(both) = settings.voting.iter().find(|id| settings.shadow.contains(id)) {
        return wrong(anyhow!("experts.shadow and experts.voting both name {both}: remove it from one"));
    }
    if !experts.is_empty() && in_shadow(panel, settings).len() == experts.len() {
        return wrong(anyhow!(
            "the whole panel is in shadow: no expert would be left to decide; remove one from experts.shadow, or name \
             one whose manifest says `shadow = true` in experts.voting"
        ));
    }
    Ok(())
}

/// Checks that the experts that the configuration and the policies name are on the panel.
pub fn validate_panel(panel: &Panel, config: &Config, policies: &Policies) -> Result<(), Failure> {
    validate_shadow(panel, &config.experts)?;
    let experts: Vec<String> = panel.experts().iter().map(|expert| expert.id.clone()).collect();
    let mut all = policies.policies.values();
    all.try_for_each(|policy| validate_names(policy, &experts))
        .map_err(|error| Failure { exit: Exit::Config, error })
}

/// Returns the connection settings, after checking them.
pub fn connection(config: &Config) -> Result<Connection, Failure> {
    let connection = Connection {
        settings: config.kafka.settings.clone(),
        group_protocol: config.kafka.group_protocol,
        ..Connection::new(config.kafka.brokers.clone())
    };
    connection.check().map_err(|error| Failure::new(Exit::Config, error))?;
    Ok(connection)
}

/// Returns the connection settings after one broker has accepted this client, for commands that end if it is refused.
/// Brokers that cannot be reached are not an error here: the first request reports them.
pub fn brokers(config: &Config) -> Result<Connection, Failure> {
    let connection = connection(config)?;
    check_auth(&connection, &|| false).map_err(|error| Failure::of(&connection, error))?;
    Ok(connection)
}

/// Checks the settings of traces, without sending any.
pub fn check_traces(config: &Config) -> Result<(), Failure> {
    traces::check(&traces::Settings::from_config(config)).map_err(|error| Failure::new(Exit::Config, error))
}

/// Returns the delivery of an instance. The transaction timeout is shorter than the session of its group member.
pub fn delivery(config: &Config, connection: &Connection, instance: &str) -> Delivery {
    match config.kafka.delivery {
        config::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
        config::Delivery::ExactlyOnce => Delivery::ExactlyOnce {
            transactional_id: instance.to_owned(),
            timeout: connection.transaction_timeout(),
        },
    }
}

/// The conditions of a scorer's readiness.
const SCORE: (&str, &[&str]) = (
    "score",
    &["experts loaded", "weights followed", "predictors usable", "partitions assigned", "broker seen"],
);
/// The conditions of a learner's readiness. An active learner has more.
const LEARN: (&str, &[&str]) = ("learn", &["broker seen"]);

/// The work of a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Roles on Kafka, and moderation over HTTP beside a scorer if it is configured.
    Roles(Role),
    /// Moderation over HTTP alone.
    Serve,
}

impl Work {
    fn conditions(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Roles(Role::Learn) => &[LEARN],
            Self::Roles(Role::Score) => &[SCORE],
            Self::Roles(Role::Both) => &[SCORE, LEARN],
            Self::Serve => &[],
        }
    }

    /// Returns the address of moderation over HTTP, if this process serves it.
    fn moderation(self, config: &Config) -> Result<Option<SocketAddr>, Failure> {
        match self {
            Self::Serve => serve_command::own_address(config).map(Some),
            Self::Roles(Role::Learn) => Ok(None),
            Self::Roles(_) => serve_command::address(config),
        }
    }
}

/// `aegis run`.
pub fn run(args: &ConfigArgs, role: Role) -> Result<Exit, Failure> {
    process(args, Work::Roles(role))
}

/// `aegis serve`.
pub fn serve(args: &ConfigArgs) -> Result<Exit, Failure> {
    process(args, Work::Serve)
}

fn process(args: &ConfigArgs, work: Work) -> Result<Exit, Failure> {
    let unavailable = |error| Failure { exit: Exit::Unavailable, error };
    let config::Loaded { config, policies } = args.load()?;
    let (config, policies) = (Arc::new(config), config::Live::from(Arc::new(policies)));
    start_log(&config)?;
    let address = work.moderation(&config)?;
    let limit = secure_descriptors(&config, address, None)?;
    let handle = metrics::install().context("the metrics cannot be installed").map_err(unavailable)?;
    let shutdown = Shutdown::on_signals().context("signals cannot be handled").map_err(unavailable)?;
    let hangup = Hangup::on_signal().context("signals cannot be handled").map_err(unavailable)?;
    let health = Health::default();
    for (role, names) in work.conditions() {
        names.iter().for_each(|name| health.of(role).set(name, false));
    }
    if address.is_some() {
        moderation::register(&health);
    }
    let ending = shutdown.clone();
    panics::install(move |part| ending.panicked(part));
    let server = start_server(&config, health.clone(), handle.clone())?;
    tracing::info!(address = %server.address(), "health and metrics");
    tracing::info!(limit, "file descriptors");
    if let Some(tuned) = &config.tuned {
        let (path, taken, left) = (tuned.path.display(), tuned.taken.join(", "), tuned.left.join(", "));
        tracing::info!(%path, taken, set_by_the_configuration = left, "tuned for this machine");
    }
    check_traces(&config)?;
    let connection = connect(&config, address, &shutdown)?;
    let is_role = work != Work::Serve;
    let console = if is_role { start_console(&config, &policies, &connection, handle)? } else { None };
    let roles = Roles { config, policies, connection, health, shutdown };
    let mut supervisor = Supervisor::new(roles.shutdown.clone(), roles.health.clone());
    let experts = match work {
        Work::Roles(Role::Learn) => None,
        _ => Some(roles.start_panel(&mut supervisor, args, is_role, address)?),
    };
    if matches!(work, Work::Roles(Role::Learn | Role::Both)) {
        roles.start_learn(&mut supervisor)?;
    }
    let Roles { config, policies, shutdown, .. } = roles;
    let watch = Watch {
        live: policies,
        file: Some(config.policies.clone()).filter(|file| !file.as_os_str().is_empty()),
        experts,
        hangup,
        shutdown: shutdown.clone(),
    };
    supervisor.helper("policies", || watch.run())?;
    let ended = supervisor.wait();
    drop(console);
    server.stop();
    ended.map(|()| shutdown.exit())
}

fn start_log(config: &Config) -> Result<(), Failure> {
    let format = match config.log.format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(format, &config.log.level).map_err(|error| Failure::new(Exit::Config, error))
}

/// Starts the server of health and metrics.
fn start_server(config: &Config, health: Health, handle: PrometheusHandle) -> Result<Server, Failure> {
    let limits = health::Limits {
        connections: config.http.max_connections,
        idle: Duration::from_millis(config.http.idle_timeout_ms),
        ..health::Limits::default()
    };
    Server::start(config.http.listen, limits, health, handle)
        .map_err(|error| Failure::new(Exit::Unavailable, error))
}

/// Starts the console if `console.listen` is set.
fn start_console(
    config: &Arc<Config>,
    policies: &config::Live,
    connection: &Connection,
    metrics: PrometheusHandle,
) -> Result<Option<Console>, Failure> {
    let Some(address) = console::address(config)? else { return Ok(None) };
    let (config, policies, connection) = (Arc::clone(config), policies.clone(), connection.clone());
    let console =
        Console::start(config, policies, connection, address, Some(metrics)).map_err(console::failure)?;
    tracing::info!(address = %console.address(), "console");
    Ok(Some(console))
}

/// Raises the limit on file descriptors. With an address of `moderation`, its connections need some. Returns the new limit, or an error if it is too low.
fn secure_descriptors(
    config: &Config,
    moderation: Option<SocketAddr>,
    brokers: Option<usize>,
) -> Result<u64, Failure> {
    let console = if config.console.listen.is_empty() { 0 } else { console::MAX_CONNECTIONS };
    let moderation = moderation.map_or(0, |_| config.http.moderation.max_connections);
    descriptors::secure(config.http.max_connections + console + moderation, brokers)
        .map_err(|error| Failure::new(Exit::Config, error))
}

/// Connects to the brokers: checks the authentication, the descriptors for all brokers, and the session timeout.
fn connect(
    config: &Config,
    moderation: Option<SocketAddr>,
    shutdown: &Shutdown,
) -> Result<Connection, Failure> {
    let connection = connection(config)?;
    let brokers = check_auth(&connection, &|| shutdown.requested())
        .map_err(|error| Failure::new(Exit::Unavailable, error))?;
    secure_descriptors(config, moderation, brokers)?;
    if let Some(wanted) = connection.session_too_short() {
        let (session, round_trip) = (connection.session_timeout(), connection.round_trip.get());
        tracing::warn!(
            ?session,
            ?round_trip,
            ?wanted,
            "session.timeout.ms of kafka.settings is too short for brokers so far away: commits may fail; remove it or raise it"
        );
    }
    Ok(connection)
}

/// The parts that the roles of a process share.
struct Roles {
    config: Arc<Config>,
    policies: config::Live,
    connection: Connection,
    health: Health,
    shutdown: Shutdown,
}

impl Roles {
    /// Opens the panel and starts the roles that use it: the scoring role if `scores`, and moderation over HTTP if there is
    /// an `address`. Returns the reloader of the panel.
    fn start_panel(
        &self,
        supervisor: &mut Supervisor,
        args: &ConfigArgs,
        scores: bool,
        address: Option<SocketAddr>,
    ) -> Result<PanelReloader, Failure> {
        let config = &self.config;
        let panel = Arc::new(panel(config)?);
        validate_panel(&panel, config, &self.policies.now())?;
        for expert in panel.experts() {
            let (provider, state) = (&expert.provider, expert.state.word());
            tracing::info!(expert = expert.id, provider, state, "expert");
        }
        let handle = PanelHandle::in_force(panel, &config.experts);
        for expert in &handle.now().shadow {
            tracing::info!(expert, "in shadow: its votes have no weight");
        }
        let reloader = PanelReloader::new(handle.clone(), args, &config.experts)?;
        if scores {
            self.health.of("score").set("experts loaded", true);
            let score = self.score(&handle);
            supervisor.role("score", || score.run().map_err(anyhow::Error::from))?;
        }
        if let Some(address) = address {
            self.health.of(moderation::ROLE).set("experts loaded", true);
            let role = Moderation { score: self.score(&handle), address };
            supervisor.role(moderation::ROLE, || role.run().map_err(anyhow::Error::from))?;
        }
        Ok(reloader)
    }

    /// Returns the scoring role over this panel.
    fn score(&self, panel: &config::Live<PanelHandle>) -> Score {
        let config = &self.config;
        let instance = format!("{}-{}", config.score.group, config.score.member);
        Score {
            config: Arc::clone(config),
            policies: self.policies.clone(),
            panel: panel.clone(),
            delivery: delivery(config, &self.connection, &instance),
            connection: self.connection.clone(),
            health: self.health.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    /// Starts the learning role.
    fn start_learn(&self, supervisor: &mut Supervisor) -> Result<(), Failure> {
        let config = &self.config;
        let learn = Learn {
            config: Arc::clone(config),
            policies: self.policies.clone(),
            delivery: delivery(config, &self.connection, &config.learn.group),
            connection: self.connection.clone(),
            health: self.health.clone(),
            shutdown: self.shutdown.clone(),
            progress: Arc::default(),
        };
        let watch = report::Watch {
            config: Arc::clone(config),
            policies: self.policies.clone(),
            connection: self.connection.clone(),
            shutdown: self.shutdown.clone(),
        };
        supervisor.helper("report", || watch.run())?;
        supervisor.role("learn", || learn.run().map_err(anyhow::Error::from))
    }
}
