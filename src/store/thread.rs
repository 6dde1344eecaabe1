//! A thread for calls into sled that can be left behind.
//!
//! sled 0.34 can wait for ever for a write that its own threads have given up, in a flush as well as in a drop: on a
//! full file system most runs ended so (docs/decisions/0010). Calls that open, write, flush or drop therefore run on
//! this thread, and the caller stops waiting when the folder refuses writes, when it is asked to stop, or after
//! [`PATIENCE`].

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

/// The folder is tried once a call takes longer than this.
const DOUBT: Duration = Duration::from_secs(2);
/// How long a call may take after a request to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long a call may take on a disk that takes writes, unless it opens sled: recovering a large store takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often the folder and the request to stop are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a write to the folder may take after sled has failed. Then sled's own error is reported.
const TRIAL: Duration = Duration::from_secs(2);
/// Bytes of the file that is written to see whether the folder takes writes: two of sled's segments, because sled
/// needs a whole one to go on.
const PROBE: usize = 1 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// The thread.
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
    /// Starts the thread. It ends when this value is dropped and its last call has returned; nothing waits for it.
    pub(super) fn start(folder: &Path, stop: Stop) -> Result<Self, StoreError> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let run = move || todo.into_iter().for_each(|job| job());
        let spawned = thread::Builder::new().name("store".into()).spawn(run);
        spawned.map_err(|source| os(folder, source))?;
        Ok(Self { jobs, folder: folder.to_owned(), stop })
    }

    /// Makes the call on the thread and waits for its result, for `patience` at most.
    ///
    /// # Errors
    /// Returns the call's error. Returns [`StoreError::Io`] if the folder refuses writes, and [`StoreError::Hung`] if
    /// the call does not return in time; then the call may still be running, and no other may be made.
    pub(super) fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = mpsc::channel();
        // A result that is not waited for any more is dropped on the thread.
        let job: Job = Box::new(move || drop(done.send(guarded(call))));
        if let Err(unsent) = self.jobs.send(job) {
            // The thread has ended in a drop that panicked. The call may hold sled, which must not be dropped here.
            std::mem::forget(unsent);
            return Err(StoreError::Broken);
        }
        match self.wait(patience, &answer)? {
            // sled calls some errors of the disk corruption, or panics: the folder itself says more.
            Err(StoreError::Corrupt { why }) => Err(self.refused().unwrap_or(StoreError::Corrupt { why })),
            other => other,
        }
    }

    fn wait<T>(&self, patience: Duration, answer: &Receiver<T>) -> Result<T, StoreError> {
        let began = Instant::now();
        let mut trial: Option<Receiver<io::Result<()>>> = None;
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Err(StoreError::Broken),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let waited = began.elapsed();
            if waited < DOUBT {
                continue;
            }
            match trial.get_or_insert_with(|| self.trial()).try_recv() {
                Ok(Err(source)) => return Err(os(&self.folder, source)),
                Ok(Ok(())) | Err(TryRecvError::Disconnected) => trial = None,
                // It hangs as well.
                Err(TryRecvError::Empty) => {}
            }
            if waited > patience || waited > GRACE && (self.stop)() {
                // A trial that is under way says more than the call, and leaves its probe if it is not awaited.
                if let Some(Ok(Err(source))) = trial.map(|trial| trial.recv_timeout(TRIAL)) {
                    return Err(os(&self.folder, source));
                }
                let path = self.folder.display().to_string();
                return Err(StoreError::Hung { path, seconds: waited.as_secs() });
            }
        }
    }

    /// The error with which the folder refuses writes; `None` if it takes them, or does not answer.
    pub(super) fn refused(&self) -> Option<StoreError> {
        let tried = self.trial().recv_timeout(TRIAL).ok()?;
        tried.err().map(|source| os(&self.folder, source))
    }

    /// Writes to the folder on a thread of its own: a write can hang as well.
    fn trial(&self) -> Receiver<io::Result<()>> {
        let (done, answer) = mpsc::channel();
        let folder = self.folder.clone();
        let run = move || drop(done.send(probe(&folder)));
        // Without a thread there is no answer, which the caller takes for a folder that takes writes.
        drop(thread::Builder::new().name("store-probe".into()).spawn(run));
        answer
    }
}

/// Writes [`PROBE`] bytes to a file in the folder, and removes it.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("probe");
    let written = File::create(&path).and_then(|mut file| file.write_all(&vec![1; PROBE]));
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
        assert_eq!(worker.call(PATIENCE, || Ok(7)).unwrap(), 7);
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
        assert_eq!(worker.call(DOUBT, hang).unwrap_err().name(), "Hung");
    }

    #[test]
    fn corruption_on_a_folder_that_refuses_writes_is_the_disks_doing() {
        let folder = tempfile::tempdir().unwrap();
        let panics = || -> Result<(), StoreError> { panic!("no space") };
        let on = |folder: &Path| {
            Worker::start(folder, Arc::new(|| false)).unwrap().call(PATIENCE, panics).unwrap_err()
        };
        assert_eq!(on(folder.path()).name(), "Corrupt");
        assert_eq!(on(&folder.path().join("gone")).name(), "Io");
    }
}
