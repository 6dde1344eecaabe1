//! Encodes the runs of a prompt between its control tokens.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::error::SpecError;
use super::spec::GuardSpec;
use super::template::Piece;
use crate::core::event::Role;

/// The remedy for a file that is no usable tokenizer.
const TOKENIZER_REMEDY: &str = "give a tokenizer.json of Hugging Face tokenizers 0.23";

/// Encodes runs, with the ids of the spec's control tokens.
#[derive(Debug)]
pub(super) struct RunEncoder {
    pub(super) tokenizer: Tokenizer,
    control: Vec<u32>,
    /// The token put before the template's text.
    bos: Option<u32>,
    /// The ids of control tokens and special tokens, which no run may contain, without that of the unknown token.
    special: BTreeSet<u32>,
    pub(super) greatest_id: u32,
}

/// The id of the token that stands for what the vocabulary lacks. BPE names the token, Unigram gives its id.
fn unknown_token(file: &Map<String, Value>) -> Option<u64> {
    let model = file.get("model")?;
    if let Some(id) = model.get("unk_id").and_then(Value::as_u64) {
        return Some(id);
    }
    let name = model.get("unk_token").and_then(Value::as_str)?;
    let added = file.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let added = added.filter(|token| token.get("content").and_then(Value::as_str) == Some(name));
    let known = model.get("vocab").and_then(|vocab| vocab.get(name));
    known.or_else(|| added.filter_map(|token| token.get("id")).next()).and_then(Value::as_u64)
}

impl RunEncoder {
    /// Reads a vocabulary, given as the bytes of its tokenizer.json.
    ///
    /// # Errors
    /// Returns `Invalid` if it cannot be read, or lacks a control token.
    pub(super) fn new(spec: &GuardSpec, tokenizer_json: &[u8]) -> Result<Self, SpecError> {
        let invalid = |field: &str, problem: String, remedy: &str| {
            SpecError::invalid(spec.name(), field, problem, remedy)
        };
        let unusable = |problem: String| invalid("the tokenizer", problem, TOKENIZER_REMEDY);
        let mut file: Value =
            serde_json::from_slice(tokenizer_json).map_err(|error| unusable(error.to_string()))?;
        let fields = file.as_object_mut().ok_or_else(|| unusable("is no JSON object".to_owned()))?;
        let unknown = unknown_token(fields);
        let mut special = BTreeSet::new();
        // An added token that is not special is found in any text. Vocabularies have harmless ones, e.g. runs of spaces.
        let added = fields.get_mut("added_tokens").and_then(Value::as_array_mut).into_iter().flatten();
        for token in added.filter_map(Value::as_object_mut) {
            let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
            if token.get("special") == Some(&Value::Bool(true)) || spec.is_control(content) {
                token.insert("special".to_owned(), Value::Bool(true));
                let id = token.get("id").and_then(Value::as_u64);
                // The unknown token stands for characters that the vocabulary lacks, which any text may have.
                let id = id.filter(|id| unknown != Some(*id));
                special.extend(id.and_then(|id| u32::try_from(id).ok()));
            }
        }
        for key in ["post_processor", "truncation", "padding"] {
            fields.insert(key.to_owned(), Value::Null);
        }
        let bytes = serde_json::to_vec(&file).map_err(|error| unusable(error.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| unusable(error.to_string()))?;
        tokenizer.set_encode_special_tokens(true);
        let id = |field: &str, token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| {
                let problem = format!("the tokenizer has no token {token}");
                invalid(field, problem, "the tokenizer or the spec is another model's: correct one of them")
            })
        };
        let control = &spec.raw.template.control;
        let control =
            control.iter().map(|token| id("template.control", token)).collect::<Result<Vec<_>, _>>()?;
        let added = spec.bos().filter(|(_, written)| !written);
        let bos = added.map(|(token, _)| id("template.bos_added", token)).transpose()?;
        special.extend(control.iter().copied().chain(bos));
        let greatest_id = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        Ok(Self { tokenizer, control, bos, special, greatest_id })
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    pub(super) fn invalid(&self, spec: &GuardSpec, problem: String) -> SpecError {
        SpecError::invalid(spec.name(), "the tokenizer", problem, TOKENIZER_REMEDY)
    }

    /// Encodes a run.
    ///
    /// # Errors
    /// Returns the tokenizer's message, or an error if the run gives a control token.
    pub(super) fn encode(&self, run: &str) -> Result<Vec<u32>, String> {
        if run.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = self.tokenizer.encode_fast(run, false).map_err(|error| error.to_string())?;
        let ids = encoding.get_ids();
        if ids.iter().any(|id| self.special.contains(id)) {
            return Err("the vocabulary gives a special token for ordinary text".to_owned());
        }
        Ok(ids.to_vec())
    }

    /// Encodes the pieces of a prompt.
    pub(super) fn pieces(&self, pieces: &[Piece], texts: &[&str]) -> Result<Vec<u32>, String> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        let mut run = String::new();
        for piece in pieces {
            match piece {
                Piece::Words(words) => run.push_str(words),
                Piece::Text(index) => run.push_str(texts[*index]),
                Piece::Control(index) => {
                    ids.extend(self.encode(&run)?);
                    run.clear();
                    ids.push(self.control[*index]);
                }
            }
        }
        ids.extend(self.encode(&run)?);
        Ok(ids)
    }

    /// Encodes the prompt of turns, the last of which is judged, for a check at load.
    pub(super) fn prompt(
        &self,
        spec: &GuardSpec,
        roles: &[Role],
        texts: &[&str],
    ) -> Result<Vec<u32>, SpecError> {
        let pieces = spec.pieces(roles).map_err(|(field, problem)| {
            SpecError::invalid(spec.name(), &field, problem, "correct the template")
        })?;
        self.pieces(&pieces, texts).map_err(|problem| self.invalid(spec, problem))
    }
}
