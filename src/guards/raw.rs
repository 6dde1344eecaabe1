//! A guard spec as written in TOML.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::event::Role;

/// The keys of a spec. The order of the fields is part of the spec's version.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpec {
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) licence: String,
    #[serde(default)]
    pub(super) languages: Vec<String>,
    pub(super) context: usize,
    pub(super) off_template_limit: f64,
    #[serde(default)]
    pub(super) keep: Keep,
    #[serde(default)]
    pub(super) history: History,
    #[serde(default)]
    pub(super) policy: String,
    pub(super) template: RawTemplate,
    #[serde(default)]
    pub(super) messages: Vec<RawMessage>,
    pub(super) roles: RawRoles,
    pub(super) verdict: RawVerdict,
    pub(super) answer: RawAnswer,
    #[serde(default)]
    pub(super) categories: Vec<RawCategory>,
}

/// The part of a judged turn that stays if the turn alone is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Keep {
    /// Its beginning.
    #[default]
    Start,
    /// Its end.
    End,
}

/// The turns before the judged one that the template shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum History {
    /// All whose role has a word.
    #[default]
    All,
    /// The last user turn, if the judged turn answers it.
    Question,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTemplate {
    pub(super) text: String,
    #[serde(default)]
    pub(super) control: Vec<String>,
    /// Further control tokens of the vocabulary, which the template does not write.
    #[serde(default)]
    pub(super) reserved: Vec<String>,
    /// The token that begins every text, which the template writes.
    #[serde(default)]
    pub(super) bos_written: Option<String>,
    /// The token that begins every text, which is put before the template's text.
    #[serde(default)]
    pub(super) bos_added: Option<String>,
    #[serde(default)]
    pub(super) chat: RawChat,
}

/// The form of a prompt for a chat API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawChat {
    /// The model has no chat template, or a chat API cannot express the prompt.
    #[default]
    None,
    /// The turns. The server's template holds the policy.
    Turns,
    /// The spec's own messages, which hold the policy.
    Messages,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMessage {
    #[serde(default)]
    pub(super) role: String,
    #[serde(default)]
    pub(super) content: String,
    /// This entry stands for the turns, a message each.
    #[serde(default)]
    pub(super) turns: bool,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoles {
    pub(super) user: Option<String>,
    pub(super) assistant: Option<String>,
    pub(super) system: Option<String>,
    pub(super) tool: Option<String>,
    pub(super) judged: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVerdict {
    #[serde(default)]
    pub(super) force: String,
    #[serde(rename = "unsafe")]
    pub(super) harmful: Vec<String>,
    pub(super) safe: Vec<String>,
    #[serde(default)]
    pub(super) controversial: Vec<String>,
    #[serde(default)]
    pub(super) controversial_counts: Counts,
    /// The judged roles whose verdict is the next token. Others need the whole answer.
    #[serde(default)]
    pub(super) next_token: Option<Vec<String>>,
}

/// The side on which a controversial verdict counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Counts {
    #[default]
    Unsafe,
    Safe,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAnswer {
    pub(super) grammar: Grammar,
    pub(super) max_tokens: usize,
    /// The key of the verdict, or the name of the tag.
    #[serde(default)]
    pub(super) harmful: Option<Keys>,
    /// The key of the categories.
    #[serde(default)]
    pub(super) categories: Option<Keys>,
    /// The category of every unsafe verdict, for a guard that is asked about one risk.
    #[serde(default)]
    pub(super) implies: Option<String>,
    /// The words of the verdict in the answer, if they differ from those of `[verdict]` without white space.
    #[serde(default, rename = "unsafe")]
    pub(super) harmful_words: Vec<String>,
    #[serde(default)]
    pub(super) safe: Vec<String>,
}

/// A key for all judged roles, or one for each.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Keys {
    One(String),
    ByRole(BTreeMap<String, String>),
}

impl Keys {
    /// The key for a judged role.
    pub(super) fn of(&self, judged: Role) -> Option<&str> {
        let key = match self {
            Self::One(key) => Some(key),
            Self::ByRole(keys) => keys.get(judged.word()),
        };
        key.map(|key| key.trim()).filter(|key| !key.is_empty())
    }
}

/// The grammar of a guard's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Grammar {
    /// The first line is the verdict, the second one the codes, with commas.
    FirstLine,
    /// Lines of a key, a colon and a value.
    Lines,
    /// A JSON object.
    Json,
    /// The verdict within `<tag>` and `</tag>`, where `answer.harmful` is the tag.
    Tag,
    /// The first word is the verdict.
    FirstWord,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCategory {
    pub(super) code: String,
    #[serde(default)]
    pub(super) name: String,
    pub(super) category: String,
}
