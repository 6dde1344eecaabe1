//! The whole flow on the embedded broker, in process: bad input and every kind of label, each with its one outcome.

mod events;
mod labels;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aegis::codec;
use aegis::config::topic_specs;
use aegis::config::{Config, Policies, Topics};
use aegis::core::fold::{Fold, Settings};
use aegis::core::label::Label;
use aegis::core::ledger::Record;
use aegis::core::ledger_state::LedgerState;
use aegis::core::predictor::Published;
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Delivery};
use aegis::learn::{Learn, Progress};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};

use crate::support::flow::{experts, label_record, ledger, read_all, send};
use crate::support::site::poll;

/// score and learn on threads, on an embedded broker.
struct Running {
    connection: Connection,
    topics: Topics,
    policies: Arc<Policies>,
    shutdown: Shutdown,
    progress: Arc<Progress>,
    score: JoinHandle<()>,
    learn: JoinHandle<()>,
    _folder: tempfile::TempDir,
    _broker: Embedded,
}

impl Running {
    fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::limited("4000000", adjust)
    }

    /// Starts both roles with a limit on the size of the records that score can write, in bytes.
    fn limited(limit: &str, adjust: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let mut config = Config::default();
        config.learn.store = folder.path().join("store");
        config.learn.publish_interval_ms = 50;
        adjust(&mut config);
        let specs = topic_specs(&config, 3);
        let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
        let broker = Embedded::start(&names).unwrap();
        let mut connection = Connection::new(broker.bootstrap());
        connection.settings.insert("message.max.bytes".into(), "4000000".into());
        let panel = Arc::new(Panel::open(PanelConfig::new(folder.path().join("models"))).unwrap());
        let (config, policies) = (Arc::new(config), Arc::new(Policies::default()));
        let (shutdown, progress) = (Shutdown::new(), Arc::<Progress>::default());
        let score = Score {
            config: Arc::clone(&config),
            policies: Arc::clone(&policies).into(),
            panel: PanelHandle::in_force(panel, &aegis::config::Experts::default()),
            connection: Connection {
                settings: [("message.max.bytes".to_owned(), limit.to_owned())].into(),
                ..connection.clone()
            },
            delivery: Delivery::AtLeastOnce,
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        let learn = Learn {
            config: Arc::clone(&config),
            policies: Arc::clone(&policies).into(),
            connection: connection.clone(),
            delivery: Delivery::AtLeastOnce,
            health: Health::default(),
            shutdown: shutdown.clone(),
            progress: Arc::clone(&progress),
        };
        Self {
            connection,
            topics: config.topics.clone(),
            policies,
            shutdown,
            progress,
            score: thread::spawn(move || score.run().unwrap()),
            learn: thread::spawn(move || learn.run().unwrap()),
            _folder: folder,
            _broker: broker,
        }
    }

    fn send_labels(&self, labels: &[Label]) {
        let records: Vec<_> = labels.iter().map(|label| label_record(&self.topics.labels, label)).collect();
        // They are sent one at a time, because the partitions of the embedded broker are then read in this order.
        for record in records {
            send(&self.connection, &[record]);
        }
    }

    fn await_labels(&self, taken: i64) {
        poll(|| {
            assert!(!self.learn.is_finished(), "learn has stopped");
            let labels = self.progress.labels();
            if labels >= taken { Ok(()) } else { Err(format!("{labels} of {taken} labels are taken")) }
        });
    }

    /// Stops both roles. Returns the ledger, the last predictor, and the policies.
    fn stop(self) -> (Vec<Record>, Option<Published>, Arc<Policies>) {
        self.shutdown.request(StopReason::Program);
        self.score.join().unwrap();
        self.learn.join().unwrap();
        let records = ledger(&read_all(&self.connection, &self.topics.rounds));
        let weights = read_all(&self.connection, &self.topics.weights);
        let last = weights
            .last()
            .and_then(|record| Some(codec::decode_published(record.payload.as_deref()?).unwrap()));
        (records, last, self.policies)
    }
}

/// Folds these records, in an order that differs from theirs.
fn folded(records: &[Record], policies: &Policies) -> (Fold, LedgerState) {
    let policy = policies.get("default").unwrap();
    let mut book = LedgerState::new();
    for record in records.iter().rev() {
        book.apply(record, &mut Vec::new()).unwrap();
    }
    let mut fold = Fold::new(Settings::new("default", policy.learner.clone(), policy.mapping.clone()));
    fold.mark_all_changed(&book);
    fold.catch_up(&book).unwrap();
    (fold, book)
}
