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

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use tokenizers::models::ModelWrapper;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection, TruncationParams};

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

/// The text's first characters, as one window.
fn characters(text: &str, max_chars: usize) -> Tokens {
    let mut rest = text.chars();
    // To the runtime a NUL ends a string, and one of them fails the whole batch.
    let without_nul = |c: char| u32::from(if c == '\0' { ' ' } else { c });
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
        // One token more than fits shows that the text is longer.
        let truncation =
            TruncationParams { max_length: capacity + special + 1, ..TruncationParams::default() };
        tokenizer
            .with_truncation(spec.drop_ids.is_empty().then_some(truncation))
            .map_err(|error| Misfit::new("tokenizer.max_tokens", error.to_string(), "correct it"))?;
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

    /// The text's first tokens, up to the capacity of the windows.
    fn tokenize(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let first_bytes = BYTES_PER_TOKEN * self.max_tokens * self.max_windows;
        let beginning = cut(text, first_bytes);
        let tokens = self.encode(beginning)?;
        if tokens.truncated || beginning.len() == text.len() {
            return Ok(tokens);
        }
        let beginning = cut(text, SECOND_ATTEMPT_FACTOR * first_bytes);
        let mut tokens = self.encode(beginning)?;
        tokens.truncated |= !text[beginning.len()..].trim().is_empty();
        Ok(tokens)
    }

    fn encode(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let mut encoding = self.tokenizer.encode_fast(text, false)?;
        if !self.drop_ids.is_empty() {
            return Ok(self.drop_and_split(encoding.get_ids()));
        }
        let truncated = encoding.len() > self.capacity;
        encoding.truncate(self.window_length, self.overlap, TruncationDirection::Right);
        let encoding = self.tokenizer.post_process(encoding, None, true)?;
        let all = std::iter::once(&encoding).chain(encoding.get_overflowing()).take(self.max_windows);
        let windows: Vec<Arc<[u32]>> = all.map(|window| window.get_ids().into()).collect();
        let count_unknown = |ids: &Arc<[u32]>| ids.iter().filter(|id| self.is_unknown(**id)).count();
        Ok(Tokens { unknown: windows.iter().map(count_unknown).collect(), windows, truncated })
    }

    /// Splits the ids that are not dropped into windows.
    fn drop_and_split(&self, all: &[u32]) -> Tokens {
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
        let window = |start: usize| ids.iter().skip(start).take(self.window_length).copied().collect();
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

/// The token that a tokenizer's model gives for text that its vocabulary lacks.
fn unknown_id(tokenizer: &Tokenizer, file: &[u8]) -> Option<u32> {
    let token = match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model.unk_token.as_ref()?,
        ModelWrapper::WordPiece(model) => &model.unk_token,
        ModelWrapper::WordLevel(model) => &model.unk_token,
        // The library has no accessor for the model's unknown id, so it is read from the file.
        ModelWrapper::Unigram(_) => return serde_json::from_slice::<UnigramFile>(file).ok()?.model.unk_id,
    };
    tokenizer.token_to_id(token)
}

/// The part of a tokenizer.json that has the id of the unknown token.
#[derive(Deserialize)]
struct UnigramFile {
    model: UnigramModel,
}

#[derive(Deserialize)]
struct UnigramModel {
    unk_id: Option<u32>,
}

/// The ids of the tokens that `matches` accepts.
fn ids_of(tokenizer: &Tokenizer, matches: impl Fn(&str) -> bool) -> BTreeSet<u32> {
    let vocabulary = tokenizer.get_vocab(true).into_iter();
    vocabulary.filter(|(token, _)| matches(token)).map(|(_, id)| id).collect()
}

/// The ids of tokens without content. A control token in a text is ordinary text, so special tokens come only from the
/// post-processor.
fn empty_ids(tokenizer: &Tokenizer, unknown: Option<u32>) -> BTreeSet<u32> {
    let is_blank = |token: &str| token.chars().all(|c| matches!(c, '▁' | 'Ġ' | 'Ċ') || c.is_whitespace());
    // A tokenizer that cannot encode an empty text can still encode others. Its special tokens are not known then.
    let special = tokenizer.encode_fast("", true).map(|encoding| encoding.get_ids().to_vec());
    ids_of(tokenizer, is_blank).into_iter().chain(special.unwrap_or_default()).chain(unknown).collect()
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::manifest::{HashedFile, Padding};
    use super::*;

    const WORDS: &str = r#"{"version":"1.0","added_tokens":[
        {"id":3,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"Whitespace"},
        "post_processor":POST,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"[UNK]":0,"a":1,"b":2,"[SEP]":3,"sep":4,"!":5},"unk_token":"[UNK]"}}"#;
    const CLOSING: &str = r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},
        {"SpecialToken":{"id":"[SEP]","type_id":0}}],"pair":[],"special_tokens":{"[SEP]":{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}}"#;

    fn spec(max_tokens: usize, drop_ids: Vec<u32>) -> TokenizerSpec {
        TokenizerSpec {
            file: HashedFile { path: PathBuf::new(), sha256: [0; 32], table: "tokenizer" },
            max_tokens,
            drop_ids,
            windows: 1,
            padding: Padding::default(),
            ids: "ids".to_owned(),
            mask: None,
            types: None,
        }
    }

    fn tokenizer(post: &str, max_tokens: usize, drop_ids: Vec<u32>) -> WindowTokenizer {
        WindowTokenizer::new(WORDS.replace("POST", post).as_bytes(), &spec(max_tokens, drop_ids))
            .map_err(|misfit| misfit.problem)
            .unwrap()
    }

    fn tokens(ids: &[u32], truncated: bool) -> (Vec<Arc<[u32]>>, bool) {
        (vec![ids.into()], truncated)
    }

    impl WindowTokenizer {
        fn windows_of(&self, text: &str) -> (Vec<Arc<[u32]>>, bool) {
            let Tokens { windows, truncated, .. } = self.tokenize(text).unwrap();
            (windows, truncated)
        }
    }

    fn windows(
        post: &str,
        max_tokens: usize,
        drop_ids: Vec<u32>,
        windows: usize,
        text: &str,
    ) -> (Vec<Vec<u32>>, bool) {
        let spec = TokenizerSpec { windows, ..spec(max_tokens, drop_ids) };
        let tokenizer = WindowTokenizer::new(WORDS.replace("POST", post).as_bytes(), &spec)
            .map_err(|misfit| misfit.problem)
            .unwrap();
        let (windows, truncated) = tokenizer.windows_of(text);
        (windows.iter().map(|ids| ids.to_vec()).collect(), truncated)
    }

    #[test]
    fn windows_overlap_and_end_with_the_text() {
        let all = vec![vec![1, 2, 1, 2], vec![2, 1, 1, 1], vec![1, 2]];
        assert_eq!(windows("null", 4, vec![0], 9, "a x b a b a a a b"), (all.clone(), false));
        assert_eq!(windows("null", 4, vec![], 9, "a b a b a a a b"), (all.clone(), false));
        assert_eq!(windows("null", 4, vec![0], 2, "a b a b a a a b"), (all[..2].to_vec(), true));
        assert_eq!(windows("null", 4, vec![], 2, "a b a b a a a b"), (all[..2].to_vec(), true));
        // Each has its special tokens.
        let closed = vec![vec![1, 2, 1, 2, 3], vec![2, 1, 1, 1, 3]];
        assert_eq!(windows(CLOSING, 5, vec![], 9, "a b a b a a a"), (closed, false));
        assert_eq!(windows(CLOSING, 5, vec![], 9, "a b"), (vec![vec![1, 2, 3]], false));
    }

    #[test]
    fn special_tokens_count_and_stay_at_the_end() {
        let tokenizer = tokenizer(CLOSING, 4, vec![]);
        assert_eq!(tokenizer.windows_of("a b"), tokens(&[1, 2, 3], false));
        assert_eq!(tokenizer.windows_of("a b a"), tokens(&[1, 2, 1, 3], false));
        assert_eq!(tokenizer.windows_of("a b a b"), tokens(&[1, 2, 1, 3], true));
        // One token too many is seen where there are no special ones, too.
        let plain = super::tests::tokenizer("null", 4, vec![]);
        assert_eq!(plain.windows_of("a b a b"), tokens(&[1, 2, 1, 2], false));
        assert_eq!(plain.windows_of("a b a b a"), tokens(&[1, 2, 1, 2], true));
    }

    #[test]
    fn dropped_ids_do_not_count() {
        let tokenizer = tokenizer("null", 3, vec![0]);
        assert_eq!(tokenizer.windows_of("x a x b x x a x"), tokens(&[1, 2, 1], false));
        assert_eq!(tokenizer.windows_of("x a x b x x a x b"), tokens(&[1, 2, 1], true));
        assert_eq!(tokenizer.greatest_id(), 5);
    }

    #[test]
    fn unknown_and_special_tokens_do_not_count() {
        for (post, drop_ids) in [("null", vec![]), ("null", vec![0]), (CLOSING, vec![])] {
            let tokenizer = ModelTokenizer::Tokens(Box::new(tokenizer(post, 9, drop_ids)));
            let reads =
                |text: &str| !tokenizer.readable_windows(&tokenizer.tokenize(text).unwrap()).is_empty();
            assert!(reads("a") && reads("x b") && reads("sep"), "{post}");
            assert!(reads("!") && reads("a !"), "{post}");
            assert!(!reads("x !") && !reads("! x"), "{post}");
            assert!(!reads("x") && !reads("x \u{1f600} y") && !reads("") && !reads(" "), "{post}");
            // Single letters beside more unknown tokens do not count. A word always counts.
            assert!(!reads("x b x") && !reads("x x b") && reads("a x b x"), "{post}");
            assert!(reads("\u{1f600} \u{1f600} sep \u{1f600} \u{1f600}"), "{post}");
        }
        let text = ModelTokenizer::Characters { max_chars: 9 };
        assert_eq!(text.readable_windows(&text.tokenize("x").unwrap()).len(), 1);
    }

    #[test]
    fn unknown_tokens_are_those_of_their_window() {
        let text = "x a b x a b x x x ! b x";
        let windows = |drop_ids| {
            let tokens = tokenizer("null", 3, drop_ids);
            let tokens = WindowTokenizer { max_windows: 9, capacity: 27, ..tokens }.tokenize(text).unwrap();
            (tokens.windows.iter().map(|ids| ids.to_vec()).collect::<Vec<_>>(), tokens.unknown)
        };
        assert_eq!(windows(vec![0]), (vec![vec![1, 2, 1], vec![2, 5, 2]], vec![2, 4]));
    }

    #[test]
    fn white_space_pieces_do_not_count() {
        let pieces = r#"{"version":"1.0","added_tokens":[],"normalizer":null,"post_processor":null,"decoder":null,
            "pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},
            "model":{"type":"Unigram","unk_id":1,"vocab":[["a",-3.0],["what",0.0],["▁",-2.0],["▁b",-1.0]],"byte_fallback":false}}"#;
        let made = WindowTokenizer::new(pieces.as_bytes(), &spec(9, vec![]))
            .map_err(|misfit| misfit.problem)
            .unwrap();
        let tokenizer = ModelTokenizer::Tokens(Box::new(made));
        let read = |text: &str| {
            let tokens = tokenizer.tokenize(text).unwrap();
            (tokens.windows[0].to_vec(), !tokenizer.readable_windows(&tokens).is_empty())
        };
        assert_eq!(read("x"), (vec![2, 1], false));
        assert_eq!(read("a"), (vec![2, 0], true));
        assert_eq!(read("b"), (vec![3], true));
    }

    #[test]
    fn control_tokens_in_a_text_are_ordinary_text() {
        assert_eq!(tokenizer("null", 9, vec![]).windows_of("a [SEP] b"), tokens(&[1, 0, 4, 0, 2], false));
    }

    #[test]
    fn a_misfit_is_refused() {
        let json = WORDS.replace("POST", CLOSING);
        let field = |max, drop| {
            WindowTokenizer::new(json.as_bytes(), &spec(max, drop)).err().map(|misfit| misfit.field)
        };
        assert_eq!(field(1, vec![]), Some("tokenizer.max_tokens"));
        assert_eq!(field(4, vec![0]), Some("tokenizer.drop_ids"));
        assert_eq!(
            WindowTokenizer::new(b"{}", &spec(4, vec![])).err().map(|misfit| misfit.field),
            Some("tokenizer.file")
        );
    }

    #[test]
    fn a_long_text_is_cut_without_changing_its_tokens() {
        let tokenizer = tokenizer("null", 10, vec![]);
        // Fifty bytes a token reach past the first cut, and not past the second.
        let sparse = format!("a{0}b{0}", " ".repeat(49)).repeat(2_000);
        assert_eq!(tokenizer.windows_of(&sparse), tokens(&[1, 2, 1, 2, 1, 2, 1, 2, 1, 2], true));
        // Past the second cut, only the tokenised part counts, and the text is truncated.
        let desert = format!("a{}b", " ".repeat(100_000));
        assert_eq!(tokenizer.windows_of(&desert), tokens(&[1], true));
        assert_eq!(tokenizer.windows_of(&format!("a{}", " ".repeat(100_000))), tokens(&[1], false));
        assert_eq!(tokenizer.windows_of(&"ä".repeat(1_000_000)), tokens(&[0], true));
    }

    #[test]
    fn cuts_fall_before_white_space_or_between_characters() {
        assert_eq!(cut("abc def ghi", 9), "abc def");
        assert_eq!(cut("ab cdefghijkl", 9), "ab cdefgh");
        assert_eq!(cut("ääääää", 5), "ää");
        assert_eq!(cut("abc", 9), "abc");
    }

    fn read_characters(text: &str, max_chars: usize) -> (String, bool) {
        let Tokens { windows, truncated, .. } = characters(text, max_chars);
        (windows[0].iter().filter_map(|&id| char::from_u32(id)).collect(), truncated)
    }

    #[test]
    fn characters_are_those_of_the_text() {
        assert_eq!(read_characters("häß 💥", 9), ("häß 💥".to_owned(), false));
        assert_eq!(read_characters("häß 💥", 5), ("häß 💥".to_owned(), false));
        assert_eq!(read_characters("häß 💥", 4), ("häß ".to_owned(), true));
        assert_eq!(read_characters("a\0b", 9), ("a b".to_owned(), false));
    }

    #[test]
    fn omitted_white_space_does_not_truncate() {
        assert_eq!(read_characters("ab   ", 2), ("ab".to_owned(), false));
        assert_eq!(read_characters("ab  c", 2), ("ab".to_owned(), true));
    }
}
