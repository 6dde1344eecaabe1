//! Turns text into token ids, in bounded time.
//!
//! A text of more than `max_tokens` tokens is read in windows of as many, where the manifest allows more
//! than one; each begins a quarter of a window before the last one's end, so that what stands at a border
//! is read whole once.
//!
//! A text longer than [`BYTES_A_TOKEN`] bytes for each token that the windows can hold is first cut there,
//! at white space where there is any in the second half. If the beginning gives fewer tokens than fit, four
//! times as much is read, once. So for every text that has at most 64 bytes a token over its first windows
//! the ids are those of the whole text, truncated; past that only what was read counts. Either way a text
//! of which something was left out is marked as truncated.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use tokenizers::models::ModelWrapper;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection, TruncationParams};

use super::manifest::Reading;

/// Bytes read for each token wanted, at first. Ordinary text has three to six.
const BYTES_A_TOKEN: usize = 16;
/// How much more is read where that gave too few tokens.
const SECOND_READING: usize = 4;
/// What windows overlap by, of their length.
const OVERLAP: usize = 4;

/// A text's token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    /// What the graph is given, window by window: one at least.
    pub(super) windows: Vec<Arc<[u32]>>,
    /// Unknown tokens of each window, those that were dropped from it among them.
    pub(super) unknown: Vec<usize>,
    /// The text went on.
    pub(super) truncated: bool,
}

/// Reads text for a graph.
pub(super) enum Reader {
    /// Makes token ids of it.
    Tokens(Box<Tokenizing>),
    /// Leaves it as it is, up to so many characters.
    Text {
        /// The most that a graph is given.
        max_chars: usize,
    },
}

impl Reader {
    /// What a graph is given of the text.
    pub(super) fn read(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        match self {
            Self::Tokens(tokenizing) => tokenizing.read(text),
            Self::Text { max_chars } => Ok(characters(text, *max_chars)),
        }
    }

    /// Returns the windows of which a graph reads anything: a token of two letters or more. Vocabularies have single
    /// letters of scripts that they do not have words of, so single letters and digits count only if they are as many
    /// as the unknown tokens, and signs only where nothing is unknown. A graph that is given text reads it itself.
    pub(super) fn read_windows<'a>(&self, tokens: &'a Tokens) -> Vec<&'a Arc<[u32]>> {
        let windows = tokens.windows.iter().zip(&tokens.unknown);
        let reads = |(window, unknown): &(&Arc<[u32]>, &usize)| match self {
            Self::Tokens(tokenizing) => tokenizing.reads(window, **unknown),
            Self::Text { .. } => true,
        };
        windows.filter(reads).map(|(window, _)| window).collect()
    }

    /// How many tokens these are, those that windows share counted in each; none where they are characters.
    pub(super) fn count(&self, tokens: &Tokens) -> Option<usize> {
        matches!(self, Self::Tokens(_)).then(|| tokens.windows.iter().map(|ids| ids.len()).sum())
    }
}

/// The text's first characters, and whether more follow.
fn characters(text: &str, max_chars: usize) -> Tokens {
    let mut rest = text.chars();
    // The runtime takes strings that end at their first NUL, and refuses a whole batch because of one.
    let plain = |c: char| u32::from(if c == '\0' { ' ' } else { c });
    let ids = rest.by_ref().take(max_chars).map(plain).collect();
    Tokens { windows: vec![ids], unknown: vec![0], truncated: !rest.as_str().trim().is_empty() }
}

/// Reads text with a tokenizer.
pub(super) struct Tokenizing {
    tokenizer: Tokenizer,
    max_tokens: usize,
    drop_ids: Vec<u32>,
    /// The most windows.
    windows: usize,
    /// Tokens of the text in a window, beside special ones.
    room: usize,
    /// Tokens that a window shares with the next.
    overlap: usize,
    /// Tokens of the text in all windows.
    holds: usize,
    /// Tokens that say nothing of a text: special ones, the unknown one, and those that are only white space.
    silent: BTreeSet<u32>,
    /// Tokens without a letter or digit.
    signs: BTreeSet<u32>,
    /// Tokens of two letters or more.
    words: BTreeSet<u32>,
    /// The token for what is not known.
    unknown: Option<u32>,
}

/// A field of the manifest that does not fit, with the problem and the mend.
pub(super) type Misfit = (&'static str, String, &'static str);

impl Tokenizing {
    /// Reads the tokenizer's file.
    pub(super) fn new(bytes: &[u8], reading: &Reading) -> Result<Self, Misfit> {
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| {
            ("tokenizer.file", error.to_string(), "give a tokenizer.json of Hugging Face tokenizers 0.23")
        })?;
        let special = tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(false));
        if special >= reading.max_tokens {
            let problem = format!("leaves no room beside {special} special tokens");
            return Err(("tokenizer.max_tokens", problem, "raise it"));
        }
        if special > 0 && !reading.drop_ids.is_empty() {
            let problem = format!("is for tokenizers without special tokens; this one adds {special}");
            return Err(("tokenizer.drop_ids", problem, "remove drop_ids or the tokenizer's post_processor"));
        }
        // What a tokenizer.json says about length and padding is for other programs: the manifest rules.
        tokenizer.with_padding(None);
        let (windows, room) = (reading.windows.max(1), reading.max_tokens - special);
        let overlap = if windows > 1 { room / OVERLAP } else { 0 };
        let holds = room + (windows - 1) * (room - overlap);
        // The library stops where it has enough, which is one more than fits: whether the text went on must be seen.
        let enough = TruncationParams { max_length: holds + special + 1, ..TruncationParams::default() };
        tokenizer
            .with_truncation(reading.drop_ids.is_empty().then_some(enough))
            .map_err(|error| ("tokenizer.max_tokens", error.to_string(), "correct it"))?;
        // Control tokens in a user's text are text.
        tokenizer.set_encode_special_tokens(true);
        let (max_tokens, drop_ids) = (reading.max_tokens, reading.drop_ids.clone());
        let unknown = unknown(&tokenizer, bytes);
        let silent = silent(&tokenizer, unknown);
        let signs = chosen(&tokenizer, |token| !token.contains(char::is_alphanumeric));
        let words = chosen(&tokenizer, |token| token.chars().filter(|c| c.is_alphabetic()).nth(1).is_some());
        Ok(Self {
            tokenizer,
            max_tokens,
            drop_ids,
            windows,
            room,
            overlap,
            holds,
            silent,
            signs,
            words,
            unknown,
        })
    }

    /// The greatest id that the tokenizer can give.
    pub(super) fn greatest_id(&self) -> u32 {
        let given = |id: &u32| !self.drop_ids.contains(id);
        self.tokenizer.get_vocab(true).into_values().filter(given).max().unwrap_or(0)
    }

    fn reads(&self, window: &[u32], unknown: usize) -> bool {
        let told = || window.iter().filter(|id| !self.silent.contains(id));
        let characters = || told().filter(|id| !self.signs.contains(id)).count();
        match told().next() {
            None => false,
            Some(_) => unknown == 0 || told().any(|id| self.words.contains(id)) || characters() >= unknown,
        }
    }

    fn is_unknown(&self, id: u32) -> bool {
        Some(id) == self.unknown
    }

    /// The text's first tokens, as many as the windows hold.
    pub(super) fn read(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let first = BYTES_A_TOKEN * self.max_tokens * self.windows;
        let beginning = cut(text, first);
        let tokens = self.encode(beginning)?;
        if tokens.truncated || beginning.len() == text.len() {
            return Ok(tokens);
        }
        let beginning = cut(text, SECOND_READING * first);
        let mut tokens = self.encode(beginning)?;
        tokens.truncated |= !text.get(beginning.len()..).unwrap_or("").trim().is_empty();
        Ok(tokens)
    }

    fn encode(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let mut encoding = self.tokenizer.encode_fast(text, false)?;
        if self.drop_ids.is_empty() {
            let truncated = encoding.len() > self.holds;
            encoding.truncate(self.room, self.overlap, TruncationDirection::Right);
            let encoding = self.tokenizer.post_process(encoding, None, true)?;
            let all = std::iter::once(&encoding).chain(encoding.get_overflowing()).take(self.windows);
            let windows: Vec<Arc<[u32]>> = all.map(|window| window.get_ids().into()).collect();
            let count = |ids: &Arc<[u32]>| ids.iter().filter(|id| self.is_unknown(**id)).count();
            return Ok(Tokens { unknown: windows.iter().map(count).collect(), windows, truncated });
        }
        // With each token that stays, how many unknown ones there are before it.
        let (mut ids, mut before, mut unknown) = (Vec::new(), Vec::new(), 0);
        for &id in encoding.get_ids() {
            if !self.drop_ids.contains(&id) {
                ids.push(id);
                before.push(unknown);
            }
            unknown += usize::from(self.is_unknown(id));
        }
        let truncated = ids.len() > self.holds;
        ids.truncate(self.holds);
        let step = self.room - self.overlap;
        let starts = (0..).step_by(step).take(ids.len().saturating_sub(self.overlap).div_ceil(step).max(1));
        let window = |start: usize| ids.iter().skip(start).take(self.room).copied().collect();
        let at = |place: usize| before.get(place).copied().unwrap_or(unknown);
        // Those before the text's first token are the first window's.
        let within = |start: usize| at(start + self.room) - if start == 0 { 0 } else { at(start) };
        Ok(Tokens {
            windows: starts.clone().map(window).collect(),
            unknown: starts.map(within).collect(),
            truncated,
        })
    }
}

/// The token that a tokenizer's model gives for what it does not know.
fn unknown(tokenizer: &Tokenizer, file: &[u8]) -> Option<u32> {
    let word = match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model.unk_token.as_ref()?,
        ModelWrapper::WordPiece(model) => &model.unk_token,
        ModelWrapper::WordLevel(model) => &model.unk_token,
        // The model does not show its number, and its file does.
        ModelWrapper::Unigram(_) => return serde_json::from_slice::<UnigramFile>(file).ok()?.model.unk_id,
    };
    tokenizer.token_to_id(word)
}

/// The part of a tokenizer's file that has the unknown token's number.
#[derive(Deserialize)]
struct UnigramFile {
    model: UnigramModel,
}

#[derive(Deserialize)]
struct UnigramModel {
    unk_id: Option<u32>,
}

/// The tokens whose text is of a kind.
fn chosen(tokenizer: &Tokenizer, is: impl Fn(&str) -> bool) -> BTreeSet<u32> {
    let vocabulary = tokenizer.get_vocab(true).into_iter();
    vocabulary.filter(|(token, _)| is(token)).map(|(_, id)| id).collect()
}

/// Tokens that say nothing of a text. Control tokens that stand in a text are read as text, so a special token comes from
/// the post-processor alone.
fn silent(tokenizer: &Tokenizer, unknown: Option<u32>) -> BTreeSet<u32> {
    let empty = |token: &str| token.chars().all(|c| matches!(c, '▁' | 'Ġ' | 'Ċ') || c.is_whitespace());
    let vocabulary = tokenizer.get_vocab(true);
    let blank = vocabulary.into_iter().filter(|(token, _)| empty(token)).map(|(_, id)| id);
    let special = tokenizer.encode_fast("", true).map(|encoding| encoding.get_ids().to_vec());
    blank.chain(special.unwrap_or_default()).chain(unknown).collect()
}

/// The beginning of a text, at most `bytes` long, that ends before white space where it can.
fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let beginning = text.get(..text.floor_char_boundary(bytes)).unwrap_or("");
    match beginning.rfind(char::is_whitespace) {
        Some(at) if at >= bytes / 2 => beginning.get(..at).unwrap_or(beginning),
        _ => beginning,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::manifest::{Artefact, Padding};
    use super::*;

    const WORDS: &str = r#"{"version":"1.0","added_tokens":[
        {"id":3,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"Whitespace"},
        "post_processor":POST,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"[UNK]":0,"a":1,"b":2,"[SEP]":3,"sep":4,"!":5},"unk_token":"[UNK]"}}"#;
    const CLOSING: &str = r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},
        {"SpecialToken":{"id":"[SEP]","type_id":0}}],"pair":[],"special_tokens":{"[SEP]":{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}}"#;

    fn reading(max_tokens: usize, drop_ids: Vec<u32>) -> Reading {
        Reading {
            tokenizer: Artefact { path: PathBuf::new(), sha256: [0; 32], table: "tokenizer" },
            max_tokens,
            drop_ids,
            windows: 1,
            padding: Padding::default(),
            ids: "ids".to_owned(),
            mask: None,
            types: None,
        }
    }

    fn reader(post: &str, max_tokens: usize, drop_ids: Vec<u32>) -> Tokenizing {
        Tokenizing::new(WORDS.replace("POST", post).as_bytes(), &reading(max_tokens, drop_ids))
            .map_err(|m| m.1)
            .unwrap()
    }

    fn tokens(ids: &[u32], truncated: bool) -> (Vec<Arc<[u32]>>, bool) {
        (vec![ids.into()], truncated)
    }

    impl Tokenizing {
        fn given(&self, text: &str) -> (Vec<Arc<[u32]>>, bool) {
            let Tokens { windows, truncated, .. } = self.read(text).unwrap();
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
        let reading = Reading { windows, ..reading(max_tokens, drop_ids) };
        let reader =
            Tokenizing::new(WORDS.replace("POST", post).as_bytes(), &reading).map_err(|m| m.1).unwrap();
        let (windows, truncated) = reader.given(text);
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
        let reader = reader(CLOSING, 4, vec![]);
        assert_eq!(reader.given("a b"), tokens(&[1, 2, 3], false));
        assert_eq!(reader.given("a b a"), tokens(&[1, 2, 1, 3], false));
        assert_eq!(reader.given("a b a b"), tokens(&[1, 2, 1, 3], true));
        // One token too many is seen where there are no special ones, too.
        let plain = super::tests::reader("null", 4, vec![]);
        assert_eq!(plain.given("a b a b"), tokens(&[1, 2, 1, 2], false));
        assert_eq!(plain.given("a b a b a"), tokens(&[1, 2, 1, 2], true));
    }

    #[test]
    fn dropped_ids_do_not_count() {
        let reader = reader("null", 3, vec![0]);
        assert_eq!(reader.given("x a x b x x a x"), tokens(&[1, 2, 1], false));
        assert_eq!(reader.given("x a x b x x a x b"), tokens(&[1, 2, 1], true));
        assert_eq!(reader.greatest_id(), 5);
    }

    #[test]
    fn unknown_and_special_tokens_are_not_read() {
        for (post, drop_ids) in [("null", vec![]), ("null", vec![0]), (CLOSING, vec![])] {
            let reader = Reader::Tokens(Box::new(reader(post, 9, drop_ids)));
            let reads = |text: &str| !reader.read_windows(&reader.read(text).unwrap()).is_empty();
            assert!(reads("a") && reads("x b") && reads("sep"), "{post}");
            assert!(reads("!") && reads("a !"), "{post}");
            assert!(!reads("x !") && !reads("! x"), "{post}");
            assert!(!reads("x") && !reads("x \u{1f600} y") && !reads("") && !reads(" "), "{post}");
            // Letters beside more that is unknown; a word is known whatever is beside it.
            assert!(!reads("x b x") && !reads("x x b") && reads("a x b x"), "{post}");
            assert!(reads("\u{1f600} \u{1f600} sep \u{1f600} \u{1f600}"), "{post}");
        }
        let text = Reader::Text { max_chars: 9 };
        assert_eq!(text.read_windows(&text.read("x").unwrap()).len(), 1);
    }

    #[test]
    fn unknown_tokens_are_those_of_their_window() {
        let text = "x a b x a b x x x ! b x";
        let windows = |drop_ids| {
            let tokens = reader("null", 3, drop_ids);
            let tokens = Tokenizing { windows: 9, holds: 27, ..tokens }.read(text).unwrap();
            (tokens.windows.iter().map(|ids| ids.to_vec()).collect::<Vec<_>>(), tokens.unknown)
        };
        assert_eq!(windows(vec![0]), (vec![vec![1, 2, 1], vec![2, 5, 2]], vec![2, 4]));
    }

    #[test]
    fn pieces_that_are_only_white_space_are_not_read() {
        let pieces = r#"{"version":"1.0","added_tokens":[],"normalizer":null,"post_processor":null,"decoder":null,
            "pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},
            "model":{"type":"Unigram","unk_id":1,"vocab":[["a",-3.0],["what",0.0],["▁",-2.0],["▁b",-1.0]],"byte_fallback":false}}"#;
        let made = Tokenizing::new(pieces.as_bytes(), &reading(9, vec![])).map_err(|m| m.1).unwrap();
        let reader = Reader::Tokens(Box::new(made));
        let read = |text: &str| {
            let tokens = reader.read(text).unwrap();
            (tokens.windows[0].to_vec(), !reader.read_windows(&tokens).is_empty())
        };
        assert_eq!(read("x"), (vec![2, 1], false));
        assert_eq!(read("a"), (vec![2, 0], true));
        assert_eq!(read("b"), (vec![3], true));
    }

    #[test]
    fn control_tokens_in_a_text_are_text() {
        assert_eq!(reader("null", 9, vec![]).given("a [SEP] b"), tokens(&[1, 0, 4, 0, 2], false));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let json = WORDS.replace("POST", CLOSING);
        let field = |max, drop| Tokenizing::new(json.as_bytes(), &reading(max, drop)).err().map(|m| m.0);
        assert_eq!(field(1, vec![]), Some("tokenizer.max_tokens"));
        assert_eq!(field(4, vec![0]), Some("tokenizer.drop_ids"));
        assert_eq!(Tokenizing::new(b"{}", &reading(4, vec![])).err().map(|m| m.0), Some("tokenizer.file"));
    }

    #[test]
    fn a_long_text_is_cut_without_changing_its_tokens() {
        let reader = reader("null", 10, vec![]);
        // Fifty bytes a token: past the first cut, within the second.
        let sparse = format!("a{0}b{0}", " ".repeat(49)).repeat(2_000);
        assert_eq!(reader.given(&sparse), tokens(&[1, 2, 1, 2, 1, 2, 1, 2, 1, 2], true));
        // Beyond: only what was read, and the text says that it went on.
        let desert = format!("a{}b", " ".repeat(100_000));
        assert_eq!(reader.given(&desert), tokens(&[1], true));
        assert_eq!(reader.given(&format!("a{}", " ".repeat(100_000))), tokens(&[1], false));
        assert_eq!(reader.given(&"ä".repeat(1_000_000)), tokens(&[0], true));
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
