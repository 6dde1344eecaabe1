//! The panel: experts asked for their votes.
