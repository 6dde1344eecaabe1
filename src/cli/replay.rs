//! `aegis replay`: folds files and, with a configuration, ledger topics.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Failure, run};
use crate::codec;
use crate::config::{self, Experts, Policies};
use crate::core::ledger::Record;
use crate::core::policy;
use crate::kafka::{Connection, Followed, Follower, From};
use crate::ops::stdout::{Stderr, Stdout};
use crate::ops::{Exit, Progress};
use crate::replay::{ReplayArgs, ReplayContext, ReplayError, run as fold, write::Policy};

/// The time for which a topic may be silent before its end.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

pub fn replay(args: &ReplayArgs) -> Result<Exit, Failure> {
    let failed = |error: ReplayError| {
        let exit = match error {
            ReplayError::Usage(_) => Exit::Usage,
            ReplayError::Data(_) => Exit::Data,
            ReplayError::Unavailable(_) => Exit::Unavailable,
            ReplayError::Internal(_) => Exit::Internal,
        };
        Failure::new(exit, error)
    };
    let mut panel = run::panel_config(&Experts { folder: models(), ..Experts::default() });
    let mut policies = Vec::new();
    let mut configured = Policies::default();
    let mut connection = None;
    let mut defaults = None;
    let reads_topics = args.streams.iter().any(|stream| stream.to_string_lossy().starts_with("topic:"));
    // A state hash depends on the policies, so that files are folded by a configuration only if it is named.
    if args.config.is_some() || reads_topics {
        let loaded = config::load(&config::find(args.config.as_deref())?, std::env::vars(), &[])?;
        // Files need no brokers.
        let open = if reads_topics { run::brokers } else { run::connection };
        connection = Some(open(&loaded.config)?);
        panel = run::panel_config(&loaded.config.experts);
        defaults = Some(loaded.config.record_defaults());
        configured = loaded.policies;
        let settings = |policy: &policy::Policy| Policy {
            name: policy.name.clone(),
            learner: policy.learner.clone(),
            mapping: policy.mapping.clone(),
            encoder: None,
        };
        policies = configured.policies.values().map(settings).collect();
    }
    let mut topic = |name: &str, take: &mut dyn FnMut(Record)| match &connection {
        Some(connection) => read(connection, name, take),
        None => Err(format!("topic:{name} needs --config FILE, which names the brokers")),
    };
    let mut bar = None;
    let mut progress = |done, of| {
        bar.get_or_insert_with(|| Progress::start("reading texts", Some(of))).set(done);
    };
    let rules = |name: &str| configured.get_or_default(name);
    let mut context = ReplayContext {
        topic: Some(&mut topic),
        policies,
        defaults,
        rules: Some(&rules),
        panel: Some(panel),
        progress: Some(&mut progress),
    };
    fold(args, &mut context, &mut Stdout, &mut Stderr).map_err(failed)?;
    if let Some(bar) = bar {
        bar.finish();
    }
    Ok(Exit::Success)
}

/// Returns the folder of the experts: `AEGIS_MODELS`, or the one of `make setup`.
fn models() -> PathBuf {
    std::env::var_os("AEGIS_MODELS").map_or_else(|| Path::new("models").to_path_buf(), PathBuf::from)
}

/// Passes every record that the ledger topic holds now to `take`.
fn read(connection: &Connection, topic: &str, take: &mut dyn FnMut(Record)) -> Result<(), String> {
    let mut follower = Follower::open(connection, topic, &From::Beginning, SILENCE_TIMEOUT)
        .map_err(|error| error.to_string())?;
    let mut last_record = Instant::now();
    loop {
        match follower.poll(Duration::from_millis(100)).map_err(|error| error.to_string())? {
            Followed::Record(record) => {
                last_record = Instant::now();
                let Some(payload) = record.payload else { continue };
                let read = codec::decode_record(&payload);
                take(read.map_err(|error| format!("{topic}, offset {}: {error}", record.offset))?);
            }
            Followed::End => return Ok(()),
            Followed::Skipped { .. } | Followed::Idle if last_record.elapsed() < SILENCE_TIMEOUT => {}
            _ => return Err(format!("{topic} has been silent for half a minute before its end")),
        }
    }
}
