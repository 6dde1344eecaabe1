//! The panel in use, which can be replaced while events are scored.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::predictors::PanelIdentity;
use crate::config::{Experts, Live};
use crate::experts::Panel;

/// The experts in use, and which of them run in shadow mode.
pub struct PanelHandle {
    /// The loaded panel.
    pub panel: Arc<Panel>,
    /// The ids of experts in shadow mode: their votes are recorded and have no weight.
    pub shadow: BTreeSet<String>,
}

/// Returns the ids of the panel's experts in shadow mode.
#[must_use]
pub fn in_shadow(panel: &Panel, settings: &Experts) -> BTreeSet<String> {
    let experts = panel.experts().iter();
    let shadow = experts.filter(|one| settings.is_shadow(&one.id, one.begins_in_shadow));
    shadow.map(|one| one.id.clone()).collect()
}

impl PanelHandle {
    /// Combines a panel with the settings that say which of its experts are in shadow mode.
    #[must_use]
    pub fn new(panel: Arc<Panel>, settings: &Experts) -> Self {
        let shadow = in_shadow(&panel, settings);
        Self { panel, shadow }
    }

    /// Returns the handle as the current one, which can be replaced.
    #[must_use]
    pub fn in_force(panel: Arc<Panel>, settings: &Experts) -> Live<Self> {
        Arc::new(Self::new(panel, settings)).into()
    }

    /// Returns the experts and the encoder of the panel, which is not about to change.
    #[must_use]
    pub(super) fn identity(&self) -> PanelIdentity {
        PanelIdentity { experts: self.experts(), encoder: self.panel.encoder(), changes_encoder: false }
    }

    /// Returns the ids of the panel's experts, sorted by their UTF-8 bytes.
    #[must_use]
    pub fn experts(&self) -> Vec<String> {
        self.panel.experts().iter().map(|expert| expert.id.clone()).collect()
    }
}
