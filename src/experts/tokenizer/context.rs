//! Tokenises the turns before the judged one, for experts that read more than that turn.
//!
//! A turn is read as one line: its role, a colon and a space, its text, a line feed. Line breaks in the text become
//! spaces, so that a text cannot imitate another turn. Each line is tokenised by itself, the judged one first and then
//! the others from the newest to the oldest, until the windows are full. What is left out is the beginning of the oldest
//! turn that is read, and all turns before it. At most [`usual_bytes`](ModelTokenizer::usual_bytes) of history are
//! tokenised, however long the turns are and however many.
//!
//! Because lines do not depend on their neighbours, the history of a turn has the ids that the conversation had when the
//! turn before it was judged, so that the cached result of then serves again.

use super::{ModelTokenizer, SECOND_ATTEMPT_FACTOR, Tokens, tail};
use crate::core::event::{Role, Turn};
use crate::core::text::{is_blank, reveal};

/// A conversation as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextTokens {
    /// `None` if there is nothing before the judged turn, or no room for it.
    pub(crate) read: Option<WithHistory>,
    /// A part of the history was left out.
    pub(crate) cut: bool,
}

/// The tokens of a conversation, and those of the turns before the judged one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WithHistory {
    pub(crate) whole: Tokens,
    pub(crate) history: Tokens,
}

/// A turn as one line.
fn line(role: Role, text: &str) -> String {
    let is_break =
        |c: char| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    format!("{}: {}\n", role.word(), text.trim().replace(is_break, " "))
}

impl ModelTokenizer {
    /// Tokenises a conversation. `judged` is the judged turn with its hidden text revealed, and `judged_cut` tells that it
    /// alone is longer than the windows.
    ///
    /// # Errors
    /// Returns the tokenizer's error.
    pub(crate) fn tokenize_context(
        &self,
        history: &[Turn],
        judged: (Role, &str),
        judged_cut: bool,
    ) -> Result<ContextTokens, tokenizers::Error> {
        let mut turns = history.iter().rev().filter(|turn| !is_blank(&turn.text)).peekable();
        if judged_cut || turns.peek().is_none() {
            return Ok(ContextTokens { read: None, cut: turns.peek().is_some() });
        }
        let judged = self.ids(&line(judged.0, judged.1))?;
        let mut room = self.capacity().saturating_sub(self.count_kept(&judged));
        let (mut bytes, mut cut, mut lines) = (self.usual_bytes(), false, Vec::new());
        for turn in turns {
            if room == 0 || bytes == 0 {
                cut = true;
                break;
            }
            // Hidden text may be shorter once it is revealed.
            let raw = tail(&turn.text, SECOND_ATTEMPT_FACTOR * bytes);
            let revealed = reveal(raw);
            let text = tail(&revealed.text, bytes);
            cut |= raw.len() < turn.text.len() || text.len() < revealed.text.len();
            let line = line(turn.role, text);
            bytes = bytes.saturating_sub(line.len());
            let mut ids = self.ids(&line)?;
            cut |= self.keep_last(&mut ids, room);
            room -= self.count_kept(&ids);
            lines.push(ids);
        }
        let history: Vec<u32> = lines.into_iter().rev().flatten().collect();
        let whole = [history.as_slice(), &judged].concat();
        let read = WithHistory { whole: self.split(whole), history: self.split(history) };
        let is_readable = !self.readable_windows(&read.history).is_empty();
        Ok(ContextTokens { read: is_readable.then_some(read), cut })
    }

    fn count_kept(&self, ids: &[u32]) -> usize {
        ids.iter().filter(|id| self.keeps(**id)).count()
    }

    /// Keeps the last ids, at most `room` of those that the graph gets. Returns `true` if any was left out.
    fn keep_last(&self, ids: &mut Vec<u32>, room: usize) -> bool {
        let surplus = self.count_kept(ids).saturating_sub(room);
        let kept = ids.iter().enumerate().filter(|(_, id)| self.keeps(**id)).map(|(place, _)| place);
        let Some(last_left_out) = kept.take(surplus).last() else {
            return false;
        };
        ids.drain(..=last_left_out);
        true
    }
}
