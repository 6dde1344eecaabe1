//! The shape of the repository: directions of imports, dependencies and licences.

mod directions;
mod platforms;
mod supply;
