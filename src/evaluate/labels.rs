//! The value of a label: a verdict, a number, or the votes of several annotators, as a target from 0 to 1.

use serde_json::Value;

/// Words that mean unsafe without `--unsafe-words`, in lower case. Numbers and booleans are compared as they are written.
const UNSAFE: [&str; 9] =
    ["unsafe", "harmful", "hateful", "toxic", "true", "yes", "flagged", "block", "violation"];
/// Words that mean safe without `--safe-words`.
const SAFE: [&str; 13] = [
    "safe",
    "unharmful",
    "harmless",
    "non-hateful",
    "non-toxic",
    "nontoxic",
    "benign",
    "false",
    "no",
    "none",
    "not flagged",
    "allow",
    "neither",
];
/// Words that mean Needs Caution.
const CAUTION: [&str; 3] = ["needs caution", "needs_caution", "needs-caution"];

/// Words that are no vote.
const NO_VOTE: [&str; 5] = ["unsure", "unclear", "unknown", "n/a", "nan"];
/// The greatest number of votes of a word. Sums of greater ones would overflow.
const MAX_COUNT: f64 = 1e9;

/// The problem of a label that has no value. It does not quote the label.
pub(super) const NO_VERDICT: &str =
    "is no verdict: name your words with --unsafe-words and --safe-words, or a severity with --unsafe-from";
/// The problem of a number that is neither a share nor a known word.
pub(super) const NO_SHARE: &str = "is a number outside of 0 to 1: give the least unsafe one with --unsafe-from, or name them with --unsafe-words";

/// The meaning of labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meaning {
    /// Words for unsafe that come before the default ones, in lower case.
    pub(super) unsafe_words: Vec<String>,
    /// Words for safe that come before the default ones, in lower case.
    pub(super) safe_words: Vec<String>,
    /// The least number that is unsafe. Without it, a number from 0 to 1 is the target itself.
    pub(super) unsafe_from: Option<f64>,
    /// The target of Needs Caution.
    pub(super) caution: f64,
}

impl Default for Meaning {
    fn default() -> Self {
        Self { unsafe_words: Vec::new(), safe_words: Vec::new(), unsafe_from: None, caution: 1.0 }
    }
}

/// The sum and the weight of the votes in a label.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Votes {
    sum: f64,
    weight: f64,
}

impl Votes {
    /// Adds a vote with a weight.
    pub(super) fn add(&mut self, vote: f64, weight: f64) {
        self.sum += vote * weight;
        self.weight += weight;
    }

    /// Returns the mean of the votes. `None` if there are none.
    pub(super) fn mean(self) -> Option<f64> {
        (self.weight > 0.0).then(|| (self.sum / self.weight).clamp(0.0, 1.0))
    }
}

impl Meaning {
    /// Returns the value of a word, and 1; or 0 and 0 for a word that is no vote. `None` if the word is not known.
    fn word(&self, word: &str) -> Option<(f64, f64)> {
        let word = word.trim().to_lowercase();
        let own = |words: &[String]| words.contains(&word);
        let known = |words: &[&str]| words.contains(&word.as_str());
        if own(&self.unsafe_words) {
            Some((1.0, 1.0))
        } else if own(&self.safe_words) {
            Some((0.0, 1.0))
        } else if known(&CAUTION) {
            Some((self.caution, 1.0))
        } else if known(&UNSAFE) {
            Some((1.0, 1.0))
        } else if known(&SAFE) {
            Some((0.0, 1.0))
        } else {
            known(&NO_VOTE).then_some((0.0, 0.0))
        }
    }

    fn number(&self, number: f64, written: &str) -> Result<f64, &'static str> {
        let own = |words: &[String]| words.iter().any(|word| word == written);
        match (own(&self.unsafe_words), own(&self.safe_words), self.unsafe_from) {
            (true, ..) => Ok(1.0),
            (_, true, _) => Ok(0.0),
            (.., Some(least)) => Ok(f64::from(u8::from(number >= least))),
            _ if (0.0..=1.0).contains(&number) => Ok(number),
            _ => Err(NO_SHARE),
        }
    }

    /// Adds the votes of a label to `votes`. A list has a vote in each element. An object has the votes of named
    /// annotators, or numbers of votes by word. `null`, an empty text and words such as
    /// `unsure` are no vote.
    ///
    /// # Errors
    /// Returns the problem if the label has no meaning.
    pub(super) fn add(&self, label: &Value, votes: &mut Votes) -> Result<(), &'static str> {
        match label {
            Value::Null => Ok(()),
            Value::Bool(value) => {
                let (vote, weight) = self.word(if *value { "true" } else { "false" }).ok_or(NO_VERDICT)?;
                votes.add(vote, weight);
                Ok(())
            }
            Value::Number(number) => {
                let value = number.as_f64().ok_or(NO_VERDICT)?;
                votes.add(self.number(value, &number.to_string())?, 1.0);
                Ok(())
            }
            Value::String(text) if text.trim().is_empty() => Ok(()),
            Value::String(text) => {
                let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
                let (vote, weight) = match (self.word(text), number) {
                    (Some(word), _) => word,
                    (None, Some(number)) => (self.number(number, text.trim())?, 1.0),
                    (None, None) => return Err(NO_VERDICT),
                };
                votes.add(vote, weight);
                Ok(())
            }
            Value::Array(labels) => labels.iter().try_for_each(|label| self.add(label, votes)),
            Value::Object(labels) => {
                let count = |value: &Value| value.as_f64().filter(|count| (0.0..=MAX_COUNT).contains(count));
                let words = labels.keys().all(|word| self.word(word).is_some());
                if words && labels.values().all(|value| count(value).is_some()) {
                    for (word, value) in labels {
                        let (vote, weight) = self.word(word).unwrap_or_default();
                        votes.add(vote, weight * count(value).unwrap_or_default());
                    }
                    return Ok(());
                }
                labels.values().try_for_each(|label| self.add(label, votes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(meaning: &Meaning, label: Value) -> Result<Option<f64>, &'static str> {
        let mut votes = Votes::default();
        meaning.add(&label, &mut votes).map(|()| votes.mean())
    }

    #[test]
    fn verdicts_numbers_and_votes_have_a_target() {
        let plain = Meaning { caution: 0.5, ..Meaning::default() };
        for (label, expected) in [
            (json!(true), 1.0),
            (json!("Unharmful"), 0.0),
            (json!(" Needs Caution "), 0.5),
            (json!(0.25), 0.25),
            (json!("1"), 1.0),
            (json!(["safe", "unsafe", null, "unsafe", ""]), 2.0 / 3.0),
            (json!({"rater 1": "safe", "rater 2": true}), 0.5),
            (json!({"unsafe": 3, "safe": 1, "unsure": 6}), 0.75),
        ] {
            assert_eq!(target(&plain, label.clone()), Ok(Some(expected)), "{label}");
        }
        for nothing in [json!(null), json!(""), json!([]), json!([null]), json!("unsure"), json!("NaN")] {
            assert_eq!(target(&plain, nothing), Ok(None));
        }
        assert_eq!(target(&plain, json!("inf")), Err(NO_VERDICT));
        assert_eq!(target(&plain, json!("perhaps")), Err(NO_VERDICT));
        assert_eq!(target(&plain, json!(2)), Err(NO_SHARE));
        assert_eq!(target(&plain, json!({"unsafe": 1e308, "harmful": 1e308})), Err(NO_SHARE));
    }

    #[test]
    fn own_words_and_a_severity_come_first() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let own = Meaning {
            unsafe_words: words(&["hate", "-3", "false"]),
            safe_words: words(&["offensive", "neither", "0"]),
            ..Meaning::default()
        };
        assert_eq!(target(&own, json!({"hate": 1, "offensive": 1, "neither": 2})), Ok(Some(0.25)));
        assert_eq!(target(&own, json!(-3)), Ok(Some(1.0)));
        assert_eq!(target(&own, json!("0")), Ok(Some(0.0)));
        assert_eq!(target(&own, json!(false)), Ok(Some(1.0)));
        let severity = Meaning { unsafe_from: Some(2.0), ..Meaning::default() };
        assert_eq!(target(&severity, json!([1, 2, "3", 0])), Ok(Some(0.5)));
    }
}
