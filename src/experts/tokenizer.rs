//! Turns text into token ids, in bounded time.
//!
//! A text of more than `max_tokens` tokens is read in windows of that length, if the manifest allows more than one. Each
//! begins a quarter of a window before the end of the last one, so that a passage at a border is whole in one of them.
//!
//! A text longer than [`BYTES_PER_TOKEN`] bytes for each token that the windows hold is first cut there, at white space
//! if there is any in the second half. If that beginning gives fewer tokens than fit, four times as much is tokenised,
//! once. Therefore the ids of every text that has at most 64 bytes a token over its first windows are those of the whole
//! text, truncated; of other texts, only the part that was tokenised counts. A text of which something was left out is
//! marked as truncated.
//!
//! [`context`] tokenises the turns before the judged one.

pub(super) mod context;
mod vocabulary;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokenizers::{PostProcessor, Tokenizer};
use vocabulary::{empty_ids, ids_of, special_ids, unknown_id};

use super::error::Misfit;
use super::manifest::TokenizerSpec;

/// Bytes of text that are tokenised first for each token that fits. Ordinary text has three to six.
const BYTES_PER_TOKEN: usize = 16;
/// The factor by which more is tokenised if that gave too few tokens.
const SECOND_ATTEMPT_FACTOR: usize = 4;
/// Windows overlap by their length divided by this.
const OVERLAP_DIVISOR: usize = 4;
/// The remedy for a file that is no usable tokenizer.
const TOKENIZER_REMEDY: &str = "give a tokenizer.json of Hugging Face tokenizers 0.23";

/// A text's token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    /// The graph's input, by window; at least one.
    pub(super) windows: Vec<Arc<[u32]>>,
    /// The number of unknown tokens of each window, including dropped ones.
    pub(super) unknown: Vec<usize>,
    /// Part of the text was left out.
    pub(super) truncated: bool,
}

/// Makes the input of a model from text.
pub(super) enum ModelTokenizer {
    /// Token ids.
    Tokens(Box<WindowTokenizer>),
    /// The text's first characters, for graphs that tokenise them.
    Characters { max_chars: usize },
}

impl ModelTokenizer {
    /// Tokenises a text.
    ///
    /// # Errors
    /// Returns the tokenizer's error.
    pub(super) fn tokenize(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        match self {
            Self::Tokens(tokenizer) => tokenizer.tokenize(text),
            Self::Characters { max_chars } => Ok(characters(text, *max_chars)),
        }
    }

    /// Returns the windows that hold anything which the graph can read: a token of two letters or more. Vocabularies have
    /// single letters of scripts of which they have no words, so single letters and digits count only if they are at
    /// least as many as the unknown tokens, and signs only if no token is unknown. Characters are always readable.
    pub(super) fn readable_windows<'a>(&self, tokens: &'a Tokens) -> Vec<&'a Arc<[u32]>> {
        let windows = tokens.windows.iter().zip(&tokens.unknown);
        let is_readable = |(window, unknown): &(&Arc<[u32]>, &usize)| match self {
            Self::Tokens(tokenizer) => tokenizer.is_readable(window, **unknown),
            Self::Characters { .. } => true,
        };
        windows.filter(is_readable).map(|(window, _)| window).collect()
    }

    /// The token ids of a text, without special ones, however many there are.
    fn ids(&self, text: &str) -> Result<Vec<u32>, tokenizers::Error> {
        match self {
            Self::Tokens(tokenizer) => tokenizer.ids(text),
            Self::Characters { .. } => Ok(text.chars().map(without_nul).collect()),
        }
    }

    /// Splits token ids into windows. Ids that the windows do not hold are left out.
    fn split(&self, ids: Vec<u32>) -> Tokens {
        match self {
            Self::Tokens(tokenizer) => tokenizer.split(&ids),
            Self::Characters { max_chars } => {
                let truncated = ids.len() > *max_chars;
                let window = ids.into_iter().take(*max_chars).collect();
                Tokens { windows: vec![window], unknown: vec![0], truncated }
            }
        }
    }

    /// Returns `true` if the graph gets this id.
    fn keeps(&self, id: u32) -> bool {
        match self {
            Self::Tokens(tokenizer) => !tokenizer.drop_ids.contains(&id),
            Self::Characters { .. } => true,
        }
    }

    /// The number of a text's ids that the windows hold.
    fn capacity(&self) -> usize {
        match self {
            Self::Tokens(tokenizer) => tokenizer.capacity,
            Self::Characters { max_chars } => *max_chars,
        }
    }

    /// The bytes of text that are enough to fill the windows, unless the text is mostly white space.
    fn usual_bytes(&self) -> usize {
        match self {
            Self::Tokens(tokenizer) => tokenizer.first_bytes(),
            Self::Characters { max_chars } => char::MAX_LEN_UTF8 * max_chars,
        }
    }

    /// The number of tokens; a token that windows share counts in each. `None` for characters.
    pub(super) fn count(&self, tokens: &Tokens) -> Option<usize> {
        matches!(self, Self::Tokens(_)).then(|| tokens.windows.iter().map(|ids| ids.len()).sum())
    }

    /// The greatest token id that it can give; `None` for characters.
    pub(super) fn greatest_id(&self) -> Option<u32> {
        match self {
            Self::Tokens(tokenizer) => Some(tokenizer.greatest_id()),
            Self::Characters { .. } => None,
        }
    }
}

/// A character as a graph gets it. To the runtime a NUL ends a string, and one of them fails the whole batch.
fn without_nul(c: char) -> u32 {
    u32::from(if c == '\0' { ' ' } else { c })
}

/// The text's first characters, as one window.
fn characters(text: &str, max_chars: usize) -> Tokens {
    let mut rest = text.chars();
    let ids = rest.by_ref().take(max_chars).map(without_nul).collect();
    Tokens { windows: vec![ids], unknown: vec![0], truncated: !rest.as_str().trim().is_empty() }
}

/// Tokenises text into windows of token ids.
pub(super) struct WindowTokenizer {
    tokenizer: Tokenizer,
    max_tokens: usize,
    drop_ids: Vec<u32>,
    /// The greatest number of windows.
    max_windows: usize,
    /// The number of a text's tokens in a window, without special ones.
    window_length: usize,
    /// The number of tokens that a window shares with the next.
    overlap: usize,
    /// The number of a text's tokens in all windows.
    capacity: usize,
    /// Tokens without content: special ones, the unknown one, and those that are only white space.
    empty_ids: BTreeSet<u32>,
    /// Tokens without a letter or digit.
    sign_ids: BTreeSet<u32>,
    /// Tokens of two letters or more.
    word_ids: BTreeSet<u32>,
    /// The token for text that the vocabulary lacks.
    unknown_id: Option<u32>,
    /// The special tokens before and after those of a text.
    special: (Vec<u32>, Vec<u32>),
}

impl WindowTokenizer {
    /// Makes a tokenizer from the bytes of a tokenizer.json.
    ///
    /// # Errors
    /// Returns a `Misfit` if the file is invalid or disagrees with the manifest.
    pub(super) fn new(bytes: &[u8], spec: &TokenizerSpec) -> Result<Self, Misfit> {
        let mut tokenizer = Tokenizer::from_bytes(bytes)
            .map_err(|error| Misfit::new("tokenizer.file", error.to_string(), TOKENIZER_REMEDY))?;
        let special = tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(false));
        if special >= spec.max_tokens {
            let problem = format!("leaves no room beside {special} special tokens");
            return Err(Misfit::new("tokenizer.max_tokens", problem, "raise it"));
        }
        if special > 0 && !spec.drop_ids.is_empty() {
            let problem = format!("is for tokenizers without special tokens; this one adds {special}");
            let remedy = "remove drop_ids or the tokenizer's post_processor";
            return Err(Misfit::new("tokenizer.drop_ids", problem, remedy));
        }
        // The manifest has precedence over the file's own length and padding.
        tokenizer.with_padding(None);
        let (max_windows, window_length) = (spec.windows.max(1), spec.max_tokens - special);
        let overlap = if max_windows > 1 { window_length / OVERLAP_DIVISOR } else { 0 };
        let capacity = window_length + (max_windows - 1) * (window_length - overlap);
        tokenizer
            .with_truncation(None)
            .map_err(|error| Misfit::new("tokenizer.file", error.to_string(), TOKENIZER_REMEDY))?;
        // Control tokens in a user's text are ordinary text.
        tokenizer.set_encode_special_tokens(true);
        let unknown_id = unknown_id(&tokenizer, bytes);
        let has_two_letters = |token: &str| token.chars().filter(|c| c.is_alphabetic()).nth(1).is_some();
        Ok(Self {
            max_tokens: spec.max_tokens,
            drop_ids: spec.drop_ids.clone(),
            max_windows,
            window_length,
            overlap,
            capacity,
            empty_ids: empty_ids(&tokenizer, unknown_id),
            sign_ids: ids_of(&tokenizer, |token| !token.contains(char::is_alphanumeric)),
            word_ids: ids_of(&tokenizer, has_two_letters),
            unknown_id,
            special: special_ids(&tokenizer)?,
            tokenizer,
        })
    }

    /// The greatest id that the tokenizer can give.
    fn greatest_id(&self) -> u32 {
        let given = |id: &u32| !self.drop_ids.contains(id);
        self.tokenizer.get_vocab(true).into_values().filter(given).max().unwrap_or(0)
    }

    fn is_readable(&self, window: &[u32], unknown: usize) -> bool {
        let with_content = || window.iter().filter(|id| !self.empty_ids.contains(id));
        let without_signs = || with_content().filter(|id| !self.sign_ids.contains(id)).count();
        with_content().next().is_some()
            && (unknown == 0
                || with_content().any(|id| self.word_ids.contains(id))
                || without_signs() >= unknown)
    }

    fn is_unknown(&self, id: u32) -> bool {
        Some(id) == self.unknown_id
    }

    /// The bytes of a text that are tokenised first.
    fn first_bytes(&self) -> usize {
        BYTES_PER_TOKEN * self.max_tokens * self.max_windows
    }

    /// The text's first tokens, up to the capacity of the windows.
    fn tokenize(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let beginning = cut(text, self.first_bytes());
        let tokens = self.split(&self.ids(beginning)?);
        if tokens.truncated || beginning.len() == text.len() {
            return Ok(tokens);
        }
        let beginning = cut(text, SECOND_ATTEMPT_FACTOR * self.first_bytes());
        let mut tokens = self.split(&self.ids(beginning)?);
        tokens.truncated |= !text[beginning.len()..].trim().is_empty();
        Ok(tokens)
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, tokenizers::Error> {
        Ok(self.tokenizer.encode_fast(text, false)?.get_ids().to_vec())
    }

    /// Splits the ids that are not dropped into windows, and adds the special ones to each.
    fn split(&self, all: &[u32]) -> Tokens {
        // For each id that stays, the number of unknown tokens before it.
        let (mut ids, mut unknown_before, mut unknown) = (Vec::new(), Vec::new(), 0);
        for &id in all {
            if !self.drop_ids.contains(&id) {
                ids.push(id);
                unknown_before.push(unknown);
            }
            unknown += usize::from(self.is_unknown(id));
        }
        let truncated = ids.len() > self.capacity;
        ids.truncate(self.capacity);
        let step = self.window_length - self.overlap;
        let count = ids.len().saturating_sub(self.overlap).div_ceil(step).max(1);
        let starts = (0..).step_by(step).take(count);
        let (before, after) = &self.special;
        let window = |start: usize| {
            let own = ids.iter().skip(start).take(self.window_length);
            before.iter().chain(own).chain(after).copied().collect()
        };
        let before = |index: usize| unknown_before.get(index).copied().unwrap_or(unknown);
        // Unknown tokens before the first id belong to the first window.
        let within =
            |start: usize| before(start + self.window_length) - if start == 0 { 0 } else { before(start) };
        Tokens {
            windows: starts.clone().map(window).collect(),
            unknown: starts.map(within).collect(),
            truncated,
        }
    }
}

/// The beginning of a text, at most `bytes` long. It ends before white space if there is any in its second half.
fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let beginning = &text[..text.floor_char_boundary(bytes)];
    match beginning.rfind(char::is_whitespace) {
        Some(at) if at >= bytes / 2 => &beginning[..at],
        _ => beginning,
    }
}

/// The end of a text, at most `bytes` long. It begins after white space if there is any in its first half.
fn tail(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = &text[text.ceil_char_boundary(text.len() - bytes)..];
    match end.find(char::is_whitespace) {
        Some(at) if at <= bytes / 2 => &end[at..],
        _ => end,
    }
}

#[cfg(test)]
mod tests;
