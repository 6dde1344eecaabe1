use std::path::PathBuf;

use super::super::manifest::{HashedFile, Padding};
use super::*;

const WORDS: &str = r#"{"version":"1.0","added_tokens":[
    {"id":3,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
    "normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"Whitespace"},
    "post_processor":POST,"decoder":null,
    "model":{"type":"WordLevel","vocab":{"[UNK]":0,"a":1,"b":2,"[SEP]":3,"sep":4,"!":5},"unk_token":"[UNK]"}}"#;
pub(super) const CLOSING: &str = r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},
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

pub(super) fn tokenizer(post: &str, max_tokens: usize, drop_ids: Vec<u32>) -> WindowTokenizer {
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
        let reads = |text: &str| !tokenizer.readable_windows(&tokenizer.tokenize(text).unwrap()).is_empty();
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
    let made =
        WindowTokenizer::new(pieces.as_bytes(), &spec(9, vec![])).map_err(|misfit| misfit.problem).unwrap();
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
    let field =
        |max, drop| WindowTokenizer::new(json.as_bytes(), &spec(max, drop)).err().map(|misfit| misfit.field);
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

#[test]
fn ends_begin_after_white_space_or_between_characters() {
    assert_eq!(tail("abc def ghi", 9), " def ghi");
    assert_eq!(tail("abcdefghij kl", 9), "efghij kl");
    assert_eq!(tail("ääääää", 5), "ää");
    assert_eq!(tail("abc", 9), "abc");
}

#[test]
fn a_post_processor_must_keep_the_text() {
    let twice = CLOSING.replace(
        r#"{"SpecialToken":{"id":"[SEP]","type_id":0}}"#,
        r#"{"SpecialToken":{"id":"[SEP]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}"#,
    );
    let json = WORDS.replace("POST", &twice);
    let misfit = WindowTokenizer::new(json.as_bytes(), &spec(9, vec![])).err().unwrap();
    assert_eq!(misfit.field, "tokenizer.file");
}
