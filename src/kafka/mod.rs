//! Topics: sources, sinks, and what commits together.
