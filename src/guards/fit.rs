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
/// The text of probes: an ordinary word.
pub(super) const PROBE: &str = "word";
/// The greatest number of attempts to find the turns, or the part of the judged turn, that fit.
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

    let (prompt, size) = measure.prompt(&shown.roles, &shown.texts).map_err(failed)?;
    if size <= budget {
        return Ok(Fitted { prompt, cut });
    }
    let judged_alone = [judged.role];
    let base = measure.prompt(&judged_alone, &[text]).map_err(failed)?.1;
    let prompt = if base <= budget {
        with_newest_turns(&shown, budget, base, measure).map_err(failed)?
    } else {
        let fixed = base.saturating_sub(measure.text(text).map_err(failed)?);
        let prompt = with_part_of_judged(&judged_alone, text, spec.keep(), budget, fixed, measure);
        let no_room = || PromptError::NoRoom { spec: spec.name().to_owned(), fixed, budget, unit: M::UNIT };
        prompt.map_err(failed)?.ok_or_else(no_room)?
    };
    Ok(Fitted { prompt, cut: true })
}

/// The prompt with as many of the newest turns as fit, where the judged turn alone takes `base`.
fn with_newest_turns<M: Measure>(
    shown: &Shown<'_>,
    budget: usize,
    base: usize,
    measure: &M,
) -> Result<M::Prompt, String> {
    let last = shown.roles.len() - 1;
    let overheads = turn_overheads(&shown.roles, measure)?;
    let overhead =
        |role: Role| overheads.iter().find(|(known, _)| *known == role).map_or(0, |(_, size)| *size);
    let (mut room, mut most) = (budget - base, last);
    for _ in 0..MAX_ATTEMPTS {
        let (mut kept, mut size) = (0, 0);
        while kept < most {
            let turn = last - kept - 1;
            size += measure.text(shown.texts[turn])? + overhead(shown.roles[turn]);
            if size > room {
                break;
            }
            kept += 1;
        }
        if kept == 0 {
            break;
        }
        let first = last - kept;
        let (prompt, size) = measure.prompt(&shown.roles[first..], &shown.texts[first..])?;
        if size <= budget {
            return Ok(prompt);
        }
        // The sizes of turns do not add up exactly.
        (room, most) = (room.saturating_sub(size - budget), kept - 1);
    }
    Ok(measure.prompt(&shown.roles[last..], &shown.texts[last..])?.0)
}

/// The sizes of earlier turns beside their texts, by role, if the last of these roles is judged.
fn turn_overheads<M: Measure>(roles: &[Role], measure: &M) -> Result<Vec<(Role, usize)>, String> {
    let Some((&judged, earlier)) = roles.split_last() else { return Ok(Vec::new()) };
    let without = measure.prompt(&[judged], &[PROBE])?.1 + measure.text(PROBE)?;
    let with_turn = Role::ALL.into_iter().filter(|role| earlier.contains(role));
    let size = |role| measure.prompt(&[role, judged], &[PROBE, PROBE]).map(|(_, size)| size);
    with_turn.map(|role| Ok((role, size(role)?.saturating_sub(without)))).collect()
}

/// The prompt with the part of the judged turn that fits beside the fixed parts; `None` if nothing does.
fn with_part_of_judged<M: Measure>(
    role: &[Role],
    text: &str,
    keep: Keep,
    budget: usize,
    fixed: usize,
    measure: &M,
) -> Result<Option<M::Prompt>, String> {
    let mut room = budget.saturating_sub(fixed);
    for _ in 0..MAX_ATTEMPTS {
        if room == 0 {
            break;
        }
        let part = measure.part(text, room, keep)?;
        let (prompt, size) = measure.prompt(role, &[&text[part]])?;
        if size <= budget {
            return Ok(Some(prompt));
        }
        room = room.saturating_sub(size - budget);
    }
    Ok(None)
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
