//! The store's folder: its lock, its format, and the removal of its contents.
//!
//! It contains `lock`, `format` (written last when a store is created) and `sled/`. Nothing else is ever removed, so
//! that a folder that was named by mistake loses nothing.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{StoreError, os};
use super::record::FORMAT;

/// The folder, which is locked until this value is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// `None` if the lock is never released.
    lock: Option<File>,
}

/// The format of the store in the folder, by its mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// There is no mark: nothing was ever committed here.
    Missing,
    /// The format that this program reads and writes.
    Current,
    /// The text of another mark.
    Other(String),
}

fn mark() -> String {
    format!("aegis store, format {FORMAT}\n")
}

impl Folder {
    /// Creates the folder if it is missing, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(|source| os(path, source))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(|source| os(path, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.display().to_string() }),
            Err(TryLockError::Error(source)) => Err(os(path, source)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the folder locked until the process ends.
    pub(super) fn stay_locked(&mut self) {
        std::mem::forget(self.lock.take());
    }

    /// Returns `true` if a store was ever created in this folder.
    pub(super) fn is_marked(path: &Path) -> bool {
        path.join("format").exists()
    }

    /// Adds the path of the folder to an error.
    pub(super) fn named(&self, error: StoreError) -> StoreError {
        let path = self.path.display().to_string();
        match error {
            StoreError::Io { reason, .. } => StoreError::Io { path, reason },
            StoreError::Locked { .. } => StoreError::Locked { path },
            StoreError::Hung { seconds, .. } => StoreError::Hung { path, seconds },
            other => other,
        }
    }

    pub(super) fn sled(&self) -> PathBuf {
        self.path.join("sled")
    }

    pub(super) fn mark(&self) -> Result<Mark, StoreError> {
        match fs::read(self.path.join("format")) {
            Ok(bytes) if bytes == mark().as_bytes() => Ok(Mark::Current),
            Ok(bytes) => {
                let text: String = String::from_utf8_lossy(&bytes).chars().take(60).collect();
                Ok(Mark::Other(text.trim().to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark::Missing),
            Err(source) => Err(os(&self.path, source)),
        }
    }

    fn try_clear(&self) -> io::Result<()> {
        let ignore_missing = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        ignore_missing(fs::remove_file(self.path.join("format")))?;
        File::open(&self.path)?.sync_all()?; // the mark must be gone before the contents
        ignore_missing(fs::remove_dir_all(self.sled()))
    }

    /// Removes the contents.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        self.try_clear().map_err(|source| os(&self.path, source))
    }

    fn try_write_mark(&self) -> io::Result<()> {
        let new = self.path.join("format.new");
        let mut file = File::create(&new)?;
        file.write_all(mark().as_bytes())?;
        file.sync_all()?;
        fs::rename(new, self.path.join("format"))?;
        File::open(&self.path)?.sync_all()
    }

    /// Marks the contents as complete and in the current format.
    pub(super) fn write_mark(&self) -> Result<(), StoreError> {
        self.try_write_mark().map_err(|source| os(&self.path, source))
    }
}
