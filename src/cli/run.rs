//! `aegis run`: the roles, assembled.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::reload::{Watch, known};
use super::reseat::PanelReloader;
use super::supervise::Supervisor;
use super::{ConfigArgs, Failure, Role};
use crate::config::{self, Config, Experts, LogFormat, Policies};
use crate::experts::batch::Limits;
use crate::experts::{Panel, PanelConfig, Provider};
use crate::kafka::{Connection, Delivery, check_auth};
use crate::learn::Learn;
use crate::ops::{Exit, Hangup, Health, Server, Shutdown, descriptors, health, metrics, telemetry, traces};
use crate::panics;
use crate::score::{PanelHandle, Score};

/// The panel's settings as the configuration describes them.
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
    panel.only = (!experts.only.is_empty()).then(|| experts.only.clone());
    panel.cheap.clone_from(&experts.cheap);
    panel.sessions = (experts.sessions > 0).then_some(experts.sessions);
    panel.threads = experts.threads;
    panel.tokenize_threads = (experts.tokenize_threads > 0).then_some(experts.tokenize_threads);
    panel.batch.tokens = experts.batch_tokens;
    panel.budgets.clone_from(&experts.budgets);
    if panel.provider.is_card() {
        // A card runs a hundred texts in the time of one.
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

/// The panel, opened.
pub fn panel(config: &Config) -> Result<Panel, Failure> {
    Panel::open(panel_config(&config.experts)).map_err(|error| Failure::new(Exit::Config, error))
}

/// The panel, opened; refused if an expert cannot be loaded, which `aegis run` lets abstain.
pub fn whole_panel(config: &Config) -> Result<Panel, Failure> {
    let config = PanelConfig { require_all: true, ..panel_config(&config.experts) };
    Panel::open(config).map_err(|error| Failure::new(Exit::Config, error))
}

/// Checks the experts that are named as shadows: an unknown name would be an expert that weighs.
pub fn in_shadow(panel: &Panel, shadow: &[String]) -> Result<(), Failure> {
    let is_there = |id: &String| panel.experts().iter().any(|expert| expert.id == *id);
    let wrong = |error| Err(Failure { exit: Exit::Config, error });
    if let Some(unknown) = shadow.iter().find(|id| !is_there(id)) {
        return wrong(anyhow!("experts.shadow names {unknown}, which is no expert of the panel"));
    }
    if !shadow.is_empty() && panel.experts().iter().all(|expert| shadow.contains(&expert.id)) {
        return wrong(anyhow!("experts.shadow names the whole panel: nobody would be left to decide by"));
    }
    Ok(())
}

/// Checks that all that the configuration and the policies name are among the panel's experts.
pub fn fitting(panel: &Panel, config: &Config, policies: &Policies) -> Result<(), Failure> {
    in_shadow(panel, &config.experts.shadow)?;
    let experts: Vec<String> = panel.experts().iter().map(|expert| expert.id.clone()).collect();
    let mut all = policies.policies.values();
    all.try_for_each(|policy| known(policy, &experts)).map_err(|error| Failure { exit: Exit::Config, error })
}

/// The brokers as the configuration describes them.
pub fn connection(config: &Config) -> Result<Connection, Failure> {
    let connection = Connection {
        settings: config.kafka.settings.clone(),
        ..Connection::new(config.kafka.brokers.clone())
    };
    connection.check().map_err(|error| Failure::new(Exit::Config, error))?;
    Ok(connection)
}

/// The same brokers, once one of them has let this client in, for commands that end where they are refused. Brokers that
/// are away are for whoever asks them to tell.
pub fn brokers(config: &Config) -> Result<Connection, Failure> {
    let connection = connection(config)?;
    check_auth(&connection, &|| false).map_err(|error| Failure::of(&connection, error))?;
    Ok(connection)
}

/// Checks what is said of traces, without sending any.
pub fn traced(config: &Config) -> Result<(), Failure> {
    traces::check(&traces::Settings::from_config(config)).map_err(|error| Failure::new(Exit::Config, error))
}

/// The delivery of the instance of that name. A transaction ends before its member's session.
pub fn delivery(config: &Config, connection: &Connection, instance: &str) -> Delivery {
    match config.kafka.delivery {
        config::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
        config::Delivery::ExactlyOnce => Delivery::ExactlyOnce {
            transactional_id: instance.to_owned(),
            timeout: connection.transaction_timeout(),
        },
    }
}

/// What must hold before a role is ready. An active learner has more conditions while it is that.
const SCORE: (&str, &[&str]) = (
    "score",
    &["experts loaded", "weights followed", "predictors usable", "partitions assigned", "broker seen"],
);
const LEARN: (&str, &[&str]) = ("learn", &["broker seen"]);

fn conditions(role: Role) -> &'static [(&'static str, &'static [&'static str])] {
    match role {
        Role::Learn => &[LEARN],
        Role::Score => &[SCORE],
        Role::Both => &[SCORE, LEARN],
    }
}

pub fn run(args: &ConfigArgs, role: Role) -> Result<Exit, Failure> {
    let unavailable = |error| Failure { exit: Exit::Unavailable, error };
    let config::Loaded { config, policies } = args.load()?;
    let (config, policies) = (Arc::new(config), config::Live::from(Arc::new(policies)));
    let format = match config.log.format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(format, &config.log.level).map_err(|error| Failure::new(Exit::Config, error))?;
    let http = config.http.max_connections;
    let too_few = |error| Failure::new(Exit::Config, error);
    let descriptors = descriptors::secure(http, None).map_err(too_few)?;
    let handle = metrics::install().context("the metrics cannot be installed").map_err(unavailable)?;
    let shutdown = Shutdown::on_signals().context("signals cannot be awaited").map_err(unavailable)?;
    let hangup = Hangup::on_signal().context("signals cannot be awaited").map_err(unavailable)?;
    let health = Health::default();
    for (role, names) in conditions(role) {
        names.iter().for_each(|name| health.of(role).set(name, false));
    }
    let ending = shutdown.clone();
    panics::install(move |part| ending.panicked(part));
    let limits =
        health::Limits { connections: http, idle: Duration::from_millis(config.http.idle_timeout_ms) };
    let server = Server::start(config.http.listen, limits, health.clone(), handle)
        .map_err(|error| Failure::new(Exit::Unavailable, error))?;
    tracing::info!(address = %server.address(), "health and metrics");
    tracing::info!(limit = descriptors, "file descriptors");
    if let Some(tuned) = &config.tuned {
        let (path, taken, left) = (tuned.path.display(), tuned.taken.join(", "), tuned.left.join(", "));
        tracing::info!(%path, taken, set_by_the_configuration = left, "tuned for this machine");
    }
    traced(&config)?;
    let connection = connection(&config)?;
    let greeted = check_auth(&connection, &|| shutdown.requested());
    let brokers = greeted.map_err(|error| Failure::new(Exit::Unavailable, error))?;
    descriptors::secure(http, brokers).map_err(too_few)?;
    if let Some(wanted) = connection.session_too_short() {
        let (session, round_trip) = (connection.session_timeout(), connection.round_trip.get());
        tracing::warn!(
            ?session,
            ?round_trip,
            ?wanted,
            "session.timeout.ms of kafka.settings is too short for brokers so far away: units may fail; remove it or raise it"
        );
    }
    let mut supervisor = Supervisor::new(shutdown.clone(), health.clone());
    let mut experts = None;
    if role != Role::Learn {
        let panel = Arc::new(panel(&config)?);
        fitting(&panel, &config, &policies.now())?;
        health.of("score").set("experts loaded", true);
        for expert in panel.experts() {
            tracing::info!(
                expert = expert.id,
                provider = expert.provider,
                state = expert.state.word(),
                "expert"
            );
        }
        let seats = PanelHandle::in_force(panel, &config.experts.shadow);
        experts = Some(PanelReloader::new(seats.clone(), args, &config.experts));
        let instance = format!("{}-{}", config.score.group, config.score.member);
        let score = Score {
            config: Arc::clone(&config),
            policies: policies.clone(),
            seats,
            delivery: delivery(&config, &connection, &instance),
            connection: connection.clone(),
            health: health.clone(),
            shutdown: shutdown.clone(),
        };
        supervisor.role("score", || score.run().map_err(anyhow::Error::from))?;
    }
    if role != Role::Score {
        let learn = Learn {
            config: Arc::clone(&config),
            policies: policies.clone(),
            delivery: delivery(&config, &connection, &config.learn.group),
            connection,
            health,
            shutdown: shutdown.clone(),
            progress: Arc::default(),
        };
        supervisor.role("learn", || learn.run().map_err(anyhow::Error::from))?;
    }

    let watch = Watch {
        live: policies,
        file: Some(config.policies.clone()).filter(|file| !file.as_os_str().is_empty()),
        experts,
        hangup,
        shutdown: shutdown.clone(),
    };
    supervisor.helper("policies", || watch.run())?;
    let ended = supervisor.wait();
    server.stop();
    ended.map(|()| shutdown.exit())
}
