//! What commands print. Whoever reads it may go before its end, as `head` does: the rest is then for nobody, and the
//! program ends as one that SIGPIPE ends.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// The exit code of a program that SIGPIPE ended, as shells tell it.
pub const CLOSED: u8 = 128 + 13;

/// Why standard output takes no more.
static ENDED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Standard output. Nobody has to see to it that writing fails: [`ended`] tells.
pub struct Out;

impl Out {
    fn put(work: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) {
        let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = work(&mut io::stdout().lock()).err();
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::put(|out| out.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::put(|out| out.flush());
        Ok(())
    }
}

/// Standard error, where what is said is for whoever reads it, and for nobody where nobody does.
#[derive(Debug, Clone, Copy)]
pub struct Notes;

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a text on standard output.
pub fn text(text: &str) {
    let _ = Out.write_all(text.as_bytes());
}

/// Whether all that was printed was taken.
///
/// # Errors
/// Why not.
pub fn ended() -> io::Result<()> {
    Out::put(|out| out.flush());
    ENDED.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// Prints a line on standard output.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!($crate::say::Out, $($words)*);
    }};
}

/// Prints a line on standard error.
macro_rules! note {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!($crate::say::Notes, $($words)*);
    }};
}

pub(crate) use {note, say};
