//! Reloads the policies and the panel while the process runs. Files are polled each second, and at once after SIGHUP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::panel_reload::PanelReloader;
use crate::config::{Live, Policies, reload};
use crate::core::policy::Policy;
use crate::core::predictor::Predictor;
use crate::ops::{Hangup, Shutdown, metrics};

/// The interval at which files are polled.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Follows the policies file and the experts of the configuration.
pub struct Watch {
    /// The policies in force.
    pub live: Live,
    /// The policies file. `None` if there is none to follow.
    pub file: Option<PathBuf>,
    /// The panel. `None` if this process does not score.
    pub experts: Option<PanelReloader>,
    /// The flag that SIGHUP sets.
    pub hangup: Hangup,
    /// The request to stop.
    pub shutdown: Shutdown,
}

/// The bytes of a file, or `None` if it cannot be read.
type Bytes = Option<Vec<u8>>;

/// A file that is polled for changes.
#[derive(Default)]
pub struct Followed {
    /// The contents when they were last applied or refused. The file may have changed since the start, so `None` at first.
    handled: Option<Bytes>,
    /// The contents at the last poll.
    seen: Option<Bytes>,
}

impl Followed {
    /// Returns `true` if the file is to be read now: after SIGHUP, or if it has changed and was the same in two polls, so
    /// that its writer has finished.
    pub fn is_due(&mut self, file: &Path, requested: bool) -> bool {
        let now: Bytes = std::fs::read(file).ok();
        let settled = self.seen.as_ref() == Some(&now);
        let known = self.handled.as_ref() == Some(&now);
        self.seen = Some(now.clone());
        let due = requested || (settled && !known);
        if due {
            self.handled = Some(now);
        }
        due
    }
}

impl Watch {
    /// Runs until shutdown is requested.
    pub fn run(mut self) {
        metrics::policies_current(true);
        let mut followed = Followed::default();
        while !self.shutdown.wait_for(POLL_INTERVAL) {
            let requested = self.hangup.take();
            // The panel is first, because policies may name its new experts.
            if let Some(experts) = &mut self.experts {
                experts.poll(&self.live.now(), requested);
            }
            match &self.file {
                Some(file) if followed.is_due(file, requested) => self.poll(file, requested),
                None if requested => tracing::info!("SIGHUP: no policies file is configured"),
                _ => {}
            }
            if requested {
                tracing::info!("SIGHUP: other settings need a restart");
            }
        }
    }

    fn poll(&self, file: &Path, requested: bool) {
        let held = self.live.now();
        let read = reload(&held, file).map_err(anyhow::Error::from);
        match read.and_then(|read| self.validated(read)) {
            Ok(Some(read)) => {
                for policy in read.policies.values() {
                    log_change(held.get(&policy.name), policy);
                }
                self.live.set(read.into());
                metrics::policies(true);
            }
            Ok(None) => {
                metrics::policies_current(true);
                if requested {
                    tracing::info!("SIGHUP: the policies have not changed");
                }
            }
            Err(error) => {
                metrics::policies(false);
                let error = format!("{error:#}");
                tracing::error!(error, "the changed policies are refused: the previous ones stay in force");
            }
        }
    }

    /// Refuses policies that do not match the panel.
    fn validated(&self, read: Option<Policies>) -> anyhow::Result<Option<Policies>> {
        // Without a panel, as in a process that only learns, there is nothing to compare with.
        if let (Some(read), Some(experts)) = (&read, &self.experts) {
            validate_policies(read, &experts.panel.now().experts())?;
        }
        Ok(read)
    }
}

/// Refuses policies whose learner refuses these experts, or that name another expert.
pub fn validate_policies(policies: &Policies, experts: &[String]) -> anyhow::Result<()> {
    for policy in policies.policies.values() {
        let built = Predictor::prior(&policy.learner, &policy.name, experts);
        built.with_context(|| format!("policy {}", policy.name))?;
        validate_names(policy, experts)?;
    }
    Ok(())
}

/// Refuses a policy that names an expert that is not among these.
pub fn validate_names(policy: &Policy, experts: &[String]) -> anyhow::Result<()> {
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

fn log_change(before: Option<&Policy>, now: &Policy) {
    let (policy, version) = (&now.name, &now.version);
    match before {
        Some(before) if before == now => {}
        Some(before) => {
            tracing::info!(policy, version, before = before.version, "a changed policy is in force");
        }
        None => tracing::info!(policy, version, "a new policy is in force"),
    }
}
