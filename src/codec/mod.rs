//! Records on topics and in files <-> core's types.
