//! sled and the lock of its folder, which are closed together or abandoned together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::StoreError;
use super::folder::Folder;
use super::thread::{CALL_TIMEOUT, Stop, Worker};
use super::trees::{Trees, retry_locked};

/// sled in its folder. Calls that can hang run on a separate thread.
///
/// After a call has failed or was given up, sled is never called, flushed or dropped again, and the folder stays locked
/// until the process ends, because a thread of sled may still write to it.
#[derive(Debug)]
pub(super) struct Database {
    /// `None` while it is closed.
    trees: Option<Arc<Trees>>,
    worker: Worker,
    folder: Folder,
    /// `true` once memory and disk may differ.
    broken: AtomicBool,
}

impl Database {
    /// A database in this folder. sled is not opened yet.
    pub(super) fn new(folder: Folder, stop: Stop) -> Result<Self, StoreError> {
        let worker = Worker::start(folder.path(), stop)?;
        Ok(Self { trees: None, worker, folder, broken: AtomicBool::new(false) })
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Opens sled and calls `load`. If `load` fails, sled is closed again.
    pub(super) fn open<T: Send + 'static>(
        &mut self,
        load: impl Fn(&Trees) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.folder.sled();
        let open = move || {
            retry_locked(|| {
                let trees = Trees::open(&path)?;
                load(&trees).map(|loaded| (trees, loaded))
            })
        };
        match self.worker.call(Duration::MAX, open) {
            Ok((trees, loaded)) => {
                self.trees = Some(Arc::new(trees));
                Ok(loaded)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Closes sled, which flushes it.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        let Some(trees) = self.trees.take() else { return Ok(()) };
        let closed = self.worker.call(CALL_TIMEOUT, move || {
            drop(trees);
            Ok(())
        });
        closed.map_err(|error| self.failed(error))?;
        self.broken.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The trees, for calls that cannot hang: reads before the first write.
    pub(super) fn trees(&self) -> Result<&Trees, StoreError> {
        self.trees.as_deref().filter(|_| !self.is_broken()).ok_or(StoreError::Broken)
    }

    /// Runs a call that reads.
    pub(super) fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Trees) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let trees = self.trees.clone().filter(|_| !self.is_broken()).ok_or(StoreError::Broken)?;
        self.worker.call(CALL_TIMEOUT, move || call(&trees)).map_err(|error| self.failed(error))
    }

    /// Runs a call that writes. After an error sled is abandoned.
    pub(super) fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Trees) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let trees = self.trees.clone().filter(|_| !self.is_broken()).ok_or(StoreError::Broken)?;
        self.worker.call(CALL_TIMEOUT, move || call(&trees)).map_err(|error| {
            self.broken.store(true, Ordering::Relaxed);
            self.failed(error)
        })
    }

    /// Adds the folder to an error. An error of the disk is logged at once, before anything is dropped.
    fn failed(&self, error: StoreError) -> StoreError {
        let error = self.folder.named(error);
        if let StoreError::Io { .. } | StoreError::Hung { .. } = &error {
            self.broken.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the store has failed: its files are left as they are");
        }
        error
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !self.is_broken() {
            // An error is logged by `failed`, and marks the database as broken.
            drop(self.close());
        }
        if self.is_broken() {
            std::mem::forget(self.trees.take());
            self.folder.stay_locked();
        }
    }
}
