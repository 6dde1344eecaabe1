//! The layout of a labelled file: where a row has its conversation, its label, and the groups that it belongs to.

use serde_json::Value;

use super::labels::{Meaning, Votes};
use super::presets::{self, CategoryNames};
use crate::codec::{Defaults, EventFields, Pointer, Received, Speaker};
use crate::core::event::{Conversation, MAX_ID, Role, Turn, check_turns};

/// The maximum length of a category, a language or a kind, in characters. Longer ones are cut.
const MAX_NAME: usize = 80;
/// The maximum number of categories of a row.
const MAX_CATEGORIES: usize = 64;

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
    fn pointer(&self) -> String {
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

/// Where the judged turn is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TextAt {
    /// One text, with the user's text before it if there is a context.
    Text { field: Field, role: RoleAt, context: Option<Field> },
    /// A list of turns, of which the last is judged.
    Turns(Field),
}

/// Where the role of the judged turn is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RoleAt {
    Always(Role),
    Field(Field),
}

/// Where the label is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LabelAt {
    /// The votes of one or several fields.
    Votes(Vec<Field>),
    /// Numbers for harms, each of which makes the row unsafe from .5. Negative ones are unknown.
    Harms(Vec<(Field, &'static str)>),
    /// A list of categories by each annotator, separated by commas: `Safe`, `Needs Caution`, or harms.
    CategoryVotes(Vec<Field>),
}

/// Where the categories are.
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

/// Where the kind of an attack is.
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

/// The error of a row: the field and the problem.
pub(super) type FieldError = String;

fn in_field(field: &Field, why: &str) -> FieldError {
    format!("field {:?} {why}", field.0)
}

fn cut(name: &str) -> String {
    name.trim().chars().take(MAX_NAME).collect()
}

impl Layout {
    /// Returns the samples of a row, or the reasons for which its parts have none. `place` is the id of a row without one.
    ///
    /// # Errors
    /// Returns the field and the problem if a part of the row cannot be read.
    pub(super) fn samples(
        &self,
        row: &Value,
        place: &str,
    ) -> Result<(Vec<Sample>, Option<Skipped>), FieldError> {
        if !row.is_object() {
            return Err("the row is not a JSON object".to_owned());
        }
        let id = match self.id.as_ref().map(|field| (field, field.get(row))) {
            Some((_, Some(Value::String(id)))) => id.clone(),
            Some((_, Some(Value::Number(id)))) => id.to_string(),
            Some((field, Some(_))) => return Err(in_field(field, "is neither a text nor a number")),
            Some((field, None)) => return Err(in_field(field, "is missing")),
            None => place.to_owned(),
        };
        let (mut samples, mut skipped) = (Vec::new(), None);
        for part in &self.parts {
            match self.sample(part, row, &id)? {
                Ok(sample) => samples.push(sample),
                Err(why) => skipped = Some(why),
            }
        }
        Ok((samples, skipped))
    }

    fn sample(&self, part: &Part, row: &Value, id: &str) -> Result<Result<Sample, Skipped>, FieldError> {
        let (target, found) = self.target(&part.label, row)?;
        let Some(target) = target else { return Ok(Err(Skipped::Unlabelled)) };
        let conversation = part.text.conversation(row)?;
        if part.redacted.is_some_and(|word| conversation.judged_text() == word) {
            return Ok(Err(Skipped::Redacted));
        }
        check_turns(&conversation.turns, conversation.judged).map_err(|error| error.to_string())?;
        let mut groups = Vec::new();
        let categories = match &part.categories {
            CategoriesAt::Nowhere => Vec::new(),
            CategoriesAt::Label => found,
            CategoriesAt::Field { field, split, names } => categories(field, *split, *names, row)?,
        };
        groups.extend(categories.into_iter().map(|name| (Dimension::Category, name)));
        if let Some(Value::String(language)) = part.language.as_ref().and_then(|field| field.get(row)) {
            groups.push((Dimension::Language, cut(language)));
        }
        groups.push((Dimension::Role, conversation.judged_turn().role.word().to_owned()));
        groups.extend(part.kind.of(row).map(|kind| (Dimension::Kind, kind)));
        let id: String = format!("{id}{}", part.suffix);
        let id = if id.len() <= MAX_ID { id } else { id.chars().take(MAX_ID / 4).collect() };
        Ok(Ok(Sample { id, conversation, target, groups }))
    }

    /// Returns the target, which is `None` without a vote, and the categories that the label names.
    fn target(&self, label: &LabelAt, row: &Value) -> Result<(Option<f64>, Vec<String>), FieldError> {
        let mut votes = Votes::default();
        match label {
            LabelAt::Votes(fields) => {
                for field in fields {
                    let Some(label) = field.get(row) else { continue };
                    self.meaning.add(label, &mut votes).map_err(|why| in_field(field, why))?;
                }
                Ok((votes.mean(), Vec::new()))
            }
            LabelAt::Harms(fields) => {
                let mut found = Vec::new();
                let mut target: Option<f64> = None;
                for (field, slug) in fields {
                    let Some(value) = field.get(row) else { continue };
                    let value = number(value).ok_or_else(|| in_field(field, "is no number"))?;
                    if value < 0.0 {
                        continue;
                    }
                    if value > 1.0 {
                        return Err(in_field(field, "is a number above 1"));
                    }
                    target = Some(target.map_or(value, |known| known.max(value)));
                    if value >= 0.5 && !slug.is_empty() && !found.iter().any(|known| known == slug) {
                        found.push((*slug).to_owned());
                    }
                }
                Ok((target, found))
            }
            LabelAt::CategoryVotes(fields) => presets::category_votes(fields, self.meaning.caution, row)
                .map_err(|(field, why)| in_field(field, why)),
        }
    }
}

/// Returns a number, which may be written as a text.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        other => other.as_f64(),
    }
}

/// Returns the categories of a field, with the taxonomy's slugs where `names` has them.
fn categories(
    field: &Field,
    split: bool,
    names: CategoryNames,
    row: &Value,
) -> Result<Vec<String>, FieldError> {
    let mut found: Vec<String> = Vec::new();
    let mut take = |name: &str| {
        let name = names
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name.trim()))
            .map_or(name, |(_, slug)| slug);
        let name = cut(name);
        if !name.is_empty() && !found.contains(&name) && found.len() < MAX_CATEGORIES {
            found.push(name);
        }
    };
    let mut take_text = |text: &str| {
        if split { text.split(',').for_each(&mut take) } else { take(text) }
    };
    match field.get(row) {
        None => {}
        Some(Value::String(text)) => take_text(text),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).for_each(take_text),
        Some(Value::Object(flags)) => {
            let is_set = |value: &Value| number(value).is_some_and(|value| value >= 0.5);
            flags.iter().filter(|(_, value)| is_set(value)).for_each(|(name, _)| take(name));
        }
        Some(_) => return Err(in_field(field, "is neither a text, a list nor an object of flags")),
    }
    Ok(found)
}

impl KindAt {
    fn of(&self, row: &Value) -> Option<String> {
        match self {
            Self::Nowhere => None,
            Self::Field(field) => match field.get(row)? {
                Value::String(text) => Some(cut(text)).filter(|kind| !kind.is_empty()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Number(value) => Some(value.to_string()),
                _ => None,
            },
            Self::Flag { field, yes, no } => {
                let is_set = match field.get(row)? {
                    Value::String(text) if text.eq_ignore_ascii_case("true") => true,
                    value => number(value).is_some_and(|value| value >= 0.5),
                };
                Some(if is_set { (*yes).to_owned() } else { (*no).to_owned() })
            }
        }
    }
}

fn text(field: &Field, row: &Value) -> Result<String, FieldError> {
    match field.get(row) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(in_field(field, "is not a text")),
        None => Err(in_field(field, "is missing")),
    }
}

impl TextAt {
    fn conversation(&self, row: &Value) -> Result<Conversation, FieldError> {
        match self {
            Self::Text { field, role, context } => {
                let before = context.as_ref().map(|field| text(field, row)).transpose()?;
                let mut turns: Vec<Turn> =
                    before.into_iter().map(|text| Turn { role: Role::User, text }).collect();
                turns.push(Turn { role: role.of(row)?, text: text(field, row)? });
                Ok(Conversation { judged: turns.len() - 1, turns })
            }
            Self::Turns(field) => turns(field, row),
        }
    }
}

impl RoleAt {
    fn of(&self, row: &Value) -> Result<Role, FieldError> {
        let field = match self {
            Self::Always(role) => return Ok(*role),
            Self::Field(field) => field,
        };
        match field.get(row) {
            None => Ok(Role::User),
            Some(Value::String(word)) => presets::role(word)
                .ok_or_else(|| in_field(field, "is no role: user, assistant, system or tool")),
            Some(_) => Err(in_field(field, "is not a text")),
        }
    }
}

/// Reads a list of turns as the topics of events do. The names of a turn's fields are those of its first turn.
fn turns(field: &Field, row: &Value) -> Result<Conversation, FieldError> {
    let first = field.get(row).and_then(|list| list.get(0));
    let named = |names: &[&'static str]| {
        names.iter().find(|name| first.is_some_and(|turn| turn.get(**name).is_some())).copied()
    };
    let pointer = |text: String| Pointer::try_from(text).map_err(|why| in_field(field, &why));
    let own = |name: Option<&str>| pointer(name.map(|name| format!("/{name}")).unwrap_or_default());
    let fields = EventFields {
        turns: pointer(field.pointer())?,
        turn_role: own(named(&["role", "from", "speaker"]))?,
        turn_text: own(named(&["content", "text", "value"]))?,
        role: Speaker::User,
        roles: presets::speakers(),
        ..EventFields::default()
    };
    let defaults = Defaults {
        tenant: "-".to_owned(),
        policy: "-".to_owned(),
        event_fields: Some(fields),
        ..Defaults::default()
    };
    let json = row.to_string();
    let received = Received::plain(json.as_bytes()).at("row", 0, 0);
    let event =
        received.event(&defaults).map_err(|error| in_field(field, &format!("cannot be read: {error}")))?;
    Ok(Conversation { turns: event.turns, judged: event.judged })
}
