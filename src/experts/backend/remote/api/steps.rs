//! The probabilities of generated tokens, in the forms in which servers write them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The greatest number of generated tokens that are looked at.
const MAX_STEPS: usize = 256;

/// A generated token with its alternatives, each with the logarithm of its probability.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    pub(super) token: String,
    pub(super) top: Vec<(String, f64)>,
}

/// The alternatives to a token, by token.
type Alternatives = BTreeMap<String, Option<f64>>;

/// `logprobs` of a choice. The first form that fits is taken, and `Content` fits any object.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Logprobs {
    /// Completions of OpenAI and vLLM.
    Parallel { tokens: Vec<String>, top_logprobs: Option<Vec<Option<Alternatives>>> },
    /// Chat completions, and completions of llama.cpp.
    Content { content: Option<Vec<ContentToken>> },
    /// A form that is not known. It is as if there were none.
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
pub(super) struct ContentToken {
    token: String,
    #[serde(default)]
    top_logprobs: Vec<Alternative>,
}

#[derive(Deserialize)]
struct Alternative {
    token: String,
    logprob: Option<f64>,
}

impl Logprobs {
    pub(super) fn into_steps(self) -> Vec<Step> {
        match self {
            Self::Content { content } => {
                let alternative = |one: Alternative| Some((one.token, one.logprob?));
                let step = |one: ContentToken| Step {
                    token: one.token,
                    top: one.top_logprobs.into_iter().filter_map(alternative).collect(),
                };
                content.into_iter().flatten().take(MAX_STEPS).map(step).collect()
            }
            Self::Parallel { tokens, top_logprobs } => {
                let mut top = top_logprobs.into_iter().flatten();
                let step = |token: String| {
                    let top = top.next().flatten().unwrap_or_default().into_iter();
                    Step { token, top: top.filter_map(|(token, logprob)| Some((token, logprob?))).collect() }
                };
                tokens.into_iter().take(MAX_STEPS).map(step).collect()
            }
            Self::Other(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(json: &str) -> Vec<(String, Vec<(String, f64)>)> {
        let logprobs: Logprobs = serde_json::from_str(json).unwrap();
        logprobs.into_steps().into_iter().map(|step| (step.token, step.top)).collect()
    }

    #[test]
    fn both_forms_are_read() {
        let expected = vec![("a".to_owned(), vec![("a".to_owned(), -0.5), ("b".to_owned(), -1.5)])];
        let chat = r#"{"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [
            {"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}, {"token": "c", "logprob": null}]}]}"#;
        assert_eq!(steps(chat), expected);
        let parallel =
            r#"{"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": -1.5}]}"#;
        assert_eq!(steps(parallel), expected);
        assert_eq!(steps(r#"{"tokens": ["a"], "top_logprobs": null}"#), [("a".to_owned(), Vec::new())]);
        for none in [r#"{"content": null}"#, "[1, 2]", "{\"content\": [{\"token\": 7}]}"] {
            assert!(steps(none).is_empty(), "{none}");
        }
    }
}
