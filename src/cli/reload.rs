//! The policies of a running process follow their file: looked at each second, and at once on SIGHUP.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::config::{Live, Policies, reload};
use crate::core::policy::Policy;
use crate::core::predictor::Predictor;
use crate::ops::{Hangup, Shutdown, metrics};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the policies file.
pub struct Watch {
    /// The policies in force.
    pub live: Live,
    /// Their file; none: nothing to follow.
    pub file: Option<PathBuf>,
    /// The panel's experts, which every policy's learner must take; none where nothing is scored.
    pub experts: Vec<String>,
    /// Says that the file is to be looked at now.
    pub hangup: Hangup,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// The file's bytes; none where it cannot be read.
type Bytes = Option<Vec<u8>>;

impl Watch {
    /// Runs until shutdown is requested.
    pub fn run(self) {
        metrics::policies_current(true);
        // What was read at the start may have changed since: it is taken as never looked at.
        let (mut judged, mut seen): (Option<Bytes>, Option<Bytes>) = (None, None);
        while !self.shutdown.wait_for(LOOK) {
            let told = self.hangup.take();
            let Some(file) = &self.file else {
                if told {
                    tracing::info!("SIGHUP: no policies file is configured; other settings need a restart");
                }
                continue;
            };
            let now: Bytes = std::fs::read(file).ok();
            // A file is taken once it looks the same twice: its writer may be half done.
            let settled = seen.as_ref() == Some(&now);
            let known = judged.as_ref() == Some(&now);
            seen = Some(now.clone());
            if told || (settled && !known) {
                judged = Some(now);
                self.look(file, told);
            }
        }
    }

    fn look(&self, file: &std::path::Path, told: bool) {
        let held = self.live.now();
        let read = reload(&held, file).map_err(anyhow::Error::from);
        match read.and_then(|read| self.fitting(read)) {
            Ok(Some(read)) => {
                for policy in read.policies.values() {
                    note(held.get(&policy.name), policy);
                }
                self.live.set(read.into());
                metrics::policies(true);
            }
            Ok(None) => {
                metrics::policies_current(true);
                if told {
                    tracing::info!("SIGHUP: the policies are what they were; other settings need a restart");
                }
            }
            Err(error) => {
                metrics::policies(false);
                let error = format!("{error:#}");
                tracing::error!(error, "the changed policies are refused: those from before stay in force");
            }
        }
    }
}

impl Watch {
    /// Refuses policies whose learner refuses the panel, and those that name an expert that it has not.
    fn fitting(&self, read: Option<Policies>) -> anyhow::Result<Option<Policies>> {
        // A learner over nobody refuses, too: where nothing is scored there is nothing to ask.
        let scored = read.iter().filter(|_| !self.experts.is_empty());
        for policy in scored.flat_map(|read| read.policies.values()) {
            let built = Predictor::untaught(&policy.learner, &policy.name, &self.experts);
            built.with_context(|| format!("policy {}", policy.name))?;
            known(policy, &self.experts)?;
        }
        Ok(read)
    }
}

/// Refuses a policy that names an expert that is none of these.
pub fn known(policy: &Policy, experts: &[String]) -> anyhow::Result<()> {
    match policy.cheap.iter().find(|id| !experts.contains(id)) {
        None => Ok(()),
        Some(id) => {
            bail!(
                "policy {}: cheap names {id}, which is no expert of the panel; there are: {}",
                policy.name,
                experts.join(", ")
            )
        }
    }
}

fn note(before: Option<&Policy>, now: &Policy) {
    let (policy, version) = (&now.name, &now.version);
    match before {
        Some(before) if before == now => {}
        Some(before) => {
            tracing::info!(policy, version, before = before.version, "a changed policy is in force");
        }
        None => tracing::info!(policy, version, "a new policy is in force"),
    }
}
