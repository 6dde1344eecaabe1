//! The errors of the store, and which of sled's errors mean that its contents cannot be trusted.

use std::io;

use thiserror::Error;

use crate::panics;

/// An error of the store. The names are metric labels.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk or the operating system returned an error.
    #[error("the store's folder {path}: {reason}; check space, permissions and the disk, then start again")]
    Io {
        /// The path of the folder.
        path: String,
        /// The error of the operating system.
        reason: io::Error,
    },
    /// sled or the disk does not respond.
    #[error(
        "the store's folder {path}: the disk has not answered for {seconds} s; check the disk, then start again"
    )]
    Hung {
        /// The path of the folder.
        path: String,
        /// The time that the caller waited, in seconds.
        seconds: u64,
    },
    /// Another process has the folder open.
    #[error(
        "the store's folder {path} is in use by another process: stop it, or give this one another folder"
    )]
    Locked {
        /// The path of the folder.
        path: String,
    },
    /// The contents are inconsistent. Nothing is lost: the store can be filled again from the topics.
    #[error("the store is corrupt ({why}): it has to be built again from the topics")]
    Corrupt {
        /// The inconsistency that was found.
        why: String,
    },
    /// An earlier call failed, so that memory and disk may differ. The store has to be opened again.
    #[error("the store failed earlier and has to be opened again")]
    Broken,
}

impl StoreError {
    /// The error's name, as a metric label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Io { .. } => "Io",
            Self::Hung { .. } => "Hung",
            Self::Locked { .. } => "Locked",
            Self::Corrupt { .. } => "Corrupt",
            Self::Broken => "Broken",
        }
    }
}

/// A corruption error.
pub(super) fn corrupt(why: impl Into<String>) -> StoreError {
    StoreError::Corrupt { why: why.into() }
}

/// An error of the operating system.
pub(super) fn os(path: &std::path::Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.display().to_string(), reason: source }
}

/// Maps sled's errors to errors of the disk and errors of the contents. sled wraps both in I/O errors. The errors that it
/// creates itself have no error number of the operating system. A missing file of sled is corruption as well.
pub(super) fn classify(error: sled::Error) -> StoreError {
    let sled::Error::Io(source) = error else { return corrupt(error.to_string()) };
    if source.to_string().contains("could not acquire lock") {
        return StoreError::Locked { path: "of sled".to_owned() };
    }
    let is_corruption = match source.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidData
        | io::ErrorKind::UnexpectedEof => true,
        io::ErrorKind::Other => source.raw_os_error().is_none(),
        _ => false,
    };
    if is_corruption {
        return corrupt(source.to_string());
    }
    StoreError::Io { path: "of sled".to_owned(), reason: os_error(source) }
}

/// The operating system's error. If several threads receive an error, sled passes on only its debug representation.
fn os_error(error: io::Error) -> io::Error {
    let text = error.to_string();
    let code = text.strip_prefix("Os { code: ").and_then(|rest| rest.split(',').next()?.parse().ok());
    code.map_or(error, io::Error::from_raw_os_error)
}

/// Runs a call into sled. sled 0.34 panics on some broken files, so that a panic is reported as corruption.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    match panics::contain(call) {
        Ok(result) => result,
        Err(payload) => {
            let message = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(corrupt(format!("sled panicked: {message}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_errors_are_not_corruption() {
        let full = sled::Error::Io(io::Error::from_raw_os_error(28)); // ENOSPC
        assert_eq!(classify(full).name(), "Io");
        // The form in which sled returns an error to all threads but the first.
        let text = format!("{:?}", io::Error::from_raw_os_error(28));
        let again = sled::Error::Io(io::Error::new(io::ErrorKind::StorageFull, text));
        assert!(classify(again).to_string().contains(": No space left on device (os error 28); check space"));
        let denied = sled::Error::Io(io::ErrorKind::PermissionDenied.into());
        assert_eq!(classify(denied).name(), "Io");
        let lock = sled::Error::Io(io::Error::other("could not acquire lock on \"x\": busy"));
        assert_eq!(classify(lock).name(), "Locked");
    }

    #[test]
    fn content_errors_are_corruption() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::NotFound, io::ErrorKind::InvalidData] {
            assert_eq!(classify(sled::Error::Io(kind.into())).name(), "Corrupt");
        }
        let own = sled::Error::Io(io::Error::other("corruption in the log"));
        assert_eq!(classify(own).name(), "Corrupt");
        assert_eq!(classify(sled::Error::Unsupported("old".to_owned())).name(), "Corrupt");
    }

    #[test]
    fn a_panic_is_corruption() {
        let found = guarded::<()>(|| panic!("index {} out of range", 7)).map_err(|error| error.to_string());
        assert!(found.is_err_and(|text| text.contains("index 7 out of range")));
    }
}
