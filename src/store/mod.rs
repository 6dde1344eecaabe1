//! sled, through one door.
