//! sled and the lock of its folder, which are closed together or left behind together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::StoreError;
use super::folder::Folder;
use super::thread::{PATIENCE, Stop, Worker};
use super::trees::{Trees, unlocked};

/// sled in its folder. Calls that can hang run on a thread of its own.
///
/// Once a call has failed or was given up, sled is never called, flushed or dropped again, and the folder stays locked
/// until the process ends: a thread of sled's may still write to it.
#[derive(Debug)]
pub(super) struct Database {
    /// `None` while it is closed.
    trees: Option<Arc<Trees>>,
    worker: Worker,
    folder: Folder,
    /// Memory and disk may differ.
    broken: AtomicBool,
}

impl Database {
    /// Takes the folder, without opening sled.
    pub(super) fn new(folder: Folder, stop: Stop) -> Result<Self, StoreError> {
        let worker = Worker::start(folder.path(), stop)?;
        Ok(Self { trees: None, worker, folder, broken: AtomicBool::new(false) })
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Opens sled and reads from it what `load` wants. If that fails sled is closed again.
    pub(super) fn open<T: Send + 'static>(
        &mut self,
        load: impl Fn(&Trees) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.folder.sled();
        let open = move || {
            unlocked(|| {
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
        let closed = self.worker.call(PATIENCE, move || {
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

    /// sled, for calls that cannot hang: reads before the first write.
    pub(super) fn trees(&self) -> Result<&Trees, StoreError> {
        self.trees.as_deref().filter(|_| !self.is_broken()).ok_or(StoreError::Broken)
    }

    /// Reads.
    pub(super) fn read<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Trees) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let trees = self.trees.clone().filter(|_| !self.is_broken()).ok_or(StoreError::Broken)?;
        self.worker.call(PATIENCE, move || call(&trees)).map_err(|error| self.failed(error))
    }

    /// Writes. After an error sled is left behind.
    pub(super) fn write<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Trees) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let trees = self.trees.clone().filter(|_| !self.is_broken()).ok_or(StoreError::Broken)?;
        self.worker.call(PATIENCE, move || call(&trees)).map_err(|error| {
            self.broken.store(true, Ordering::Relaxed);
            self.failed(error)
        })
    }

    /// Names the folder in an error of the disk, and logs it before anything is dropped.
    fn failed(&self, error: StoreError) -> StoreError {
        let error = self.folder.named(error);
        if let StoreError::Io { .. } | StoreError::Hung { .. } = &error {
            self.broken.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the store has failed: it is left as it is on the disk");
        }
        error
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !self.is_broken() {
            // An error is logged there, and leaves it broken.
            drop(self.close());
        }
        if self.is_broken() {
            std::mem::forget(self.trees.take());
            self.folder.stay_locked();
        }
    }
}
