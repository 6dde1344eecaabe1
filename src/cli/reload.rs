//! What follows its file while a process runs: the policies, and who is on the panel. Files are looked at each second,
//! and at once on SIGHUP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::reseat::PanelReloader;
use crate::config::{Live, Policies, reload};
use crate::core::policy::Policy;
use crate::core::predictor::Predictor;
use crate::ops::{Hangup, Shutdown, metrics};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the policies file, and the configuration's experts.
pub struct Watch {
    /// The policies in force.
    pub live: Live,
    /// Their file; none: nothing to follow.
    pub file: Option<PathBuf>,
    /// The panel's experts; none where nothing is scored.
    pub experts: Option<PanelReloader>,
    /// Says that files are to be looked at now.
    pub hangup: Hangup,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// The file's bytes; none where it cannot be read.
type Bytes = Option<Vec<u8>>;

/// A file that is followed.
#[derive(Default)]
pub struct Followed {
    /// As it was when it was judged last. What was read at the start may have changed since: it counts as never judged.
    judged: Option<Bytes>,
    seen: Option<Bytes>,
}

impl Followed {
    /// Whether the file is to be judged now: it was told to, or the file is another and looks the same twice (its writer
    /// may be half done).
    pub fn is_due(&mut self, file: &Path, told: bool) -> bool {
        let now: Bytes = std::fs::read(file).ok();
        let settled = self.seen.as_ref() == Some(&now);
        let known = self.judged.as_ref() == Some(&now);
        self.seen = Some(now.clone());
        let due = told || (settled && !known);
        if due {
            self.judged = Some(now);
        }
        due
    }
}

impl Watch {
    /// Runs until shutdown is requested.
    pub fn run(mut self) {
        metrics::policies_current(true);
        let mut followed = Followed::default();
        while !self.shutdown.wait_for(LOOK) {
            let told = self.hangup.take();
            // The panel first: policies may name its new experts.
            if let Some(experts) = &mut self.experts {
                experts.look(&self.live.now(), told);
            }
            match &self.file {
                Some(file) if followed.is_due(file, told) => self.look(file, told),
                None if told => tracing::info!("SIGHUP: no policies file is configured"),
                _ => {}
            }
            if told {
                tracing::info!("SIGHUP: other settings need a restart");
            }
        }
    }

    fn look(&self, file: &Path, told: bool) {
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
                    tracing::info!("SIGHUP: the policies are what they were");
                }
            }
            Err(error) => {
                metrics::policies(false);
                let error = format!("{error:#}");
                tracing::error!(error, "the changed policies are refused: those from before stay in force");
            }
        }
    }

    /// Refuses policies that do not fit the panel.
    fn fitting(&self, read: Option<Policies>) -> anyhow::Result<Option<Policies>> {
        // A learner over nobody refuses, too: where nothing is scored there is nothing to ask.
        if let (Some(read), Some(experts)) = (&read, &self.experts) {
            suit(read, &experts.seats.now().experts())?;
        }
        Ok(read)
    }
}

/// Refuses policies whose learner refuses these experts, and those that name one that is none of them.
pub fn suit(policies: &Policies, experts: &[String]) -> anyhow::Result<()> {
    for policy in policies.policies.values() {
        let built = Predictor::prior(&policy.learner, &policy.name, experts);
        built.with_context(|| format!("policy {}", policy.name))?;
        known(policy, experts)?;
    }
    Ok(())
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
