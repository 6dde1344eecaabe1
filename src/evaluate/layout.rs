//! The layout of a labelled file: where a row has its conversation, its label, and the groups that it belongs to.

use serde_json::Value;

use super::labels::Meaning;
use super::presets::CategoryNames;
use crate::core::event::{Conversation, Role};

/// A field of a row: the name of a column, or a JSON pointer if it begins with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field(pub(super) String);

impl Field {
    /// Returns the field's value. `None` if it is missing or null.
    pub(super) fn get<'v>(&self, row: &'v Value) -> Option<&'v Value> {
        let found = if self.0.starts_with('/') { row.pointer(&self.0) } else { row.get(&self.0) };
        found.filter(|value| !value.is_null())
    }

    /// Returns the field's JSON pointer.
    pub(super) fn pointer(&self) -> String {
        if self.0.starts_with('/') {
            return self.0.clone();
        }
        format!("/{}", self.0.replace('~', "~0").replace('/', "~1"))
    }
}

impl From<&str> for Field {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// The dimensions by which samples are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dimension {
    Category,
    Language,
    Role,
    Kind,
}

impl Dimension {
    pub(super) const ALL: [Self; 4] = [Self::Category, Self::Language, Self::Role, Self::Kind];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Category => "category",
            Self::Language => "language",
            Self::Role => "role",
            Self::Kind => "kind",
        }
    }
}

/// A labelled conversation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// Its id: that of the row, or the position of the row.
    pub(super) id: String,
    pub(super) conversation: Conversation,
    /// The mean of its votes, from 0 for safe to 1 for unsafe.
    pub(super) target: f64,
    pub(super) groups: Vec<(Dimension, String)>,
}

impl Sample {
    /// Returns `true` if at least half of the votes say unsafe.
    pub(super) fn is_unsafe(&self) -> bool {
        self.target >= 0.5
    }

    pub(super) fn is_in(&self, dimension: Dimension, name: &str) -> bool {
        self.groups.iter().any(|(of, group)| *of == dimension && group == name)
    }
}

/// The place of the judged turn in a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TextAt {
    /// One text, with the user's text before it if there is a context.
    Text { field: Field, role: RoleAt, context: Option<Field> },
    /// A list of turns, of which the last is judged.
    Turns(Field),
}

/// The place of the judged turn's role.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RoleAt {
    Always(Role),
    Field(Field),
}

/// The place of the label.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LabelAt {
    /// The votes of one or several fields.
    Votes(Vec<Field>),
    /// Numbers for harms, each of which makes the row unsafe from .5. Negative ones are unknown.
    Harms(Vec<(Field, &'static str)>),
    /// A list of categories by each annotator, separated by commas: `Safe`, `Needs Caution`, or harms.
    CategoryVotes(Vec<Field>),
}

/// The place of the categories.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CategoriesAt {
    Nowhere,
    /// A text, a list of texts, or an object of flags. With `split`, texts are separated by commas.
    Field {
        field: Field,
        split: bool,
        names: CategoryNames,
    },
    /// The harms of the label.
    Label,
}

/// The place of the kind of an attack.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum KindAt {
    Nowhere,
    Field(Field),
    /// A flag, and the names of rows with it and without it.
    Flag {
        field: Field,
        yes: &'static str,
        no: &'static str,
    },
}

/// One judged turn of a row. Some layouts have a prompt and a response, each with a label of its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// The end of the ids of this part's samples, if a row has several parts.
    pub(super) suffix: &'static str,
    pub(super) text: TextAt,
    pub(super) label: LabelAt,
    pub(super) categories: CategoriesAt,
    pub(super) language: Option<Field>,
    pub(super) kind: KindAt,
    /// A text that stands for one that was taken out.
    pub(super) redacted: Option<&'static str>,
}

/// The layout of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) id: Option<Field>,
    pub(super) parts: Vec<Part>,
    pub(super) meaning: Meaning,
}

/// The reason for which a part of a row gives no sample. That is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skipped {
    Unlabelled,
    Redacted,
}

impl Skipped {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unlabelled => "without a label",
            Self::Redacted => "with a redacted text",
        }
    }
}
