//! A moderation server beside a scorer, in this process, on an embedded broker.

use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aegis::config::{Config, Policies, Secret, topic_specs};
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Delivery};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};
use aegis::serve::Moderation;
use serde_json::Value;

use crate::support::flow::experts;
use crate::support::free_port;
pub use crate::support::http::{Answer, post, send};
use crate::support::site::wait;

/// A scorer and a moderation server, which end when this is dropped.
pub struct World {
    /// The address: `127.0.0.1:…`.
    pub address: String,
    pub connection: Connection,
    pub config: Arc<Config>,
    shutdown: Shutdown,
    roles: Vec<JoinHandle<()>>,
    _folder: tempfile::TempDir,
    _broker: Embedded,
}

impl World {
    /// Starts a world with the default policies and settings.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts a world with settings that `adjust` changes.
    pub fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::under(Policies::default(), adjust)
    }

    /// Starts a world with these policies, and with settings that `adjust` changes.
    pub fn under(policies: Policies, adjust: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let mut config = Config::default();
        config.experts.folder = folder.path().join("models");
        config.defaults.tenant = "t".into();
        config.http.moderation.record_key = Secret::new("a secret that servers and scorers share");
        adjust(&mut config);
        let specs = topic_specs(&config, 2);
        let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
        let broker = Embedded::start(&names).unwrap();
        let mut connection = Connection::new(broker.bootstrap());
        connection.settings.insert("message.max.bytes".into(), "4000000".into());
        let (config, shutdown, health) = (Arc::new(config), Shutdown::new(), Health::default());
        let panel = Arc::new(Panel::open(PanelConfig::new(&config.experts.folder)).unwrap());
        let handle = PanelHandle::in_force(panel, &config.experts);
        let policies = Arc::new(policies).into();
        let score = |policies: &aegis::config::Live| Score {
            config: Arc::clone(&config),
            policies: policies.clone(),
            panel: handle.clone(),
            connection: connection.clone(),
            delivery: Delivery::AtLeastOnce,
            health: health.clone(),
            shutdown: shutdown.clone(),
        };
        let address: std::net::SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let server = Moderation { score: score(&policies), address };
        let scorer = score(&policies);
        let roles =
            vec![thread::spawn(move || scorer.run().unwrap()), thread::spawn(move || server.run().unwrap())];
        wait("the moderation API", || TcpStream::connect(address).is_ok());
        Self {
            address: address.to_string(),
            connection,
            config,
            shutdown,
            roles,
            _folder: folder,
            _broker: broker,
        }
    }

    /// Sends JSON to an endpoint.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        post(&self.address, path, body)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.request(StopReason::Program);
        for role in self.roles.drain(..) {
            let ended = role.join();
            assert!(ended.is_ok() || thread::panicking(), "a role has failed");
        }
    }
}
