//! Decodes the answer about a flagged text, for its categories.
//!
//! The answer begins with the verdict's likeliest unsafe token. The following ones are the likeliest each, up to a limit.
//! Each of them runs behind the keys and values of all tokens before it, or, if the graph cannot do that, behind the
//! whole prompt again.

use super::causal::{KeyValueCache, Rows};
use super::{GuardExpert, GuardRun, Logits, PromptHead};
use crate::core::vote::{Abstention, CategoryScore};
use crate::experts::backend::result::{RunError, TextResult};
use crate::experts::scores::ExpertScore;

/// The least P(unsafe) of a text whose categories are decoded.
const FLAGGED: f64 = 0.5;

/// Returns `true` if the categories of a text with this outcome are wanted.
fn is_decoded(expert: &GuardExpert, outcome: &Result<ExpertScore, Abstention>) -> bool {
    expert.answer.is_some() && matches!(outcome, Ok((score, _)) if *score >= FLAGGED)
}

/// Marks the results of texts whose categories are still to be decoded.
pub(super) fn mark_undecoded(experts: &[GuardExpert], results: &mut [TextResult]) {
    for result in results {
        let outcomes = experts.iter().zip(&result.outcomes);
        result.incomplete = outcomes.into_iter().any(|(expert, (_, outcome))| is_decoded(expert, outcome));
    }
}

/// Reads answers.
pub(crate) trait AnswerReader: Send + Sync {
    /// The greatest number of tokens of an answer.
    fn max_tokens(&self) -> usize;

    /// Returns `true` if the answer ends before this token.
    fn is_end(&self, id: u32) -> bool;

    /// The slugs of the categories in an answer of these tokens to a request with this head; `None` if it is no answer.
    fn categories(&self, head: PromptHead, ids: &[u32]) -> Option<Vec<String>>;
}

impl GuardRun<'_> {
    /// Adds the categories of flagged texts to their results. A result without some of them stays marked as incomplete.
    pub(super) fn add_categories(
        &mut self,
        texts: &[&[u32]],
        logits: &[Logits],
        experts: &[GuardExpert],
        results: &mut [TextResult],
    ) {
        for ((text, logits), result) in texts.iter().zip(logits).zip(results) {
            let (Ok(logits), Some((head, row))) = (logits, PromptHead::split(text)) else {
                continue;
            };
            let mut missing = false;
            for (expert, (_, outcome)) in experts.iter().zip(&mut result.outcomes) {
                if !is_decoded(expert, outcome) {
                    continue;
                }
                let (Some(reader), Ok((score, categories))) = (&expert.answer, outcome) else {
                    continue;
                };
                if self.run.is_over() {
                    missing = true;
                    continue;
                }
                let first = likeliest_of(logits, &expert.verdict.harmful);
                match self.decode(head.prefix, row, first, reader.max_tokens(), &|id| reader.is_end(id)) {
                    Ok(ids) => match reader.categories(head, &ids) {
                        Some(slugs) => *categories = scored(slugs, *score),
                        None => missing = true,
                    },
                    // The vote stands without categories.
                    Err(error) => {
                        missing = true;
                        if !self.run.is_over() {
                            self.errors.note(self.id, &error);
                        }
                    }
                }
            }
            result.incomplete = missing;
        }
    }

    /// Decodes the answer to a row behind a prefix. It begins with the token `first`.
    fn decode(
        &mut self,
        prefix: usize,
        row: &[u32],
        first: u32,
        max_tokens: usize,
        is_end: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<u32>, RunError> {
        let prefixes = self.prefixes;
        let mut answer = vec![first];
        let prefix_cache = prefixes.cache(prefix);
        let mut cache: Option<KeyValueCache> = None;
        while answer.len() < max_tokens {
            let next = if prefix_cache.is_some() {
                let rest = [row, &answer].concat();
                let new =
                    if cache.is_some() { answer.last().map(std::slice::from_ref) } else { Some(&rest[..]) };
                let past = cache.as_ref().or(prefix_cache);
                let rows = [new.unwrap_or_default()];
                let step = self.model.run(&Rows::alone(&rows, past), self.options, true)?;
                cache = step.cache;
                step.logits
            } else {
                let whole = [prefixes.ids(prefix), row, &answer].concat();
                self.model.run(&Rows::alone(&[&whole], None), self.options, false)?.logits
            };
            let id = next.first().and_then(|logits| likeliest(logits));
            let id = id.ok_or_else(|| RunError::failed("the logits of an answer are not numbers"))?;
            if is_end(id) {
                break;
            }
            answer.push(id);
        }
        Ok(answer)
    }
}

/// Categories with the score of the verdict, sorted.
fn scored(mut slugs: Vec<String>, score: f64) -> Vec<CategoryScore> {
    slugs.sort_unstable();
    slugs.dedup();
    slugs.into_iter().map(|category| CategoryScore { category, score }).collect()
}

/// The token with the greatest logit; the first of equal ones. `None` if there are none, or one is NaN.
fn likeliest(logits: &[f32]) -> Option<u32> {
    if logits.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    let best = (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b]))?;
    u32::try_from(best).ok()
}

/// The likeliest of some tokens.
fn likeliest_of(logits: &[f32], ids: &[u32]) -> u32 {
    let logit = |id: u32| logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    ids.iter().rev().copied().max_by(|&a, &b| logit(a).total_cmp(&logit(b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equally_likely_tokens_is_taken() {
        assert_eq!(likeliest(&[0.0, 2.0, 2.0, -1.0]), Some(1));
        assert_eq!(likeliest(&[0.0, f32::NAN]), None);
        assert_eq!(likeliest(&[]), None);
        assert_eq!(likeliest_of(&[0.0, 2.0, 2.0, 9.0], &[0, 2, 1]), 2);
    }
}
