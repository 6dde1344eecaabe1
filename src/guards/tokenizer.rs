//! Turns conversations into token ids.
//!
//! Control tokens of the template are inserted by id. Each run between two of them, which are words of the template and
//! texts of turns joined, is encoded as one string, because a vocabulary may join the end of the words with the beginning
//! of a text. In a run, special tokens of the vocabulary and control tokens that the spec lists are ordinary text.

use std::ops::Range;

use super::error::{PromptError, SpecError};
use super::fit::{Measure, PROBE, fit};
use super::prefix;
use super::raw::Keep;
use super::runs::RunEncoder;
use super::spec::GuardSpec;
use super::template::Piece;
use super::verdict::VerdictTokens;
use crate::core::event::{Conversation, Role};

/// The tokens that the context must have for a judged turn, beside the fixed parts and the answer.
const MIN_JUDGED_TOKENS: usize = 16;

/// A prompt as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardPrompt {
    /// The ids after the prefix. The verdict's token follows the last of them.
    pub ids: Vec<u32>,
    /// Part of the conversation was left out to make the prompt fit.
    pub cut: bool,
    /// The index of the prompt's prefix in [`GuardTokenizer::prefixes`].
    pub role_prefix: usize,
}

/// Makes prompts of one spec for one vocabulary.
#[derive(Debug)]
pub struct GuardTokenizer {
    spec: GuardSpec,
    runs: RunEncoder,
    prefixes: Vec<Vec<u32>>,
    /// The index of the prefix of each role whose verdict is the next token.
    role_prefixes: Vec<(Role, usize)>,
    verdict: VerdictTokens,
}

impl GuardTokenizer {
    /// Resolves a spec's tokens in a vocabulary, given as the bytes of its tokenizer.json.
    ///
    /// # Errors
    /// Returns `Invalid` if the vocabulary lacks a control token, if the verdicts are not distinct at their first token,
    /// or if the policy and the output rules do not fit the context.
    pub fn new(spec: GuardSpec, tokenizer_json: &[u8]) -> Result<Self, SpecError> {
        let runs = RunEncoder::new(&spec, tokenizer_json)?;
        let Some(&first_role) = spec.next_token_roles().first() else {
            let problem = "is empty: no verdict of this guard is the next token";
            let remedy = "use the guard as a remote expert, which reads the whole answer";
            return Err(SpecError::invalid(spec.name(), "verdict.next_token", problem, remedy));
        };
        let verdict = resolve_verdict(&spec, &runs, first_role)?;
        let mut prefixes: Vec<Vec<u32>> = Vec::new();
        let mut role_prefixes = Vec::new();
        for &role in spec.next_token_roles() {
            if resolve_verdict(&spec, &runs, role)? != verdict {
                let problem = format!("has other tokens for {}", role.word());
                let remedy = "end the template alike for all roles, or judge one role";
                return Err(SpecError::invalid(spec.name(), "verdict", problem, remedy));
            }
            check_context(&spec, &runs, role)?;
            let ids = prefix::of_role(&spec, &runs, role)?;
            let known = prefixes.iter().position(|known| *known == ids);
            role_prefixes.push((role, known.unwrap_or(prefixes.len())));
            if known.is_none() {
                prefixes.push(ids);
            }
        }
        Ok(Self { spec, runs, prefixes, role_prefixes, verdict })
    }

    /// The spec.
    #[must_use]
    pub fn spec(&self) -> &GuardSpec {
        &self.spec
    }

    /// The ids that prompts begin with, including the policy: one list for all judged roles, or one for each.
    #[must_use]
    pub fn prefixes(&self) -> &[Vec<u32>] {
        &self.prefixes
    }

    /// The prefix with this index, which is the `role_prefix` of a prompt.
    ///
    /// # Panics
    /// Panics if there is none.
    #[must_use]
    pub fn prefix(&self, role_prefix: usize) -> &[u32] {
        &self.prefixes[role_prefix]
    }

    /// The tokens that a verdict begins with.
    #[must_use]
    pub fn verdict(&self) -> &VerdictTokens {
        &self.verdict
    }

    /// The greatest id of the vocabulary.
    #[must_use]
    pub fn greatest_id(&self) -> u32 {
        self.runs.greatest_id
    }

    /// Returns `true` if the token is a control token, which ends an answer.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.runs.is_special(id)
    }

    /// The text of generated tokens, with which an answer can be parsed. Control tokens are left out.
    ///
    /// # Errors
    /// Returns the tokenizer's message.
    pub fn decode(&self, ids: &[u32]) -> Result<String, PromptError> {
        self.runs.tokenizer.decode(ids, true).map_err(|error| PromptError::Failed {
            spec: self.spec.name().to_owned(),
            reason: error.to_string(),
        })
    }

    /// Makes the prompt of a conversation, of at most `max_tokens` tokens with its prefix, and never more than the
    /// context without the answer. Turns after the judged one are not read.
    ///
    /// # Errors
    /// Returns `Role` if the verdict on a turn of this role is not the next token, and `NoRoom` if `max_tokens` is too
    /// small for the policy and the output rules.
    ///
    /// # Panics
    /// Panics if the judged turn does not exist.
    pub fn encode(&self, conversation: &Conversation, max_tokens: usize) -> Result<GuardPrompt, PromptError> {
        let judged = conversation.judged_turn().role;
        let of_role = self.role_prefixes.iter().find(|(role, _)| *role == judged);
        let Some(&(_, role_prefix)) = of_role else {
            return Err(PromptError::Role { spec: self.spec.name().to_owned(), role: judged });
        };
        let budget = max_tokens.min(self.spec.context() - self.spec.max_answer_tokens());
        let fitted = fit(&self.spec, conversation, budget, self)?;
        let ids = fitted.prompt.strip_prefix(self.prefixes[role_prefix].as_slice()).ok_or_else(|| {
            // The property tests show that no text has this effect in the vocabularies that are known.
            let reason = "the text changes the tokens of the policy before it".to_owned();
            PromptError::Failed { spec: self.spec.name().to_owned(), reason }
        })?;
        Ok(GuardPrompt { ids: ids.to_vec(), cut: fitted.cut, role_prefix })
    }
}

impl Measure for GuardTokenizer {
    type Prompt = Vec<u32>;
    const UNIT: &'static str = "tokens";

    fn prompt(&self, roles: &[Role], texts: &[&str]) -> Result<(Vec<u32>, usize), String> {
        let pieces = self.spec.pieces(roles).map_err(|(_, problem)| problem)?;
        let ids = self.runs.pieces(&pieces, texts)?;
        let size = ids.len();
        Ok((ids, size))
    }

    fn text(&self, text: &str) -> Result<usize, String> {
        Ok(self.runs.encode(text)?.len())
    }

    fn part(&self, text: &str, units: usize, keep: Keep) -> Result<Range<usize>, String> {
        let encoding = self.runs.tokenizer.encode(text, false).map_err(|error| error.to_string())?;
        let offsets = encoding.get_offsets();
        if offsets.len() <= units {
            return Ok(0..text.len());
        }
        Ok(match keep {
            Keep::Start => 0..text.floor_char_boundary(offsets[..units].last().map_or(0, |token| token.1)),
            Keep::End => text.ceil_char_boundary(offsets[offsets.len() - units].0)..text.len(),
        })
    }
}

/// Finds the verdict's tokens behind the last run of a prompt.
fn resolve_verdict(spec: &GuardSpec, runs: &RunEncoder, role: Role) -> Result<VerdictTokens, SpecError> {
    let pieces = spec.pieces(&[role]).map_err(|(field, problem)| {
        SpecError::invalid(spec.name(), &field, problem, "correct the template")
    })?;
    let mut run = String::new();
    for piece in &pieces {
        match piece {
            Piece::Control(_) => run.clear(),
            Piece::Words(words) => run.push_str(words),
            Piece::Text(_) => run.push_str(PROBE),
        }
    }
    VerdictTokens::resolve(spec, &run, |text| {
        runs.encode(text).map_err(|problem| runs.invalid(spec, problem))
    })
}

/// Checks that the fixed parts of a prompt leave room for a judged turn.
fn check_context(spec: &GuardSpec, runs: &RunEncoder, role: Role) -> Result<(), SpecError> {
    let fixed = runs.prompt(spec, &[role], &[PROBE])?.len();
    let needed = fixed + spec.max_answer_tokens() + MIN_JUDGED_TOKENS;
    if needed > spec.context() {
        let problem = format!(
            "is {}, but the policy and the output rules take {fixed} tokens, the answer {} and a judged turn {MIN_JUDGED_TOKENS} or more",
            spec.context(),
            spec.max_answer_tokens()
        );
        return Err(SpecError::invalid(spec.name(), "context", problem, "shorten the policy text"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
