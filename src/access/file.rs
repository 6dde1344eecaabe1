//! Files of credentials: read within bounds, replaced as a whole, and followed by a running process.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The greatest size of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The interval at which a file is polled for changes.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Reads a file of credentials.
///
/// # Errors
/// Returns the system's error, or one for a file of more than 1 MiB.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(text)
}

/// Returns the entries of a file, one in a line, each with the number of its line. Empty lines and comments are no entries.
pub fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| (index + 1, line))
}

/// Replaces a file with `header` and these entries. A new file can be read by its owner only; another keeps its owner and mode.
///
/// # Errors
/// Returns the system's error. The file is then as before.
pub fn replace_entries(path: &Path, header: &str, entries: impl Iterator<Item = String>) -> io::Result<()> {
    let mut text = header.to_owned();
    for entry in entries {
        text.push_str(&entry);
        text.push('\n');
    }
    replace(path, &text)
}

/// Replaces a file as a whole: a reader never sees half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let as_before = || match fs::metadata(path) {
        // A server may run as another user than the one who adds entries.
        Ok(old) => {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(old.permissions())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    let written = as_before()
        .and_then(|()| (&file).write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    written.inspect_err(|_| drop(fs::remove_file(&new))) // it is of no use
}

/// The contents of a file with the time and size at which it was read.
struct Loaded<T> {
    polled: Instant,
    stamp: Option<(SystemTime, u64)>,
    value: Arc<T>,
}

/// The contents of a file of credentials, which follow the file.
pub struct FollowedFile<T, E> {
    path: PathBuf,
    read: fn(&Path) -> Result<T, E>,
    loaded: Mutex<Loaded<T>>,
}

impl<T, E: Display> FollowedFile<T, E> {
    /// Reads the file with `read`.
    ///
    /// # Errors
    /// Returns the error of `read`.
    pub fn open(path: &Path, read: fn(&Path) -> Result<T, E>) -> Result<Self, E> {
        let stamp = stamp(path);
        let loaded = Mutex::new(Loaded { polled: Instant::now(), stamp, value: Arc::new(read(path)?) });
        Ok(Self { path: path.to_owned(), read, loaded })
    }

    /// Returns the contents in force. A file that has changed and is not valid is refused, and logged.
    pub fn now(&self, now: Instant) -> Arc<T> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(loaded.polled) >= POLL_INTERVAL {
            loaded.polled = now;
            let stamp = stamp(&self.path);
            if stamp != loaded.stamp {
                loaded.stamp = stamp;
                match (self.read)(&self.path) {
                    Ok(value) => loaded.value = Arc::new(value),
                    Err(error) => tracing::error!(%error, "the credentials in force stay those read before"),
                }
            }
        }
        Arc::clone(&loaded.value)
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
