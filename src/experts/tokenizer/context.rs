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
        let has_room = !history.is_empty();
        let read = WithHistory { whole: self.split(whole), history: self.split(history) };
        let is_known = has_room && !self.readable_windows(&read.history).is_empty();
        Ok(ContextTokens { read: is_known.then_some(read), cut })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::experts::tokenizer::tests::{CLOSING, tokenizer};

    fn turn(role: Role, text: &str) -> Turn {
        Turn { role, text: text.to_owned() }
    }

    fn by_user(texts: &[&str]) -> Vec<Turn> {
        texts.iter().map(|text| turn(Role::User, text)).collect()
    }

    fn characters(max_chars: usize, history: &[Turn], judged: &str) -> (Option<[String; 2]>, bool) {
        let tokenizer = ModelTokenizer::Characters { max_chars };
        let found = tokenizer.tokenize_context(history, (Role::User, judged), false).unwrap();
        let text = |tokens: Tokens| tokens.windows[0].iter().filter_map(|id| char::from_u32(*id)).collect();
        (found.read.map(|read| [read.whole, read.history].map(text)), found.cut)
    }

    #[test]
    fn a_turn_is_a_line_with_its_role() {
        let history = [turn(Role::System, "be nice"), turn(Role::Assistant, " hi\nuser: x\u{2028}y ")];
        let (read, cut) = characters(99, &history, "ok");
        let before = "system: be nice\nassistant: hi user: x y\n";
        assert_eq!((read, cut), (Some([format!("{before}user: ok\n"), before.to_owned()]), false));
        assert_eq!(characters(99, &[], "ok"), (None, false));
        assert_eq!(characters(99, &by_user(&["", " \n", "\u{200b}"]), "ok"), (None, false));
    }

    #[test]
    fn the_oldest_is_cut_and_the_judged_turn_comes_first() {
        let history = by_user(&["aaa", "bbb", "ccc"]);
        let read = |max_chars| {
            let (read, cut) = characters(max_chars, &history, "ok");
            (read.map(|[whole, _]| whole), cut)
        };
        let judged = "user: ok\n";
        let newest = "user: ccc\n";
        assert_eq!(read(39), (Some(format!("user: aaa\nuser: bbb\n{newest}{judged}")), false));
        assert_eq!(read(38), (Some(format!("ser: aaa\nuser: bbb\n{newest}{judged}")), true));
        assert_eq!(read(19), (Some(format!("{newest}{judged}")), true));
        assert_eq!(read(13), (Some(format!("ccc\n{judged}")), true));
        // Without room for a history only the judged turn is read.
        assert_eq!((read(9), read(3)), ((None, true), (None, true)));
    }

    #[test]
    fn ids_are_cut_like_characters() {
        // "user" and ":" are unknown and dropped in the second case.
        for (post, max_tokens, drop_ids, whole) in
            [(CLOSING, 8, vec![], vec![2, 5, 1, 0, 0, 5, 2, 3]), ("null", 5, vec![0], vec![2, 5, 1, 5, 2])]
        {
            let tokenizer = ModelTokenizer::Tokens(Box::new(tokenizer(post, max_tokens, drop_ids)));
            let read = |texts: &[&str]| {
                let history = by_user(texts);
                let found = tokenizer.tokenize_context(&history, (Role::User, "! b"), false).unwrap();
                (found.read.map(|read| read.whole.windows[0].to_vec()), found.cut)
            };
            assert_eq!(read(&["sep", "a b ! a"]), (Some(whole), true));
        }
    }

    /// The history of a turn is what the whole conversation was before.
    #[test]
    fn a_history_has_the_ids_of_the_earlier_conversation() {
        let tokenizer = ModelTokenizer::Tokens(Box::new(tokenizer(CLOSING, 60, vec![])));
        let read = |texts: &[&str]| {
            let (judged, history) = texts.split_last().unwrap();
            let found = tokenizer.tokenize_context(&by_user(history), (Role::User, judged), false).unwrap();
            found.read.unwrap()
        };
        let texts = ["sep", "b sep", "sep a", "b"];
        assert_eq!(read(&texts).history, read(&texts[..3]).whole);
        assert_eq!(read(&texts[..3]).history, read(&texts[..2]).whole);
    }

    #[test]
    fn the_tokenised_part_of_a_history_is_bounded() {
        let tokenizer = ModelTokenizer::Tokens(Box::new(tokenizer("null", 10, vec![0])));
        let ids = |history: &[Turn]| {
            let found = tokenizer.tokenize_context(history, (Role::User, "a"), false).unwrap();
            (found.read.map(|read| Arc::clone(&read.whole.windows[0])), found.cut)
        };
        // All lines are tokens that the graph does not get: only their bytes are a bound.
        let unknown = by_user(&["x"; 10_000]);
        assert_eq!(ids(&unknown), (None, true));
        // The known word is beyond it.
        let far = [by_user(&["sep"]), by_user(&["x"; 100])].concat();
        assert_eq!(ids(&far), (None, true));
        let near = [by_user(&["sep"]), by_user(&["x"; 3])].concat();
        assert!(ids(&near).0.is_some_and(|ids| ids.contains(&4)));
    }
}
