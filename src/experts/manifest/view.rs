//! The part of a conversation that an expert reads.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::core::event::{Conversation, Turn};

/// The part of a conversation that an expert reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// The judged turn.
    Turn,
    /// This number of turns: the judged one and those right before it.
    Last(NonZeroUsize),
    /// All turns up to the judged one.
    Conversation,
}

impl View {
    /// The greatest number of turns before the judged one that are read.
    #[must_use]
    pub fn history_turns(self) -> usize {
        match self {
            Self::Turn => 0,
            Self::Last(turns) => turns.get() - 1,
            Self::Conversation => usize::MAX,
        }
    }

    /// The turns before the judged one that are read, the oldest first.
    #[must_use]
    pub fn history(self, conversation: &Conversation) -> &[Turn] {
        let history = conversation.history();
        &history[history.len().saturating_sub(self.history_turns())..]
    }
}

impl FromStr for View {
    type Err = &'static str;

    /// Parses a manifest's `view`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "turn" => Ok(Self::Turn),
            "conversation" => Ok(Self::Conversation),
            _ => {
                let turns = text.strip_prefix("last:").and_then(|turns| turns.parse().ok());
                turns.map(Self::Last).ok_or("is no view")
            }
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => f.write_str("turn"),
            Self::Last(turns) => write!(f, "last:{turns}"),
            Self::Conversation => f.write_str("conversation"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Role;

    #[test]
    fn a_view_is_parsed_and_shown() {
        for text in ["turn", "conversation", "last:1", "last:12"] {
            assert_eq!(text.parse::<View>().unwrap().to_string(), text);
        }
        for text in ["", "Turn", "last", "last:", "last:0", "last:-1", "last:x", "last:99999999999999999999"]
        {
            assert!(text.parse::<View>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_view_ends_with_the_turn_before_the_judged_one() {
        let turn = |text: &str| Turn { role: Role::User, text: text.to_owned() };
        let conversation = Conversation { turns: ["a", "b", "c", "d"].map(turn).to_vec(), judged: 2 };
        let read = |view: &str| {
            let history = view.parse::<View>().unwrap().history(&conversation);
            history.iter().map(|turn| turn.text.as_str()).collect::<String>()
        };
        assert_eq!(
            ["turn", "last:1", "last:2", "last:9", "conversation"].map(read),
            ["", "", "b", "ab", "ab"]
        );
    }
}
