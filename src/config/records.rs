//! The settings that the codec reads events and labels with.

use super::Config;
use crate::codec;

impl Config {
    /// Returns the defaults of events and labels, and the pointers to their fields where a section sets them.
    #[must_use]
    pub fn record_defaults(&self) -> codec::Defaults {
        codec::Defaults {
            tenant: self.defaults.tenant.clone(),
            policy: self.defaults.policy.clone(),
            event_fields: self.event_fields.is_set().then(|| self.event_fields.clone()),
            label_fields: self.label_fields.is_set().then(|| self.label_fields.clone()),
        }
    }
}
