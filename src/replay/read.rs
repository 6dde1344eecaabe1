//! Files read on a thread of their own: opened, decompressed, cut into lines and parsed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender};

use super::avro::Container;
use super::batch::{Batch, Item};
use super::line::Parser;
use crate::codec::CONTAINER_MAGIC;
use crate::rows::open;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// The greatest length of a line; longer ones are malformed.
pub(super) const MAX_LINE_BYTES: usize = 4 << 20;

/// Returns the item of a line that is too long.
pub(super) fn too_long() -> Item {
    Item::Malformed(format!("longer than {MAX_LINE_BYTES} bytes"))
}

/// An error of opening or reading a file.
#[derive(Debug)]
pub(super) struct ReadError {
    pub(super) path: PathBuf,
    pub(super) reason: io::Error,
}

/// Reads all files one after the other, and stops early if the receiver is gone.
pub(super) fn read_all(
    paths: &[PathBuf],
    mut parser: Parser,
    full: &Sender<Batch>,
    empty: &Receiver<Batch>,
) -> Result<(), ReadError> {
    for (stream, path) in paths.iter().enumerate() {
        let failed = |reason| ReadError { path: path.clone(), reason };
        let mut source = Source::new(path).map_err(failed)?;
        loop {
            let mut batch = empty.try_recv().unwrap_or_default();
            batch.clear(stream);
            let more = match &mut source {
                Source::Lines(cutter) => cutter.next(&mut parser, &mut batch),
                Source::Records(container) => container.next(&mut parser, &mut batch),
            };
            let more = more.map_err(failed)?;
            if full.send(batch).is_err() {
                return Ok(());
            }
            if !more {
                break;
            }
        }
    }
    Ok(())
}

/// A file of either format.
enum Source {
    Lines(Cutter),
    Records(Box<Container>),
}

impl Source {
    /// Opens a file. A container file may have any name, be compressed, or come from standard input.
    fn new(path: &Path) -> io::Result<Self> {
        let mut source = open(path)?;
        let mut start = Vec::new();
        source.by_ref().take(CONTAINER_MAGIC.len() as u64).read_to_end(&mut start)?;
        let records = path.extension().is_some_and(|ending| ending == "avro") || start == CONTAINER_MAGIC;
        let source = Box::new(io::Cursor::new(start).chain(source));
        Ok(if records {
            Self::Records(Box::new(Container::new(source)?))
        } else {
            Self::Lines(Cutter::new(source))
        })
    }
}

/// Cuts a stream into lines.
struct Cutter {
    source: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    /// The number of bytes that are filled.
    filled: usize,
    line: u64,
    /// `true` inside a line that is too long.
    skipping: bool,
}

impl Cutter {
    fn new(source: Box<dyn Read + Send>) -> Self {
        Self { source, bytes: vec![0; READ_BYTES], filled: 0, line: 0, skipping: false }
    }

    /// Reads a piece and parses its whole lines; `false` at the end.
    fn next(&mut self, parser: &mut Parser, batch: &mut Batch) -> io::Result<bool> {
        if self.filled == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        let before = self.filled;
        while self.filled < self.bytes.len() {
            let Some(room) = self.bytes.get_mut(self.filled..) else { break };
            match self.source.read(room) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let ended = self.filled < self.bytes.len();
        let new = self.bytes.get(before..self.filled).unwrap_or(&[]);
        let cut = match new.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => before + last + 1,
            None if ended => self.filled,
            None => 0,
        };
        let cut = if ended { self.filled } else { cut };
        let bytes = std::mem::take(&mut self.bytes);
        self.parse(bytes.get(..cut).unwrap_or(&[]), parser, batch);
        self.bytes = bytes;
        self.bytes.copy_within(cut..self.filled, 0);
        self.filled -= cut;
        if self.filled >= MAX_LINE_BYTES {
            if !self.skipping {
                self.skipping = true;
                batch.items.push((self.line + 1, too_long()));
            }
            self.filled = 0;
        }
        Ok(!ended)
    }

    fn parse(&mut self, bytes: &[u8], parser: &mut Parser, batch: &mut Batch) {
        // One check of all bytes is fast; only if it fails, lines are checked one by one.
        let text = std::str::from_utf8(bytes).ok();
        let mut start = 0;
        while start < bytes.len() {
            let rest = bytes.get(start..).unwrap_or(&[]);
            let length = memchr(rest).unwrap_or(rest.len());
            let end = start + length;
            self.line += 1;
            batch.lines += 1;
            let line = match text {
                Some(text) => text.get(start..end),
                None => bytes.get(start..end).and_then(|line| std::str::from_utf8(line).ok()),
            };
            start = end + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            // Concatenated files may have a byte order mark in the middle.
            match line.map(|line| line.strip_prefix('\u{feff}').unwrap_or(line)) {
                Some(line) if line.trim_ascii().is_empty() => {}
                Some(line) => parser.parse(self.line, line, batch),
                None => batch.items.push((self.line, Item::Malformed("not UTF-8".to_owned()))),
            }
        }
    }
}

/// Returns the index of the first line break.
fn memchr(bytes: &[u8]) -> Option<usize> {
    // Eight bytes at a time: a byte of `word` is zero if it is a line break.
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut at = 0;
    for eight in bytes.chunks_exact(8) {
        let word =
            u64::from_le_bytes(eight.try_into().expect("chunks of eight bytes")) ^ (ONES * b'\n' as u64);
        let found = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|byte| *byte == b'\n').map(|rest| at + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_is_found() {
        for length in 0..40 {
            for at in 0..=length {
                let mut bytes = vec![b'\x0b'; length];
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = b'\n');
                assert_eq!(memchr(&bytes), (at < length).then_some(at), "{at} of {length}");
            }
        }
    }

    fn lines(bytes: &[u8]) -> (Vec<(u64, bool)>, u64) {
        let mut cutter = Cutter::new(Box::new(io::Cursor::new(bytes.to_vec())));
        let mut parser = Parser::default();
        let (mut found, mut lines) = (Vec::new(), 0);
        loop {
            let mut batch = Batch::default();
            let more = cutter.next(&mut parser, &mut batch).unwrap();
            lines += batch.lines;
            found.extend(batch.items.iter().map(|(line, item)| (*line, matches!(item, Item::Malformed(_)))));
            if !more {
                return (found, lines);
            }
        }
    }

    #[test]
    fn lines_are_cut_anywhere() {
        let good = r#"{"event_id":"a","unsafe":true}"#;
        assert_eq!(
            lines(format!("{good}\n\n {good}\r\n{good}").as_bytes()).0,
            [(1, false), (3, false), (4, false)]
        );
        assert_eq!(lines(b"").0, []);
        assert_eq!(lines(b"\xff\n{\n").0, [(1, true), (2, true)]);
        let mut long = good.as_bytes().to_vec();
        long.push(b'\n');
        long.extend(vec![b'x'; MAX_LINE_BYTES * 2 + 17]);
        long.push(b'\n');
        long.extend(good.as_bytes());
        assert_eq!(lines(&long), (vec![(1, false), (2, true), (3, false)], 3));
        let many: Vec<u8> = format!("{good}\n").repeat(100_000).into_bytes();
        assert_eq!(lines(&many).0.len(), 100_000);
    }
}
