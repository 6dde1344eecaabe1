//! The tokens that a verdict begins with.

use super::error::SpecError;
use super::spec::GuardSpec;

/// The tokens of which one follows the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictTokens {
    /// Those that begin an unsafe verdict.
    pub harmful: Vec<u32>,
    /// Those that begin a safe verdict.
    pub safe: Vec<u32>,
}

impl VerdictTokens {
    /// Finds the first token of each verdict behind the end of a prompt.
    ///
    /// # Errors
    /// Returns `Invalid` if a string joins with the text before it, or if an unsafe and a safe string begin with the same
    /// token.
    pub(super) fn resolve(
        spec: &GuardSpec,
        end_of_prompt: &str,
        encode: impl Fn(&str) -> Result<Vec<u32>, SpecError>,
    ) -> Result<Self, SpecError> {
        let before = encode(end_of_prompt)?;
        let first = |field: &str, word: &String| {
            let ids = encode(&format!("{end_of_prompt}{word}"))?;
            ids.strip_prefix(before.as_slice()).and_then(|rest| rest.first().copied()).ok_or_else(|| {
                let problem = format!("{word:?} joins with the text before it in this vocabulary");
                let remedy = "move the white space between verdict.force and the strings";
                SpecError::invalid(spec.name(), field, problem, remedy)
            })
        };
        let all = |field: &str, words: &[String]| {
            let mut ids = words.iter().map(|word| first(field, word)).collect::<Result<Vec<_>, _>>()?;
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        };
        let harmful: Vec<u32> = all("verdict.unsafe", spec.harmful_strings())?;
        let safe: Vec<u32> = all("verdict.safe", spec.safe_strings())?;
        if let Some(id) = harmful.iter().find(|id| safe.contains(id)) {
            let problem = format!("a string begins with token {id}, as does one of verdict.unsafe");
            let remedy = "choose verdict strings that differ in their first token";
            return Err(SpecError::invalid(spec.name(), "verdict.safe", problem, remedy));
        }
        Ok(Self { harmful, safe })
    }
}
