//! The properties of a tokenizer's token ids.

use std::collections::BTreeSet;

use serde::Deserialize;
use tokenizers::models::ModelWrapper;
use tokenizers::{Encoding, Token, Tokenizer};

use super::TOKENIZER_REMEDY;
use crate::experts::error::Misfit;

/// The special tokens that a tokenizer puts before and after those of a text.
pub(super) fn special_ids(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>), Misfit> {
    // An id that no vocabulary has stands for the text's.
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let refuse = |problem: String| Misfit::new("tokenizer.file", problem, TOKENIZER_REMEDY);
    let encoding = tokenizer.post_process(text, None, true).map_err(|error| refuse(error.to_string()))?;
    let mut parts = encoding.get_ids().split(|id| *id == TEXT);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) => Ok((before.to_vec(), after.to_vec())),
        _ => Err(refuse("its post_processor does not keep a text's tokens once and in one piece".to_owned())),
    }
}

/// The token that a tokenizer's model gives for text that its vocabulary lacks.
pub(super) fn unknown_id(tokenizer: &Tokenizer, file: &[u8]) -> Option<u32> {
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
pub(super) fn ids_of(tokenizer: &Tokenizer, matches: impl Fn(&str) -> bool) -> BTreeSet<u32> {
    let vocabulary = tokenizer.get_vocab(true).into_iter();
    vocabulary.filter(|(token, _)| matches(token)).map(|(_, id)| id).collect()
}

/// The ids of tokens without content. A control token in a text is ordinary text, so special tokens come only from the
/// post-processor.
pub(super) fn empty_ids(tokenizer: &Tokenizer, unknown: Option<u32>) -> BTreeSet<u32> {
    let is_blank = |token: &str| token.chars().all(|c| matches!(c, '▁' | 'Ġ' | 'Ċ') || c.is_whitespace());
    // A tokenizer that cannot encode an empty text can still encode others. Its special tokens are not known then.
    let special = tokenizer.encode_fast("", true).map(|encoding| encoding.get_ids().to_vec());
    ids_of(tokenizer, is_blank).into_iter().chain(special.unwrap_or_default()).chain(unknown).collect()
}
