//! Fits a conversation into a prompt of a bounded size.
//!
//! The policy and the output rules always stay whole. If the prompt is too long, the oldest turns are dropped first, then
//! the judged turn is cut. The work is bounded by the budget, whatever the number and the length of the turns.

use std::ops::Range;

use super::error::PromptError;
use super::raw::{History, Keep};
use super::spec::GuardSpec;
use crate::core::event::{Conversation, Role};

/// Bytes of text that are looked at for each unit of the budget. Ordinary text has three to six a token.
const BYTES_PER_UNIT: usize = 16;
/// The greatest number of times that turns are dropped, or the judged turn is cut, before the rest of them goes.
const MAX_ATTEMPTS: usize = 8;

/// Measures prompts, in tokens or in bytes.
pub(super) trait Measure {
    /// The prompt in the measured form.
    type Prompt;

    /// The name of the unit.
    const UNIT: &'static str;

    /// Makes the prompt of turns with these roles and texts, the last of which is judged, and returns its size.
    fn prompt(&self, roles: &[Role], texts: &[&str]) -> Result<(Self::Prompt, usize), String>;

    /// The size of a text alone.
    fn text(&self, text: &str) -> Result<usize, String>;

    /// The part of a text that has `units` units.
    fn part(&self, text: &str, units: usize, keep: Keep) -> Result<Range<usize>, String>;

    /// The size of a further turn beside its text.
    fn turn_overhead(&self) -> usize;
}

/// A prompt that fits.
pub(super) struct Fitted<P> {
    pub(super) prompt: P,
    /// Part of the conversation was left out to make the prompt fit.
    pub(super) cut: bool,
}

/// The turns that a prompt shows, the last of which is judged.
struct Shown<'a> {
    roles: Vec<Role>,
    texts: Vec<&'a str>,
}

/// Makes the prompt of a conversation, of at most `budget` units.
///
/// # Errors
/// Returns `Role` if the spec does not judge turns of this role, and `NoRoom` if the fixed parts alone are too long.
pub(super) fn fit<M: Measure>(
    spec: &GuardSpec,
    conversation: &Conversation,
    budget: usize,
    measure: &M,
) -> Result<Fitted<M::Prompt>, PromptError> {
    let failed = |reason: String| PromptError::Failed { spec: spec.name().to_owned(), reason };
    let judged = conversation.judged_turn();
    if !spec.judges(judged.role) {
        return Err(PromptError::Role { spec: spec.name().to_owned(), role: judged.role });
    }
    let whole = judged.text.trim();
    let text = clip(whole, budget, spec.keep());
    let mut cut = text.len() < whole.len();
    let (mut shown, left_out) = shown_turns(spec, conversation, budget);
    cut |= left_out;
    shown.roles.push(judged.role);
    shown.texts.push(text);

    let make = |shown: &Shown<'_>| measure.prompt(&shown.roles, &shown.texts).map_err(failed);
    let (mut prompt, mut size) = make(&shown)?;
    let mut attempts = 0;
    while size > budget && shown.roles.len() > 1 {
        attempts += 1;
        cut = true;
        let dropped = if attempts > MAX_ATTEMPTS {
            shown.roles.len() - 1
        } else {
            turns_to_drop(&shown, size - budget, measure).map_err(failed)?
        };
        shown.roles.drain(..dropped);
        shown.texts.drain(..dropped);
        (prompt, size) = make(&shown)?;
    }
    if size <= budget {
        return Ok(Fitted { prompt, cut });
    }
    let judged_size = measure.text(text).map_err(failed)?;
    let fixed = size.saturating_sub(judged_size);
    let no_room = || PromptError::NoRoom { spec: spec.name().to_owned(), fixed, budget, unit: M::UNIT };
    let mut room = budget.checked_sub(fixed).ok_or_else(no_room)?;
    for _ in 0..MAX_ATTEMPTS {
        if room == 0 {
            break;
        }
        let part = measure.part(text, room, spec.keep()).map_err(failed)?;
        shown.texts = vec![&text[part]];
        (prompt, size) = make(&shown)?;
        if size <= budget {
            return Ok(Fitted { prompt, cut: true });
        }
        room = room.saturating_sub(size - budget);
    }
    Err(no_room())
}

/// The turns before the judged one that may fit, the oldest first, and whether others were left out for their size.
fn shown_turns<'a>(spec: &GuardSpec, conversation: &'a Conversation, budget: usize) -> (Shown<'a>, bool) {
    let judged = conversation.judged_turn().role;
    let with_word = conversation.history().iter().rev().filter(|turn| spec.role_word(turn.role).is_some());
    let (mut bytes, mut left_out) = (0_usize, false);
    let (mut roles, mut texts) = (Vec::new(), Vec::new());
    for turn in with_word {
        if spec.history() == History::Question && (turn.role != Role::User || judged != Role::Assistant) {
            continue;
        }
        let text = turn.text.trim();
        bytes = bytes.saturating_add(text.len());
        if bytes > budget.saturating_mul(BYTES_PER_UNIT) || roles.len() >= budget {
            left_out = true;
            break;
        }
        roles.push(turn.role);
        texts.push(text);
        if spec.history() == History::Question {
            break;
        }
    }
    roles.reverse();
    texts.reverse();
    (Shown { roles, texts }, left_out)
}

/// The number of the oldest turns whose sizes together make up for `excess`; at least one.
fn turns_to_drop<M: Measure>(shown: &Shown<'_>, excess: usize, measure: &M) -> Result<usize, String> {
    let (mut size, history) = (0, shown.texts.len() - 1);
    for (index, text) in shown.texts[..history].iter().enumerate() {
        size += measure.text(text)? + measure.turn_overhead();
        if size >= excess {
            return Ok(index + 1);
        }
    }
    Ok(history)
}

/// The part of a text that is looked at for a prompt of `budget` units.
fn clip(text: &str, budget: usize, keep: Keep) -> &str {
    let bytes = budget.saturating_mul(BYTES_PER_UNIT);
    if text.len() <= bytes {
        return text;
    }
    match keep {
        Keep::Start => &text[..text.floor_char_boundary(bytes)],
        Keep::End => &text[text.ceil_char_boundary(text.len() - bytes)..],
    }
}
