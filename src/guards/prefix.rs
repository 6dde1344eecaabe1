//! The ids that all prompts of a spec begin with.

use super::error::SpecError;
use super::raw::History;
use super::runs::RunEncoder;
use super::spec::GuardSpec;
use crate::core::event::Role;

/// Texts that begin with every kind of character that may join with the words before it.
const PROBES: &[&str] = &[
    "word", "Word", "7", "-", "\"", "'s", "<", "[", ">", ":", ".", " x", "\nx", "\tx", "é", "\u{301}", "你",
    "😀", "",
];
/// The number of tokens by which the prefix ends before the first difference within a run. A vocabulary may look a few
/// characters ahead, but no further than a word.
const MARGIN: usize = 4;

/// Finds the prefix of the prompts in which a turn of this role is judged.
///
/// The prefix is what a set of probes has in common. If the probes differ within a run of words and text, the prefix ends
/// [`MARGIN`] tokens earlier or at the last control token before the difference. Every prompt is checked against the prefix
/// when it is encoded.
///
/// # Errors
/// Returns `Invalid` if the template or the tokenizer fails.
pub(super) fn of_role(spec: &GuardSpec, runs: &RunEncoder, judged: Role) -> Result<Vec<u32>, SpecError> {
    let mut common: Option<Vec<u32>> = None;
    for shown in shapes(spec, judged) {
        for probe in PROBES {
            let ids = runs.prompt(spec, &shown, &vec![*probe; shown.len()])?;
            match &mut common {
                None => common = Some(ids),
                Some(common) => {
                    let same = common.iter().zip(&ids).take_while(|(a, b)| a == b).count();
                    common.truncate(same);
                }
            }
        }
    }
    let mut common = common.unwrap_or_default();
    let behind_control = common.iter().rev().take_while(|id| !runs.is_special(**id)).count();
    common.truncate(common.len() - behind_control.min(MARGIN));
    Ok(common)
}

/// Role sequences that end with the judged role: it alone, and behind each role that the template shows.
fn shapes(spec: &GuardSpec, judged: Role) -> Vec<Vec<Role>> {
    let before: Vec<Role> = match spec.history() {
        History::All => Role::ALL.into_iter().filter(|role| spec.role_word(*role).is_some()).collect(),
        History::Question if judged == Role::Assistant => vec![Role::User],
        History::Question => Vec::new(),
    };
    let mut shapes = vec![vec![judged]];
    for &role in &before {
        shapes.push(vec![role, judged]);
        shapes.extend(before.iter().map(|other| vec![role, *other, judged]));
    }
    shapes
}
