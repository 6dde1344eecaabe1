//! The panel in use, which can be replaced while events are scored.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::predictors::PanelIdentity;
use crate::config::Live;
use crate::experts::Panel;

/// The experts in use, and which of them run in shadow mode.
pub struct PanelHandle {
    /// The loaded panel.
    pub panel: Arc<Panel>,
    /// The ids of experts in shadow mode: their votes are recorded and have no weight.
    pub shadow: BTreeSet<String>,
}

impl PanelHandle {
    /// Combines a panel with the ids of its experts in shadow mode.
    #[must_use]
    pub fn new(panel: Arc<Panel>, shadow: &[String]) -> Self {
        Self { panel, shadow: shadow.iter().cloned().collect() }
    }

    /// Returns the handle as the current one, which can be replaced.
    #[must_use]
    pub fn in_force(panel: Arc<Panel>, shadow: &[String]) -> Live<Self> {
        Arc::new(Self::new(panel, shadow)).into()
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
