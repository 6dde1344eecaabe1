//! Records of labelling tools: several people's annotations in one record, and annotations that are skipped.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::label::LabelFields;
use super::pointer::{Pointer, RecordReader};
use crate::codec::error::DecodeError;
use crate::codec::tree::Node;

/// The maximum number of annotations in a record.
const MAX_ANNOTATIONS: usize = 64;

/// One value or a list of values in the configuration, as texts.
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
    /// Returns `true` if the value found in a record is one of these. `""` stands for a missing or empty value.
    fn contain(&self, found: Option<&Node<'_>>) -> bool {
        let empty = match found {
            None | Some(Node::Null) => true,
            Some(Node::Text(text)) => text.is_empty(),
            Some(Node::List(items)) => items.is_empty(),
            Some(Node::Object(fields)) => fields.is_empty(),
            Some(Node::Bool(_) | Node::Number(_)) => false,
        };
        // Some tools write a choice as a list even if it is a single one.
        let only = match found {
            Some(Node::List(items)) if items.len() == 1 => items.first(),
            found => found,
        };
        self.0
            .iter()
            .any(|word| if word.is_empty() { empty } else { only.is_some_and(|only| only.means(word)) })
    }
}

/// The position of a label in its record.
#[derive(Debug, Clone, Copy)]
pub(super) struct LabelPosition<'p> {
    list: &'p Pointer,
    item: Option<usize>,
}

impl LabelPosition<'_> {
    /// Returns the pointer of this label: in a pointer through the list of annotations, `*` is replaced by its index.
    pub(super) fn of<'p>(&self, pointer: &'p Pointer) -> Cow<'p, str> {
        match (through(self.list, pointer), self.item) {
            (Some(rest), Some(item)) => Cow::Owned(format!("{}/{item}{rest}", self.list.as_str())),
            _ => Cow::Borrowed(pointer.as_str()),
        }
    }
}

/// Returns the rest of a pointer that begins with the list and `/*`, or `None` for any other pointer.
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
    check_stars(fields)?;
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

/// Refuses a step `*` that is not an item of the list of annotations. A list has no such item, and fields of that name do
/// not occur.
fn check_stars(fields: &LabelFields) -> Result<(), String> {
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

/// Returns the positions of the labels that are not skipped.
pub(super) fn of<'p>(
    fields: &'p LabelFields,
    record: RecordReader<'_, '_>,
) -> Result<Vec<LabelPosition<'p>>, DecodeError> {
    let list = &fields.annotations;
    let Some(at) = list.given() else {
        let one = LabelPosition { list, item: None };
        // A value that skips one numbered annotation does not concern the others.
        let numbered = numbered(fields);
        let inside = |pointer: &Pointer| numbered.iter().any(|item| within(pointer.as_str(), item));
        if skipped(fields, record, one, |pointer| !inside(pointer))? {
            return Ok(Vec::new());
        }
        check_single(fields, &numbered, record)?;
        let is_skipped = skipped(fields, record, one, inside)?;
        return Ok(if is_skipped { Vec::new() } else { vec![one] });
    };
    // A record that is skipped as a whole need not have the list.
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

/// Returns `true` if the label is skipped by one of the pointers in `skip_if` for which `among` returns `true`.
fn skipped(
    fields: &LabelFields,
    record: RecordReader<'_, '_>,
    at: LabelPosition<'_>,
    among: impl Fn(&Pointer) -> bool,
) -> Result<bool, DecodeError> {
    for (pointer, values) in fields.skip_if.iter().filter(|(pointer, _)| among(pointer)) {
        let found = record.get("skip_if", &at.of(pointer))?;
        if values.contain(found) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The names of Label Studio's and Argilla's lists of annotations.
const LISTS: [&str; 2] = ["annotations", "responses"];

/// Returns `true` if a pointer leads to the item or into it.
fn within(pointer: &str, item: &str) -> bool {
    pointer.strip_prefix(item).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the pointers of the numbered items that the verdict's pointer goes through.
fn numbered(fields: &LabelFields) -> Vec<&str> {
    let verdict = if fields.verdict.is_empty() { &fields.severity } else { &fields.verdict };
    let verdict = verdict.as_str();
    let ends = verdict.match_indices('/').map(|(at, _)| at).skip(1).chain([verdict.len()]);
    let items = ends.filter_map(|end| verdict.get(..end));
    items.filter(|item| item.rsplit('/').next().is_some_and(|step| step.parse::<usize>().is_ok())).collect()
}

/// Refuses a record whose other annotations would be lost: the verdict's pointer goes through a numbered item of a list with
/// more items, and either the annotator's goes through the same item or the list has the name of a list of annotations.
fn check_single(
    fields: &LabelFields,
    numbered: &[&str],
    record: RecordReader<'_, '_>,
) -> Result<(), DecodeError> {
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
    fn a_star_is_replaced_by_the_index() {
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
            assert_eq!(values.contain(found.as_ref()), expected, "{found:?}");
        }
        let plain: Values = serde_json::from_str("false").unwrap();
        assert!(!plain.contain(None) && plain.contain(Some(&Node::Bool(false))));
    }
}
