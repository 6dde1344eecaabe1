//! The shape of the repository: directions of imports, dependencies and licences.

mod directions;
mod fetched;
mod platforms;
mod supply;

use std::path::Path;

/// The folder of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
