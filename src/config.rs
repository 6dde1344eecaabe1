//! One TOML file, environment and --set over it.
