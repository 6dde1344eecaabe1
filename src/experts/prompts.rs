//! Makes the requests of guards from conversations, and reads their answers.

use std::sync::Arc;

use super::backend::guard::{AnswerReader, PrefixIds, PromptHead, VerdictIds};
use super::manifest::View;
use crate::core::event::{Conversation, Role, Turn};
use crate::core::text::reveal;
use crate::guards::{GuardPrompt, GuardSpec, GuardTokenizer, PromptError, SpecError};

/// Makes the prompts of a guard.
pub(super) struct GuardPrompts {
    tokenizer: GuardTokenizer,
    /// The greatest number of tokens of a prompt, with its prefix.
    max_tokens: usize,
    view: View,
    prefixes: PrefixIds,
}

/// A conversation as the request of a guard.
pub(super) struct PromptTokens {
    /// The head of the request, and the token ids behind the prefix.
    pub(super) ids: Arc<[u32]>,
    /// The number of tokens behind the prefix.
    pub(super) count: usize,
    /// Part of the conversation was left out.
    pub(super) cut: bool,
}

impl GuardPrompts {
    /// Resolves a spec's tokens in a vocabulary, given as the bytes of its tokenizer.json.
    ///
    /// # Errors
    /// Returns an error if the spec does not agree with the vocabulary, or if the policy does not fit the context.
    pub(super) fn new(
        spec: GuardSpec,
        tokenizer_json: &[u8],
        max_tokens: usize,
        view: View,
    ) -> Result<Self, SpecError> {
        let tokenizer = GuardTokenizer::new(spec, tokenizer_json)?;
        let prefixes = tokenizer.prefixes().to_vec().into();
        Ok(Self { tokenizer, max_tokens, view, prefixes })
    }

    /// Checks that `max_tokens` leaves room for a judged turn of each role.
    ///
    /// # Errors
    /// Returns the error of the first role for which it does not.
    pub(super) fn check_room(&self) -> Result<(), PromptError> {
        for &role in self.tokenizer.spec().next_token_roles() {
            let turns = vec![Turn { role, text: "word".to_owned() }];
            self.encode(&Conversation { turns, judged: 0 })?;
        }
        Ok(())
    }

    /// Makes the prompt of a conversation, as far as the guard's view goes.
    ///
    /// # Errors
    /// Returns `Role` if the guard does not judge turns of the judged turn's role.
    pub(super) fn encode(&self, conversation: &Conversation) -> Result<PromptTokens, PromptError> {
        let judged = conversation.judged_turn();
        let seen = |turn: &Turn| Turn { role: turn.role, text: reveal(&turn.text).text.into_owned() };
        let mut turns: Vec<Turn> = self.view.history(conversation).iter().map(seen).collect();
        turns.push(seen(judged));
        let shown = Conversation { judged: turns.len() - 1, turns };
        let GuardPrompt { ids, cut, role_prefix } = self.tokenizer.encode(&shown, self.max_tokens)?;
        let head = PromptHead { prefix: role_prefix, role: role_number(judged.role) };
        let count = ids.len();
        Ok(PromptTokens { ids: std::iter::once(head.id()).chain(ids).collect(), count, cut })
    }

    /// The token ids of the prefixes.
    pub(super) fn prefixes(&self) -> PrefixIds {
        Arc::clone(&self.prefixes)
    }

    /// The tokens that a verdict begins with.
    pub(super) fn verdict(&self) -> VerdictIds {
        let verdict = self.tokenizer.verdict();
        VerdictIds { harmful: verdict.harmful.clone(), safe: verdict.safe.clone() }
    }

    /// The greatest id of the vocabulary.
    pub(super) fn greatest_id(&self) -> u32 {
        self.tokenizer.greatest_id()
    }
}

impl AnswerReader for GuardPrompts {
    fn max_tokens(&self) -> usize {
        self.tokenizer.spec().max_answer_tokens()
    }

    fn is_end(&self, id: u32) -> bool {
        self.tokenizer.is_control(id)
    }

    fn categories(&self, head: PromptHead, ids: &[u32]) -> Option<Vec<String>> {
        let (spec, role) = (self.tokenizer.spec(), role_of(head.role));
        let text = self.tokenizer.decode(ids).ok()?;
        let answer = spec.parse_answer(role, &format!("{}{text}", spec.forced_text(role)));
        Some(answer?.categories)
    }
}

/// The number of a role in requests.
fn role_number(role: Role) -> usize {
    Role::ALL.iter().position(|known| *known == role).unwrap_or_default()
}

/// The role with a number.
fn role_of(number: usize) -> Role {
    Role::ALL.get(number).copied().unwrap_or(Role::User)
}
