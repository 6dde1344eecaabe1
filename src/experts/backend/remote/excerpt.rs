//! The part of a conversation that is sent: the judged turn, and as many of the newest turns before it as fit.

use crate::core::event::{Conversation, Turn};

/// The part of a conversation that is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// The judged turn is the last.
    pub(super) conversation: Conversation,
    /// A part was left out.
    pub(super) truncated: bool,
}

/// The beginning of a text, of at most `chars` characters.
fn beginning(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

impl Excerpt {
    /// Takes at most `max_chars` characters. A turn before the judged one is sent whole or not at all.
    pub(super) fn of(history: &[Turn], judged: Turn, max_chars: usize) -> Self {
        let text = beginning(&judged.text, max_chars).to_owned();
        let mut truncated = text.len() < judged.text.len();
        let mut left = max_chars - text.chars().count();
        let mut turns = vec![Turn { text, ..judged }];
        for turn in history.iter().rev() {
            // A text with more characters than are left cannot have fewer bytes.
            let chars = if turn.text.len() / 4 > left { usize::MAX } else { turn.text.chars().count() };
            if chars > left {
                truncated = true;
                break;
            }
            left -= chars;
            turns.push(turn.clone());
        }
        turns.reverse();
        Self { conversation: Conversation { judged: turns.len() - 1, turns }, truncated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Role;

    fn turn(role: Role, text: &str) -> Turn {
        Turn { role, text: text.to_owned() }
    }

    #[test]
    fn the_newest_turns_are_kept() {
        let history = [turn(Role::User, "äöü"), turn(Role::Assistant, "12"), turn(Role::User, "")];
        let judged = turn(Role::Assistant, "xyz");
        let texts = |max_chars| {
            let Excerpt { conversation, truncated } = Excerpt::of(&history, judged.clone(), max_chars);
            assert_eq!(conversation.judged, conversation.turns.len() - 1);
            let texts: Vec<_> = conversation.turns.into_iter().map(|turn| turn.text).collect();
            (texts.join("|"), truncated)
        };
        assert_eq!(texts(8), ("äöü|12||xyz".to_owned(), false));
        assert_eq!(texts(7), ("12||xyz".to_owned(), true));
        assert_eq!(texts(4), ("|xyz".to_owned(), true));
        assert_eq!(texts(2), ("|xy".to_owned(), true));
    }
}
