//! The store's folder: who may use it, in which format it is, and how it is emptied.
//!
//! It holds `lock`, `format` (the last to be written when it is made) and `sled/`. Nothing but these is
//! ever removed, whatever folder is named by mistake.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{StoreError, os};
use super::record::FORMAT;

/// The folder, locked while this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// `None` if it is never given back.
    lock: Option<File>,
}

/// What the folder's mark says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// None: nothing was ever committed here.
    Missing,
    /// Ours.
    Current,
    /// Another version's, or unreadable.
    Other(String),
}

fn mark() -> String {
    format!("aegis store, format {FORMAT}\n")
}

impl Folder {
    /// Makes the folder where there is none, and locks it.
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

    /// Returns `true` if a store was ever made in this folder.
    pub(super) fn is_marked(path: &Path) -> bool {
        path.join("format").exists()
    }

    /// Names the folder in an error.
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
                let said: String = String::from_utf8_lossy(&bytes).chars().take(60).collect();
                Ok(Mark::Other(said.trim().to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark::Missing),
            Err(source) => Err(os(&self.path, source)),
        }
    }

    fn try_clear(&self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(self.path.join("format")))?;
        File::open(&self.path)?.sync_all()?; // the mark is gone before the contents are
        gone(fs::remove_dir_all(self.sled()))
    }

    /// Removes the contents.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        self.try_clear().map_err(|source| os(&self.path, source))
    }

    fn try_write_mark(&self) -> io::Result<()> {
        let fresh = self.path.join("format.new");
        let mut file = File::create(&fresh)?;
        file.write_all(mark().as_bytes())?;
        file.sync_all()?;
        fs::rename(fresh, self.path.join("format"))?;
        File::open(&self.path)?.sync_all()
    }

    /// Says that what is here is whole and in our format.
    pub(super) fn write_mark(&self) -> Result<(), StoreError> {
        self.try_write_mark().map_err(|source| os(&self.path, source))
    }
}
