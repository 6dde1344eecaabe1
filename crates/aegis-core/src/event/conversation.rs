//! A conversation, and a borrowed one.

use super::{Event, Role, Turn};

/// A conversation, as experts are asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The turns, at least the judged one.
    pub turns: Vec<Turn>,
    /// The index of the judged turn in `turns`. Experts read no later turn.
    pub judged: usize,
}

impl Conversation {
    /// A conversation of one turn by the user.
    #[must_use]
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { turns: vec![Turn { role: Role::User, text: text.into() }], judged: 0 }
    }

    /// The judged turn.
    ///
    /// # Panics
    /// Panics if it does not exist.
    #[must_use]
    pub fn judged_turn(&self) -> &Turn {
        &self.turns[self.judged]
    }

    /// The text of the judged turn.
    ///
    /// # Panics
    /// Panics if the turn does not exist.
    #[must_use]
    pub fn judged_text(&self) -> &str {
        &self.judged_turn().text
    }

    /// The turns before the judged one, the oldest first.
    ///
    /// # Panics
    /// Panics if the judged turn does not exist.
    #[must_use]
    pub fn history(&self) -> &[Turn] {
        &self.turns[..self.judged]
    }
}

/// A borrowed [`Conversation`], or a text that stands for a conversation of one turn by the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationRef<'a> {
    /// The turns before the judged one, the oldest first.
    pub history: &'a [Turn],
    /// The speaker of the judged turn.
    pub role: Role,
    /// The text of the judged turn.
    pub text: &'a str,
}

impl ConversationRef<'_> {
    /// Copies the judged turn and up to `turns` turns before it.
    #[must_use]
    pub fn to_conversation(self, turns: usize) -> Conversation {
        let skipped = self.history.len().saturating_sub(turns);
        let mut turns = self.history[skipped..].to_vec();
        let judged = turns.len();
        turns.push(Turn { role: self.role, text: self.text.to_owned() });
        Conversation { turns, judged }
    }
}

impl<'a> From<&'a str> for ConversationRef<'a> {
    fn from(text: &'a str) -> Self {
        Self { history: &[], role: Role::User, text }
    }
}

impl<'a> From<&&'a str> for ConversationRef<'a> {
    fn from(text: &&'a str) -> Self {
        Self::from(*text)
    }
}

impl<'a> From<&'a String> for ConversationRef<'a> {
    fn from(text: &'a String) -> Self {
        Self::from(text.as_str())
    }
}

impl<'a> From<&&'a String> for ConversationRef<'a> {
    fn from(text: &&'a String) -> Self {
        Self::from(text.as_str())
    }
}

impl<'a> From<&'a Conversation> for ConversationRef<'a> {
    /// # Panics
    /// Panics if the judged turn does not exist.
    fn from(conversation: &'a Conversation) -> Self {
        let Turn { role, text } = conversation.judged_turn();
        Self { history: conversation.history(), role: *role, text }
    }
}

impl<'a> From<&'a Event> for ConversationRef<'a> {
    /// # Panics
    /// Panics if the judged turn does not exist, which [`Event::check`] excludes.
    fn from(event: &'a Event) -> Self {
        let Turn { role, text } = &event.turns[event.judged];
        Self { history: &event.turns[..event.judged], role: *role, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_turns_that_are_read_are_copied() {
        let turn = |text: &str| Turn { role: Role::Assistant, text: text.to_owned() };
        let whole = Conversation { turns: ["a", "b", "c", "d"].map(turn).to_vec(), judged: 2 };
        let copied = |turns: usize| {
            let copy = ConversationRef::from(&whole).to_conversation(turns);
            assert_eq!(copy.judged_turn(), whole.judged_turn());
            copy.history().iter().map(|turn| turn.text.as_str()).collect::<String>()
        };
        assert_eq!([0, 1, 2, usize::MAX].map(copied), ["", "b", "ab", "ab"]);
    }

    #[test]
    fn a_text_is_a_conversation_of_one_turn() {
        let (text, expected) = ("hello".to_owned(), Conversation::of_text("hello"));
        assert_eq!((expected.judged_text(), expected.history()), ("hello", [].as_slice()));
        for borrowed in [ConversationRef::from("hello"), (&text).into(), (&"hello").into(), (&&text).into()] {
            assert_eq!(borrowed.to_conversation(9), expected);
        }
    }
}
