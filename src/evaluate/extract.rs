//! Reads the samples of a row by its layout.

use serde_json::Value;

use super::labels::Votes;
use super::layout::{
    CategoriesAt, Dimension, Field, KindAt, LabelAt, Layout, Part, RoleAt, Sample, Skipped, TextAt,
};
use super::presets::{self, CategoryNames, TargetAndCategories};
use crate::codec::{Defaults, EventFields, Pointer, Received, Speaker};
use crate::core::event::{Conversation, MAX_ID, Role, Turn, check_turns};

/// The maximum length of a category, a language or a kind, in characters. Longer ones are cut.
const MAX_NAME: usize = 80;
/// The maximum number of categories of a row.
const MAX_CATEGORIES: usize = 64;

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
            CategoriesAt::Field { field, split, names } => categories(field, *split, names, row)?,
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
    fn target(&self, label: &LabelAt, row: &Value) -> Result<TargetAndCategories, FieldError> {
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
