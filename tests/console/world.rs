//! A console beside both roles, in this process, on an embedded broker.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aegis::config::{Config, Policies, topic_specs};
use aegis::console::Console;
use aegis::console::access::{Credentials, Kind, Role};
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Delivery, Produced};
use aegis::learn::Learn;
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};

use crate::support::flow::{experts, send};

/// Both roles and a console, which end when this is dropped.
pub struct World {
    /// The address of the console: `http://127.0.0.1:…`.
    pub address: String,
    /// The token of the reviewer `ann`.
    pub reviewer: String,
    /// The token of the viewer `vic`.
    pub viewer: String,
    /// The connection to the broker.
    pub connection: Connection,
    /// The configuration.
    pub config: Arc<Config>,
    shutdown: Shutdown,
    roles: Vec<JoinHandle<()>>,
    console: Option<Console>,
    _folder: tempfile::TempDir,
    _broker: Embedded,
}

impl World {
    /// Starts a world with the default policies.
    pub fn start() -> Self {
        Self::with(Policies::default(), |_| {})
    }

    /// Starts a world with these policies, and with settings that `adjust` changes.
    pub fn with(policies: Policies, adjust: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let users = folder.path().join("users");
        let add = |name, role| Credentials::add(&users, name, role, Kind::Token).unwrap().unwrap();
        let (reviewer, viewer) = (add("ann", Role::Reviewer), add("vic", Role::Viewer));
        let mut config = Config::default();
        config.experts.folder = folder.path().join("models");
        config.learn.store = folder.path().join("store");
        config.learn.publish_interval_ms = 50;
        config.console.credentials = users;
        config.defaults.tenant = "t".into();
        adjust(&mut config);
        let specs = topic_specs(&config, 2);
        let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
        let broker = Embedded::start(&names).unwrap();
        let mut connection = Connection::new(broker.bootstrap());
        connection.settings.insert("message.max.bytes".into(), "4000000".into());
        let (config, policies) = (Arc::new(config), Arc::new(policies));
        let shutdown = Shutdown::new();
        let roles = roles(&config, &policies, &connection, &shutdown);
        let local = ([127, 0, 0, 1], 0).into();
        let console =
            Console::start(Arc::clone(&config), policies.into(), connection.clone(), local, None).unwrap();
        Self {
            address: format!("http://{}", console.address()),
            reviewer,
            viewer,
            connection,
            config,
            shutdown,
            roles,
            console: Some(console),
            _folder: folder,
            _broker: broker,
        }
    }

    /// Sends records.
    pub fn send(&self, records: &[Produced]) {
        send(&self.connection, records);
    }
}

fn roles(
    config: &Arc<Config>,
    policies: &Arc<Policies>,
    connection: &Connection,
    shutdown: &Shutdown,
) -> Vec<JoinHandle<()>> {
    let panel = Arc::new(Panel::open(PanelConfig::new(&config.experts.folder)).unwrap());
    let score = Score {
        config: Arc::clone(config),
        policies: Arc::clone(policies).into(),
        panel: PanelHandle::in_force(panel, &config.experts),
        connection: connection.clone(),
        delivery: Delivery::AtLeastOnce,
        health: Health::default(),
        shutdown: shutdown.clone(),
    };
    let learn = Learn {
        config: Arc::clone(config),
        policies: Arc::clone(policies).into(),
        connection: connection.clone(),
        delivery: Delivery::AtLeastOnce,
        health: Health::default(),
        shutdown: shutdown.clone(),
        progress: Arc::default(),
    };
    vec![thread::spawn(move || score.run().unwrap()), thread::spawn(move || learn.run().unwrap())]
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.console.take());
        self.shutdown.request(StopReason::Program);
        for role in self.roles.drain(..) {
            let ended = role.join();
            assert!(ended.is_ok() || thread::panicking(), "a role has failed");
        }
    }
}
