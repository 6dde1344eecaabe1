//! A thread for calls into sled, which can be abandoned.
//!
//! sled 0.34 can wait forever for a write that its own threads have given up, in a flush as well as in a drop. On a
//! full file system most runs ended in this way (docs/decisions/0010). Calls that open, write, flush or drop therefore run on
//! this thread. The caller stops waiting if the folder refuses writes, if shutdown is requested, or after
//! [`CALL_TIMEOUT`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{StoreError, guarded, os};

/// Returns `true` once a call that does not return should be given up.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// The time after which the folder is probed while a call is running.
const PROBE_AFTER: Duration = Duration::from_secs(2);
/// The time that a call may take after a request to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that a call may take on a disk that accepts writes. Opening sled may take longer, since it recovers the store.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The time between two checks of the folder and of the request to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The time that a probe may take after sled has failed. After that sled's own error is reported.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The size of the file that a probe writes, in bytes: two of sled's segments, because sled needs a whole one to continue.
const PROBE_BYTES: usize = 1 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// The thread and its queue of calls.
pub(super) struct Worker {
    jobs: Sender<Job>,
    folder: PathBuf,
    stop: Stop,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Worker").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts the thread. It ends after this value was dropped and its last call has returned. Nothing waits for it.
    pub(super) fn start(folder: &Path, stop: Stop) -> Result<Self, StoreError> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let run = move || todo.into_iter().for_each(|job| job());
        let spawned = thread::Builder::new().name("store".into()).spawn(run);
        spawned.map_err(|source| os(folder, source))?;
        Ok(Self { jobs, folder: folder.to_owned(), stop })
    }

    /// Runs the call on the thread and waits for its result, for at most `timeout`.
    ///
    /// # Errors
    /// Returns the call's error. Returns [`StoreError::Io`] if the folder refuses writes, and [`StoreError::Hung`] if
    /// the call does not return in time; then the call may still be running, and no other may be made.
    pub(super) fn call<T: Send + 'static>(
        &self,
        timeout: Duration,
        call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = mpsc::channel();
        // If the caller no longer waits, the result is dropped on the thread.
        let job: Job = Box::new(move || drop(done.send(guarded(call))));
        if let Err(unsent) = self.jobs.send(job) {
            // The thread has ended in a drop that panicked. The call may hold sled, which must not be dropped here.
            std::mem::forget(unsent);
            return Err(StoreError::Broken);
        }
        match self.wait(timeout, &answer)? {
            // sled reports some errors of the disk as corruption, or panics. A probe returns the actual error.
            Err(StoreError::Corrupt { why }) => {
                Err(self.write_error().unwrap_or(StoreError::Corrupt { why }))
            }
            other => other,
        }
    }

    fn wait<T>(&self, timeout: Duration, answer: &Receiver<T>) -> Result<T, StoreError> {
        let began = Instant::now();
        let mut pending: Option<Receiver<io::Result<()>>> = None;
        loop {
            match answer.recv_timeout(POLL_INTERVAL) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Err(StoreError::Broken),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let waited = began.elapsed();
            if waited < PROBE_AFTER {
                continue;
            }
            match pending.get_or_insert_with(|| self.probe()).try_recv() {
                Ok(Err(source)) => return Err(os(&self.folder, source)),
                Ok(Ok(())) | Err(TryRecvError::Disconnected) => pending = None,
                // The probe hangs as well.
                Err(TryRecvError::Empty) => {}
            }
            if waited > timeout || waited > STOP_TIMEOUT && (self.stop)() {
                // A running probe returns a more specific error than the call, and removes its file before it ends.
                if let Some(Ok(Err(source))) = pending.map(|probe| probe.recv_timeout(PROBE_TIMEOUT)) {
                    return Err(os(&self.folder, source));
                }
                let path = self.folder.display().to_string();
                return Err(StoreError::Hung { path, seconds: waited.as_secs() });
            }
        }
    }

    /// The error of a write to the folder; `None` if the folder accepts writes or does not respond.
    pub(super) fn write_error(&self) -> Option<StoreError> {
        let written = self.probe().recv_timeout(PROBE_TIMEOUT).ok()?;
        written.err().map(|source| os(&self.folder, source))
    }

    /// Starts a write to the folder on another thread, since it can hang as well.
    fn probe(&self) -> Receiver<io::Result<()>> {
        let (done, answer) = mpsc::channel();
        let folder = self.folder.clone();
        let run = move || drop(done.send(write_probe(&folder)));
        // If no thread can be started, the channel closes, and the folder is assumed to accept writes.
        drop(thread::Builder::new().name("store-probe".into()).spawn(run));
        answer
    }
}

/// Writes a file of [`PROBE_BYTES`] to the folder, and removes it.
fn write_probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe");
    let written = File::create(&path).and_then(|mut file| file.write_all(&vec![1; PROBE_BYTES]));
    let removed = fs::remove_file(&path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A call that never returns.
    fn hang() -> Result<(), StoreError> {
        loop {
            thread::park();
        }
    }

    #[test]
    fn a_call_that_hangs_is_given_up_when_the_caller_is_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        let worker = Worker::start(folder.path(), Arc::new(move || seen.load(Ordering::Relaxed))).unwrap();
        assert_eq!(worker.call(CALL_TIMEOUT, || Ok(7)).unwrap(), 7);
        asked.store(true, Ordering::Relaxed);
        let error = worker.call(Duration::MAX, hang).unwrap_err();
        assert_eq!(error.name(), "Hung");
        assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the probe is removed");
    }

    #[test]
    fn a_call_that_hangs_on_a_folder_that_refuses_writes_has_the_folders_error() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let worker = Worker::start(&gone, Arc::new(|| false)).unwrap();
        let error = worker.call(Duration::MAX, hang).unwrap_err();
        assert!(
            matches!(&error, StoreError::Io { path, .. } if *path == gone.display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_call_that_hangs_is_given_up_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let worker = Worker::start(folder.path(), Arc::new(|| false)).unwrap();
        assert_eq!(worker.call(PROBE_AFTER, hang).unwrap_err().name(), "Hung");
    }

    #[test]
    fn corruption_on_a_folder_that_refuses_writes_is_the_disks_doing() {
        let folder = tempfile::tempdir().unwrap();
        let panics = || -> Result<(), StoreError> { panic!("no space") };
        let on = |folder: &Path| {
            Worker::start(folder, Arc::new(|| false)).unwrap().call(CALL_TIMEOUT, panics).unwrap_err()
        };
        assert_eq!(on(folder.path()).name(), "Corrupt");
        assert_eq!(on(&folder.path().join("gone")).name(), "Io");
    }
}
