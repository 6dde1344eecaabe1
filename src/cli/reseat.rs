//! Who is on the panel follows the configuration while events are scored: experts move in and out of the shadow, and new
//! ones come in by it. A new expert is loaded beside the panel in force, as part of a whole new one, which takes its place
//! only if nothing else would change. On SIGHUP a panel of which an expert is disabled is loaded again.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, anyhow, ensure};

use super::reload::{Followed, suit};
use super::run::{in_shadow, panel_config};
use super::{ConfigArgs, Failure};
use crate::config::{Experts, Live, Policies};
use crate::experts::{Panel, PanelConfig, PanelError};
use crate::ops::metrics;
use crate::score::PanelHandle;

/// Follows `experts.shadow` and `experts.only`.
pub struct PanelReloader {
    /// The panel in force, and who of it is in shadow.
    pub seats: Live<PanelHandle>,
    configuration: ConfigArgs,
    file: PathBuf,
    followed: Followed,
    /// What the panel in force was made of. Settings that are not followed are those of the start.
    held: Experts,
    /// `shadow` and `only` as they were judged last.
    asked: (Vec<String>, Vec<String>),
    /// A panel that is being loaded.
    opening: Option<Opening>,
    /// SIGHUP has come meanwhile.
    told: bool,
}

struct Opening {
    experts: Experts,
    thread: JoinHandle<Result<Panel, PanelError>>,
}

impl PanelReloader {
    /// Follows the file of a configuration that said this of the experts.
    pub fn new(seats: Live<PanelHandle>, configuration: &ConfigArgs, experts: &Experts) -> Self {
        metrics::panel_current(true);
        Self {
            seats,
            configuration: configuration.clone(),
            file: configuration.config.clone(),
            followed: Followed::default(),
            held: experts.clone(),
            asked: (experts.shadow.clone(), experts.only.clone()),
            opening: None,
            told: false,
        }
    }

    /// Looks whether other experts are asked for, and whether those that were are loaded.
    pub fn look(&mut self, policies: &Policies, told: bool) {
        self.told |= told;
        if let Some(opening) = self.opening.take_if(|opening| opening.thread.is_finished()) {
            let opened = opening.thread.join().unwrap_or_else(|_| {
                Err(PanelError::Threads { reason: "loading crashed: a fault of this program".into() })
            });
            let opened = opened.map_err(anyhow::Error::from);
            let done = opened.and_then(|panel| self.take(panel.into(), opening.experts, policies));
            self.end(done);
        }
        // One at a time: what changes meanwhile is looked at after it.
        if self.opening.is_some() || !self.followed.is_due(&self.file, self.told) {
            return;
        }
        let told = std::mem::take(&mut self.told);
        match self.begin(policies, told) {
            Ok(true) => self.end(Ok(())),
            Ok(false) => {}
            Err(error) => self.end(Err(error)),
        }
    }

    /// True: other experts are in force now. Where a panel has to be loaded it is false until that is done.
    fn begin(&mut self, policies: &Policies, told: bool) -> anyhow::Result<bool> {
        let Experts { shadow, only, .. } = self.configuration.configuration()?.experts;
        let asked = (shadow.clone(), only.clone());
        // What was refused may have been mended in the experts' folder.
        if std::mem::replace(&mut self.asked, asked.clone()) == asked && !told {
            return Ok(false);
        }
        let experts = Experts { shadow, only, ..self.held.clone() };
        // A panel that is loaded again asks again whom the one in force does not ask any more.
        let panel = &self.seats.now().panel;
        let broken = told && (panel.is_dead() || panel.disabled().contains(&true));
        if experts.only == self.held.only && !broken {
            if experts.shadow == self.held.shadow {
                metrics::panel_current(true);
                return Ok(false);
            }
            let seats = self.seats.now();
            let known = seats.experts();
            if experts.shadow.iter().all(|id| known.contains(id)) {
                return self.take(Arc::clone(&seats.panel), experts, policies).map(|()| true);
            }
        }
        let config = PanelConfig { require_all: true, ..panel_config(&experts) };
        tracing::info!(shadow = experts.shadow.join(", "), "experts are loaded beside the panel in force");
        let thread =
            std::thread::Builder::new().name("panel-aside".into()).spawn(move || Panel::open(config));
        let thread = thread.context("no thread to load experts on: allow this process more")?;
        self.opening = Some(Opening { experts, thread });
        Ok(false)
    }

    /// Puts a panel in force, where it fits the one before it.
    fn take(&mut self, panel: Arc<Panel>, experts: Experts, policies: &Policies) -> anyhow::Result<()> {
        let before = self.seats.now();
        in_shadow(&panel, &experts.shadow).map_err(|Failure { error, .. }| error)?;
        successor(&before.panel, &panel, &experts.shadow)?;
        let seats = PanelHandle::new(panel, &experts.shadow);
        suit(policies, &seats.experts())?;
        let was = |id: &String| before.panel.experts().iter().any(|expert| expert.id == *id);
        for expert in seats.experts() {
            let (shadow, before) = (seats.shadow.contains(&expert), before.shadow.contains(&expert));
            match (was(&expert), before, shadow) {
                (false, ..) => tracing::info!(expert, "on the panel from now on, in shadow"),
                (true, false, true) => tracing::info!(expert, "in shadow from now on: it weighs nothing"),
                (true, true, false) => tracing::info!(expert, "out of the shadow: it weighs from now on"),
                _ => {}
            }
        }
        self.seats.set(seats.into());
        self.held = experts;
        Ok(())
    }

    fn end(&self, done: anyhow::Result<()>) {
        metrics::panel(done.is_ok());
        if let Err(error) = done {
            let error = format!("{error:#}");
            tracing::error!(error, "the changed experts are refused: the panel from before stays in force");
        }
    }
}

impl Drop for PanelReloader {
    /// Waits for what is being loaded: a process that ended meanwhile could take the runtime away from under it.
    fn drop(&mut self) {
        if let Some(opening) = self.opening.take() {
            let _ = opening.thread.join();
        }
    }
}

/// Refuses a panel that differs from the one before it by more than experts in shadow.
fn successor(before: &Panel, after: &Panel, shadow: &[String]) -> anyhow::Result<()> {
    for old in before.experts() {
        let new = after.experts().iter().find(|expert| expert.id == old.id);
        let new = new.ok_or_else(|| anyhow!("expert {} is on the panel: restart to take one off", old.id))?;
        ensure!(
            new.model == old.model,
            "expert {} is on the panel with another model: give the new one an id of its own, or restart",
            old.id
        );
    }
    for new in after.experts() {
        if before.experts().iter().any(|expert| expert.id == new.id) {
            continue;
        }
        ensure!(
            shadow.contains(&new.id),
            "expert {} is new on the panel and not in shadow: name it in experts.shadow, or restart",
            new.id
        );
    }
    ensure!(
        before.encoder().is_none() || before.encoder() == after.encoder(),
        "the features would be another encoder's: restart to change that"
    );
    Ok(())
}
