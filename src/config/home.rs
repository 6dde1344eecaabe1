//! The places in which a configuration is found if no file is named.

use std::path::{Path, PathBuf};

use super::ConfigError;

/// The files that are looked for in the working directory, in this order.
pub const PLACES: [&str; 2] = ["aegis.toml", "config/aegis.toml"];

/// Returns the named file, or else the first of [`PLACES`] that exists in the working directory.
///
/// # Errors
/// Returns [`ConfigError::NotFound`] if no file is named and none of the places has one.
pub fn find(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    named.map_or_else(|| find_in(Path::new("")), |file| Ok(file.to_path_buf()))
}

/// Returns the first of [`PLACES`] that exists in `folder`.
fn find_in(folder: &Path) -> Result<PathBuf, ConfigError> {
    let places = PLACES.map(|place| folder.join(place));
    // A file that exists and cannot be read is the error of reading it. It is never passed over for the next place.
    if let Some(found) = places.iter().find(|place| place.symlink_metadata().is_ok()) {
        return Ok(found.clone());
    }
    let absolute = |place: &PathBuf| std::path::absolute(place).unwrap_or_else(|_| place.clone());
    let places: Vec<_> = places.iter().map(|place| absolute(place).display().to_string()).collect();
    Err(ConfigError::NotFound { places: places.join(" and ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_folder_comes_first_and_a_named_file_before_both() {
        let folder = tempfile::tempdir().unwrap();
        let error = find_in(folder.path()).unwrap_err().to_string();
        for place in PLACES {
            assert!(error.contains(folder.path().join(place).to_str().unwrap()), "{error}");
        }
        assert!(error.contains("--config FILE or AEGIS_CONFIG"), "{error}");
        std::fs::create_dir(folder.path().join("config")).unwrap();
        std::fs::write(folder.path().join("config/aegis.toml"), "").unwrap();
        assert_eq!(find_in(folder.path()).unwrap(), folder.path().join("config/aegis.toml"));
        std::fs::write(folder.path().join("aegis.toml"), "").unwrap();
        assert_eq!(find_in(folder.path()).unwrap(), folder.path().join("aegis.toml"));
        // A named file is not checked here: reading it reports that it does not exist.
        assert_eq!(find(Some(Path::new("other.toml"))).unwrap(), Path::new("other.toml"));
    }

    /// A dangling link is a mistake to report, and no reason to read another file.
    #[cfg(unix)]
    #[test]
    fn a_dangling_link_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        std::fs::write(folder.path().join("config/aegis.toml"), "").unwrap();
        std::os::unix::fs::symlink("gone.toml", folder.path().join("aegis.toml")).unwrap();
        assert_eq!(find_in(folder.path()).unwrap(), folder.path().join("aegis.toml"));
    }
}
