//! Who is asked: the panel, and which of its experts are in shadow. Both can change while events come.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Live;
use crate::experts::Panel;

/// The panel, and who of it weighs nothing.
pub struct PanelHandle {
    /// The panel, opened.
    pub panel: Arc<Panel>,
    /// Experts that vote and weigh nothing, by id.
    pub shadow: BTreeSet<String>,
}

impl PanelHandle {
    /// This panel with these experts in shadow.
    #[must_use]
    pub fn new(panel: Arc<Panel>, shadow: &[String]) -> Self {
        Self { panel, shadow: shadow.iter().cloned().collect() }
    }

    /// The same, in force until others are.
    #[must_use]
    pub fn in_force(panel: Arc<Panel>, shadow: &[String]) -> Live<Self> {
        Arc::new(Self::new(panel, shadow)).into()
    }

    /// The panel's experts, by the UTF-8 bytes of their ids.
    #[must_use]
    pub fn experts(&self) -> Vec<String> {
        self.panel.experts().iter().map(|expert| expert.id.clone()).collect()
    }
}
