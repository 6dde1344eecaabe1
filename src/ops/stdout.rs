//! Output of commands on standard output and standard error.
//!
//! A reader such as `head` may close standard output before its end. The rest is then discarded, and the program exits like
//! one that SIGPIPE ends.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// The exit code that shells report for a program ended by SIGPIPE.
pub const SIGPIPE_EXIT: u8 = 128 + 13;

/// The first error of writing to standard output.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Standard output. Writing never fails: [`finish`] returns the first error.
pub struct Stdout;

impl Stdout {
    fn put(work: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) {
        let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_none() {
            *failed = work(&mut io::stdout().lock()).err();
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::put(|out| out.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::put(|out| out.flush());
        Ok(())
    }
}

/// Standard error. Errors of writing to it are ignored.
#[derive(Debug, Clone, Copy)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a text on standard output.
pub fn print(text: &str) {
    let _ = Stdout.write_all(text.as_bytes());
}

/// Flushes standard output.
///
/// # Errors
/// Returns the first error of writing to standard output.
pub fn finish() -> io::Result<()> {
    Stdout::put(|out| out.flush());
    FAILED.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// Prints a line on standard output.
macro_rules! outln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!($crate::ops::stdout::Stdout, $($words)*);
    }};
}

/// Prints a line on standard error.
macro_rules! errln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!($crate::ops::stdout::Stderr, $($words)*);
    }};
}

pub(crate) use {errln, outln};
