//! Records of labelling tools: several people's annotations in one record, and those that are left out.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::label::LabelFields;
use super::pointer::{Pointer, RecordReader};
use crate::codec::error::DecodeError;
use crate::codec::tree::Node;

/// Greatest number of annotations in a record.
const MAX_ANNOTATIONS: usize = 64;

/// Values in the configuration, as their texts: one, or a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "serde_json::Value")]
pub struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValuesVisitor)
    }
}

struct ValuesVisitor;

impl<'de> Visitor<'de> for ValuesVisitor {
    type Value = Values;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a text, a number, true, false, or a list of these")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Values, E> {
        Ok(Values(vec![value.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Values, A::Error> {
        let mut all = Vec::new();
        while let Some(Values(one)) = from.next_element()? {
            all.extend(one);
        }
        Ok(Values(all))
    }
}

impl Values {
    /// Returns `true` if the value found in a record is one of these; `""` stands for nothing and for what is empty.
    fn have(&self, found: Option<&Node<'_>>) -> bool {
        let empty = match found {
            None | Some(Node::Null) => true,
            Some(Node::Text(text)) => text.is_empty(),
            Some(Node::List(items)) => items.is_empty(),
            Some(Node::Object(fields)) => fields.is_empty(),
            Some(Node::Bool(_) | Node::Number(_)) => false,
        };
        // A choice is a list, also where only one can be made.
        let only = match found {
            Some(Node::List(items)) if items.len() == 1 => items.first(),
            found => found,
        };
        self.0
            .iter()
            .any(|word| if word.is_empty() { empty } else { only.is_some_and(|only| only.means(word)) })
    }
}

/// A label's place in its record.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelPosition<'p> {
    list: &'p Pointer,
    item: Option<usize>,
}

impl LabelPosition<'_> {
    /// The pointer of this label: where it goes through the list of annotations, `*` is this label's item.
    pub(super) fn of<'p>(&self, pointer: &'p Pointer) -> Cow<'p, str> {
        match (through(self.list, pointer), self.item) {
            (Some(rest), Some(item)) => Cow::Owned(format!("{}/{item}{rest}", self.list.as_str())),
            _ => Cow::Borrowed(pointer.as_str()),
        }
    }
}

/// What follows `LIST/*` in a pointer that goes through the list.
fn through<'p>(list: &Pointer, pointer: &'p Pointer) -> Option<&'p str> {
    let rest = pointer.as_str().strip_prefix(list.given()?)?.strip_prefix("/*")?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Checks the settings about annotations.
pub(super) fn check(fields: &LabelFields) -> Result<(), String> {
    let list = &fields.annotations;
    for pointer in fields.skip_if.keys() {
        if pointer.is_empty() {
            return Err(
                "label_fields.skip_if has an empty pointer: write where the value is, as in \"/answer\""
                    .into(),
            );
        }
    }
    for (pointer, values) in &fields.skip_if {
        if values.0.is_empty() {
            let at = pointer.as_str();
            return Err(format!("label_fields.skip_if.{at:?} has no values: name those that are left out"));
        }
    }
    stars(fields)?;
    let Some(given) = list.given() else { return Ok(()) };
    for (name, pointer) in
        [("event_id", &fields.event_id), ("tenant", &fields.tenant), ("policy", &fields.policy)]
    {
        if through(list, pointer).is_some() {
            return Err(format!(
                "label_fields.{name} leads into label_fields.annotations: all labels of a record are about one event, so \
                 point to a field beside the list"
            ));
        }
    }
    if through(list, &fields.verdict).is_none() && through(list, &fields.severity).is_none() {
        return Err(format!(
            "label_fields.annotations is set, and neither verdict nor severity leads into it: begin one of them with \
             \"{given}/*/\""
        ));
    }
    if !fields.id.is_empty() && through(list, &fields.id).is_none() {
        return Err(format!(
            "label_fields.id does not lead into label_fields.annotations, so that all labels of a record would have one \
             id: begin it with \"{given}/*/\", or leave it out and begin label_fields.annotator so"
        ));
    }
    if through(list, &fields.annotator).is_none() && through(list, &fields.id).is_none() {
        return Err(format!(
            "label_fields.annotations is set, and its labels could not be told apart: begin label_fields.annotator or \
             label_fields.id with \"{given}/*/\""
        ));
    }
    Ok(())
}

/// Refuses a step `*` that is not the item of the list of annotations: a list has no such item, and a field of that
/// name is not met.
fn stars(fields: &LabelFields) -> Result<(), String> {
    let list = &fields.annotations;
    let skips = fields.skip_if.keys().map(|pointer| ("skip_if", pointer));
    for (name, pointer) in fields.pointers().into_iter().chain(skips) {
        let rest = through(list, pointer).unwrap_or(pointer.as_str());
        if !rest.split('/').any(|step| step == "*") {
            continue;
        }
        let found = pointer.as_str();
        return Err(match list.given() {
            None => format!(
                "label_fields.{name} has * in {found:?} and label_fields.annotations is not set: set that to the list of \
                 annotations"
            ),
            Some(_) if name == "annotations" => format!(
                "label_fields.annotations has * in {found:?}, which stands for an item of the list itself: write the \
                 pointer to the list"
            ),
            Some(given) => format!(
                "label_fields.{name} has * in {found:?} where it is not the item of label_fields.annotations: write * only \
                 in \"{given}/*/\""
            ),
        });
    }
    Ok(())
}

/// The labels of a record that are not left out.
pub(super) fn of<'p>(
    fields: &'p LabelFields,
    record: RecordReader<'_, '_>,
) -> Result<Vec<LabelPosition<'p>>, DecodeError> {
    let list = &fields.annotations;
    let Some(at) = list.given() else {
        let one = LabelPosition { list, item: None };
        // What leaves out one numbered annotation says nothing of the others.
        let numbered = numbered(fields);
        let inside = |pointer: &Pointer| numbered.iter().any(|item| within(pointer.as_str(), item));
        if skipped(fields, record, one, |pointer| !inside(pointer))? {
            return Ok(Vec::new());
        }
        alone(fields, &numbered, record)?;
        let left_out = skipped(fields, record, one, inside)?;
        return Ok(if left_out { Vec::new() } else { vec![one] });
    };
    // A record that is left out as a whole need not have a list.
    let whole = LabelPosition { list, item: None };
    if skipped(fields, record, whole, |pointer| through(list, pointer).is_none())? {
        return Ok(Vec::new());
    }
    let found = record.get("annotations", at)?.ok_or_else(|| record.missing("annotations", at))?;
    let Node::List(items) = found else { return Err(record.invalid("annotations", at, LIST)) };
    if items.len() > MAX_ANNOTATIONS {
        return Err(record.invalid("annotations", at, LIST));
    }
    let mut kept = Vec::new();
    for item in 0..items.len() {
        let one = LabelPosition { list, item: Some(item) };
        if !skipped(fields, record, one, |pointer| through(list, pointer).is_some())? {
            kept.push(one);
        }
    }
    Ok(kept)
}

const LIST: &str = "a list of at most 64 annotations";
const OTHERS: &str = "the only annotation: the list has others, which would be lost. Set annotations in the same section to \
                      the list, and write * for the item in the pointers that go through it";

/// Returns `true` if one of the pointers in `skip_if` that are `among` those asked about leaves the label out.
fn skipped(
    fields: &LabelFields,
    record: RecordReader<'_, '_>,
    at: LabelPosition<'_>,
    among: impl Fn(&Pointer) -> bool,
) -> Result<bool, DecodeError> {
    for (pointer, values) in fields.skip_if.iter().filter(|(pointer, _)| among(pointer)) {
        let found = record.get("skip_if", &at.of(pointer))?;
        if values.have(found) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lists of several people's annotations: Label Studio's and Argilla's.
const LISTS: [&str; 2] = ["annotations", "responses"];

/// Returns `true` if a pointer is that of the item, or leads into it.
fn within(pointer: &str, item: &str) -> bool {
    pointer.strip_prefix(item).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The pointers of the numbered items through which the verdict leads.
fn numbered(fields: &LabelFields) -> Vec<&str> {
    let said = if fields.verdict.is_empty() { &fields.severity } else { &fields.verdict };
    let said = said.as_str();
    let ends = said.match_indices('/').map(|(at, _)| at).skip(1).chain([said.len()]);
    let items = ends.filter_map(|end| said.get(..end));
    items.filter(|item| item.rsplit('/').next().is_some_and(|step| step.parse::<usize>().is_ok())).collect()
}

/// Refuses a record whose other annotations would be lost: the verdict leads through one numbered item of a list that has
/// more of them, and the annotator through the same item, or the list is known to be one of annotations.
fn alone(fields: &LabelFields, numbered: &[&str], record: RecordReader<'_, '_>) -> Result<(), DecodeError> {
    for item in numbered {
        let Some((list, _)) = item.rsplit_once('/') else { continue };
        let name = list.rsplit('/').next().unwrap_or_default();
        if (within(fields.annotator.as_str(), item) || LISTS.contains(&name))
            && let Some(Node::List(items)) = record.get("verdict", list)?
            && items.len() > 1
        {
            return Err(record.invalid("verdict", list, OTHERS));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::number::Number;

    #[test]
    fn a_pointer_goes_through_the_list_at_its_star() {
        let pointer = |text: &str| Pointer::try_from(text.to_owned()).unwrap();
        let list = pointer("/a/b");
        let at = LabelPosition { list: &list, item: Some(3) };
        for (text, expected) in [
            ("/a/b/*/c", "/a/b/3/c"),
            ("/a/b/*", "/a/b/3"),
            ("/a/b/*c", "/a/b/*c"),
            ("/a/bc/*/d", "/a/bc/*/d"),
            ("/a", "/a"),
            ("", ""),
        ] {
            assert_eq!(at.of(&pointer(text)), expected);
        }
        let none = Pointer::default();
        assert_eq!(LabelPosition { list: &none, item: None }.of(&pointer("/*/c")), "/*/c");
    }

    #[test]
    fn values_are_texts_numbers_and_booleans() {
        let values: Values = serde_json::from_str(r#"[true,"reject",1,""]"#).unwrap();
        let number = |value| Node::Number(Number::Real(value));
        for (found, expected) in [
            (Some(Node::Bool(true)), true),
            (Some(Node::Bool(false)), false),
            (Some(Node::Text("reject".into())), true),
            (Some(Node::Text("true".into())), true),
            (Some(Node::Text("".into())), true),
            (Some(Node::Text("accept".into())), false),
            (Some(number(1.0)), true),
            (Some(number(f64::NAN)), false),
            (Some(Node::List(Vec::new())), true),
            (Some(Node::List(vec![Node::Null])), false),
            (Some(Node::List(vec![Node::Text("reject".into())])), true),
            (Some(Node::List(vec![Node::Text("accept".into())])), false),
            (Some(Node::List(vec![Node::Bool(true), Node::Bool(true)])), false),
            (Some(Node::Null), true),
            (None, true),
        ] {
            assert_eq!(values.have(found.as_ref()), expected, "{found:?}");
        }
        let plain: Values = serde_json::from_str("false").unwrap();
        assert!(!plain.have(None) && plain.have(Some(&Node::Bool(false))));
    }
}
