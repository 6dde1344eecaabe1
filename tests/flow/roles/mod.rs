//! Both roles on a real Apache Kafka, exactly once, on threads of this process: review requests and their answers as
//! labels, topics that grow while the roles run, records of any size, and many records that cannot be used.

use crate::support;

mod partitions;
mod review;
mod sizes;
mod surges;

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aegis::config::{Config, Loaded, Policies, Topics};
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::topics::{Finding as Found, ensure};
use aegis::kafka::{Connection, Delivery};
use aegis::learn::{Learn, LearnError, Progress};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score, ScoreError};
use support::flow::experts;
use support::site::returns;
use support::{WAIT, kafka};

/// A configuration whose topics exist.
struct Site {
    folder: tempfile::TempDir,
    config: Arc<Config>,
    policies: Arc<Policies>,
    connection: Connection,
    /// The connection of the producers of events and labels.
    sender: Connection,
}

/// A role on its own thread.
struct Role<E> {
    shutdown: Shutdown,
    thread: JoinHandle<Result<(), E>>,
}

impl<E: std::fmt::Debug + Send + 'static> Role<E> {
    fn stop(self) {
        self.shutdown.request(StopReason::Program);
        self.thread.join().unwrap().unwrap();
    }

    /// Waits until the role ends without a request. Returns the reason.
    fn failed(self) -> E {
        returns("the role", move || self.thread.join()).unwrap().unwrap_err()
    }
}

impl Site {
    /// Creates topics with a prefix and three partitions.
    fn new(prefix: &str) -> Self {
        let site = Self::unmade(prefix);
        let (made, text) = site.topics();
        assert!(made, "{text}");
        site
    }

    /// Creates the same topics with a limit on the size of a batch.
    fn limited(prefix: &str, limit: usize) -> Self {
        let mut site = Self::unmade(prefix);
        let mut specs = aegis::config::topic_specs(&site.config, 3);
        for spec in &mut specs {
            spec.config.insert("max.message.bytes".into(), limit.to_string());
        }
        let found = ensure(&site.connection, &specs, WAIT).unwrap();
        assert!(found.iter().all(|found| *found == Found::Made), "{found:?}");
        site.sender.settings.insert("batch.size".into(), "1".into());
        site
    }

    /// Creates a configuration whose topics do not exist yet.
    fn unmade(prefix: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let Topics { events, decisions, review, labels, dlq, rounds, weights, election } =
            support::flow::topics(prefix);
        let brokers = kafka().bootstrap();
        support::claim_prefix(&brokers, prefix);
        // Poison of any size can occur: the size of score's records is limited only where it runs.
        let config = format!(
            "[kafka]\nbrokers = \"{brokers}\"\n[topics]\nevents = \"{events}\"\ndecisions = \"{decisions}\"\n\
             review = \"{review}\"\nlabels = \"{labels}\"\ndlq = \"{dlq}\"\nrounds = \"{rounds}\"\n\
             weights = \"{weights}\"\nelection = \"{election}\"\n[score]\ngroup = \"{prefix}.score\"\n\
             [learn]\ngroup = \"{prefix}.learn\"\nstore = \"store\"\npublish_interval_ms = 100\n"
        );
        let path = folder.path().join("aegis.toml");
        fs::write(&path, config).unwrap();
        let Loaded { config, policies } = aegis::config::load(&path, [], &[]).unwrap();
        let mut connection = kafka().connection();
        // A new partition is noticed at once.
        connection.settings.insert("topic.metadata.refresh.interval.ms".into(), "300".into());
        let sender = connection.clone();
        Self { folder, config: Arc::new(config), policies: Arc::new(policies), connection, sender }
    }

    /// Runs `aegis topics --create`. Returns `true` if it succeeds, and its output.
    fn topics(&self) -> (bool, String) {
        let output = self.aegis(&["topics", "--create", "--partitions", "3"]);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    fn aegis(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(arguments).arg("--config").arg(self.folder.path().join("aegis.toml"));
        command.env_remove("AEGIS_CONFIG").output().unwrap()
    }

    fn delivery(&self, role: &str) -> Delivery {
        let transactional_id = format!("{}.{role}", self.config.topics.events);
        Delivery::ExactlyOnce { transactional_id, timeout: WAIT / 10 }
    }

    /// Starts score with further settings of its client.
    fn score(&self, settings: &[(&str, &str)]) -> Role<ScoreError> {
        let shutdown = Shutdown::new();
        let mut connection = self.connection.clone();
        connection.settings.extend(settings.iter().map(|(key, value)| ((*key).into(), (*value).into())));
        let panel = Panel::open(PanelConfig::new(self.folder.path().join("models"))).unwrap();
        let score = Score {
            config: Arc::clone(&self.config),
            policies: Arc::clone(&self.policies).into(),
            panel: PanelHandle::in_force(Arc::new(panel), &aegis::config::Experts::default()),
            connection,
            delivery: self.delivery("score"),
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        Role { shutdown, thread: thread::spawn(move || score.run()) }
    }

    fn learn(&self) -> Role<LearnError> {
        let shutdown = Shutdown::new();
        let learn = Learn {
            config: Arc::clone(&self.config),
            policies: Arc::clone(&self.policies).into(),
            connection: self.connection.clone(),
            delivery: self.delivery("learn"),
            health: Health::default(),
            shutdown: shutdown.clone(),
            progress: Arc::<Progress>::default(),
        };
        Role { shutdown, thread: thread::spawn(move || learn.run()) }
    }

    /// Checks that `aegis verify` finds no violation.
    fn verify(&self) {
        let output = self.aegis(&["verify"]);
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}{errors}");
    }
}
