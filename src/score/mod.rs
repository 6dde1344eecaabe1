//! The scoring flow: events in, decisions out.
