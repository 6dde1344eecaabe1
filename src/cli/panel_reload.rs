//! Reloads the panel while events are scored: experts move into and out of shadow mode, and new ones are added in shadow
//! mode. A new expert is loaded as part of a new panel, which replaces the one in force only if nothing else would change.
//! After SIGHUP a panel with a disabled expert is loaded again.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, anyhow, ensure};

use super::reload::{Followed, validate_policies};
use super::run::{panel_config, validate_shadow};
use super::{ConfigArgs, Failure};
use crate::config::{ConfigError, Experts, Live, Policies};
use crate::experts::{Panel, PanelConfig, PanelError};
use crate::ops::metrics;
use crate::score::PanelHandle;

/// Follows `experts.shadow`, `experts.voting` and `experts.only`.
pub struct PanelReloader {
    /// The panel in force, and its experts in shadow mode.
    pub panel: Live<PanelHandle>,
    configuration: ConfigArgs,
    file: PathBuf,
    followed: Followed,
    /// The settings of the panel in force. Those that are not followed are the ones of the start.
    applied: Experts,
    /// The followed settings when they were last applied or refused.
    handled: [Vec<String>; 3],
    /// The panel that is being loaded.
    loading: Option<Loading>,
    /// SIGHUP has been received meanwhile.
    requested: bool,
}

struct Loading {
    experts: Experts,
    thread: JoinHandle<Result<Panel, PanelError>>,
}

impl PanelReloader {
    /// Follows the file of a configuration, of which `experts` is in force.
    ///
    /// # Errors
    /// Returns an error if no file is named and none is found.
    pub fn new(
        panel: Live<PanelHandle>,
        configuration: &ConfigArgs,
        experts: &Experts,
    ) -> Result<Self, ConfigError> {
        // The file is found once, so that a reload never reads another one.
        let file = configuration.file()?;
        metrics::panel_current(true);
        Ok(Self {
            panel,
            configuration: ConfigArgs { config: Some(file.clone()), ..configuration.clone() },
            file,
            followed: Followed::default(),
            applied: experts.clone(),
            handled: [experts.shadow.clone(), experts.voting.clone(), experts.only.clone()],
            loading: None,
            requested: false,
        })
    }

    /// Starts to load a panel if the configuration has changed or SIGHUP was received, and puts a loaded one in force.
    pub fn poll(&mut self, policies: &Policies, requested: bool) {
        self.requested |= requested;
        if let Some(loading) = self.loading.take_if(|loading| loading.thread.is_finished()) {
            let opened = loading.thread.join().unwrap_or_else(|_| {
                Err(PanelError::Threads { reason: "loading crashed: a fault of this program".into() })
            });
            let opened = opened.map_err(anyhow::Error::from);
            let done = opened.and_then(|panel| self.apply(panel.into(), loading.experts, policies));
            self.report(done);
        }
        // One panel is loaded at a time. Later changes are handled after it.
        if self.loading.is_some() || !self.followed.is_due(&self.file, self.requested) {
            return;
        }
        let requested = std::mem::take(&mut self.requested);
        match self.begin(policies, requested) {
            Ok(true) => self.report(Ok(())),
            Ok(false) => {}
            Err(error) => self.report(Err(error)),
        }
    }

    /// Returns `true` if other experts are in force now, and `false` if nothing changes or a panel is being loaded.
    fn begin(&mut self, policies: &Policies, requested: bool) -> anyhow::Result<bool> {
        let Experts { shadow, voting, only, .. } = self.configuration.configuration()?.experts;
        let configured = [shadow.clone(), voting.clone(), only.clone()];
        // After SIGHUP the same settings are tried again, because the experts' folder may have changed.
        if std::mem::replace(&mut self.handled, configured.clone()) == configured && !requested {
            return Ok(false);
        }
        let experts = Experts { shadow, voting, only, ..self.applied.clone() };
        // Loading the panel again enables the experts that the one in force has disabled.
        let panel = &self.panel.now().panel;
        let broken = requested && (panel.is_dead() || panel.disabled().contains(&true));
        if experts.only == self.applied.only && !broken {
            if (&experts.shadow, &experts.voting) == (&self.applied.shadow, &self.applied.voting) {
                metrics::panel_current(true);
                return Ok(false);
            }
            let handle = self.panel.now();
            let known = handle.experts();
            if experts.shadow.iter().chain(&experts.voting).all(|id| known.contains(id)) {
                return self.apply(Arc::clone(&handle.panel), experts, policies).map(|()| true);
            }
        }
        let config = PanelConfig { require_all: true, ..panel_config(&experts) };
        let (shadow, voting) = (experts.shadow.join(", "), experts.voting.join(", "));
        tracing::info!(shadow, voting, "experts are loaded beside the panel in force");
        let thread =
            std::thread::Builder::new().name("panel-aside".into()).spawn(move || Panel::open(config));
        let thread =
            thread.context("no thread to load experts: raise the limit on threads of this process")?;
        self.loading = Some(Loading { experts, thread });
        Ok(false)
    }

    /// Puts a panel in force if it is a valid successor of the one before it.
    fn apply(&mut self, panel: Arc<Panel>, experts: Experts, policies: &Policies) -> anyhow::Result<()> {
        let before = self.panel.now();
        validate_shadow(&panel, &experts).map_err(|Failure { error, .. }| error)?;
        let handle = PanelHandle::new(panel, &experts);
        validate_successor(&before.panel, &handle, &experts.voting)?;
        validate_policies(policies, &handle.experts())?;
        let is_old = |id: &String| before.panel.experts().iter().any(|expert| expert.id == *id);
        for expert in handle.experts() {
            let (shadow, before) = (handle.shadow.contains(&expert), before.shadow.contains(&expert));
            match (is_old(&expert), before, shadow) {
                (false, ..) => tracing::info!(expert, "on the panel from now on, in shadow"),
                (true, false, true) => {
                    tracing::info!(expert, "in shadow from now on: its votes have no weight")
                }
                (true, true, false) => {
                    tracing::info!(expert, "out of the shadow from now on: its votes have weight")
                }
                _ => {}
            }
        }
        self.panel.set(handle.into());
        self.applied = experts;
        Ok(())
    }

    fn report(&self, done: anyhow::Result<()>) {
        metrics::panel(done.is_ok());
        if let Err(error) = done {
            let error = format!("{error:#}");
            tracing::error!(error, "the changed experts are refused: the previous panel stays in force");
        }
    }
}

impl Drop for PanelReloader {
    /// Waits for the panel that is being loaded, because the end of the process would unload the runtime under it.
    fn drop(&mut self) {
        if let Some(loading) = self.loading.take() {
            let _ = loading.thread.join();
        }
    }
}

/// Refuses a panel that differs from the one before it by more than experts in shadow mode.
fn validate_successor(before: &Panel, after: &PanelHandle, voting: &[String]) -> anyhow::Result<()> {
    let (shadow, after) = (&after.shadow, &after.panel);
    for old in before.experts() {
        let new = after.experts().iter().find(|expert| expert.id == old.id);
        let new = new.ok_or_else(|| {
            anyhow!("expert {} cannot be removed from a running panel: restart to do that", old.id)
        })?;
        ensure!(
            new.model == old.model,
            "expert {} has another model than on the running panel: give the new model another id, or restart",
            old.id
        );
        ensure!(
            new.begins_in_shadow == old.begins_in_shadow,
            "the manifest of expert {} has another `shadow` than on the running panel: use experts.shadow or \
             experts.voting instead, or restart",
            old.id
        );
    }
    for new in after.experts() {
        if before.experts().iter().any(|expert| expert.id == new.id) {
            continue;
        }
        ensure!(
            !voting.contains(&new.id),
            "expert {} is new, and a new expert begins in shadow: remove it from experts.voting and name it in \
             experts.shadow, or restart",
            new.id
        );
        ensure!(
            shadow.contains(&new.id),
            "expert {} is new and not in shadow: name it in experts.shadow, or restart",
            new.id
        );
    }
    ensure!(
        before.encoder().is_none() || before.encoder() == after.encoder(),
        "the encoders of the features would change: restart to do that"
    );
    Ok(())
}
