//! JSON as a tree, for layouts that only the configuration describes. The number of values is bounded while the tree is
//! built, since an object of one value takes eight bytes in a record and hundreds in memory.

use std::borrow::Cow;

use super::datum_size::MAX_VALUES;
use super::error::DecodeError;
use super::lenient::{ReadError, Reader, Token};
use super::number::Number;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    /// The fields in their order. A name may occur twice.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// An error of a pointer that does not lead to exactly one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PointerError {
    /// An object on the way has the name twice. Readers differ in which of the two they take.
    DuplicateName,
    /// Several items of a list match `name=value`.
    SeveralItems,
}

/// Parses JSON of any layout. Also returns the number of escapes that were read as U+FFFD.
pub(super) fn parse(text: &str) -> Result<(Node<'_>, usize), DecodeError> {
    let mut reader = Reader::new(text);
    let mut left = Some(MAX_VALUES);
    let read = node(&mut reader, &mut left).and_then(|node| reader.end().map(|()| node));
    match (read, left) {
        (Ok(node), _) => Ok((node, reader.replaced)),
        (Err(_), None) => Err(DecodeError::TooManyValues),
        (Err(error), Some(_)) => Err(reader.error(error)),
    }
}

/// Reads a value. `left` is the number of values that may follow, or `None` after one too many.
fn node<'a>(reader: &mut Reader<'a>, left: &mut Option<usize>) -> Result<Node<'a>, ReadError> {
    *left = left.and_then(|left| left.checked_sub(1));
    if left.is_none() {
        return Err(ReadError::Syntax);
    }
    let mut first = true;
    Ok(match reader.token()? {
        Token::Null => Node::Null,
        Token::Bool(value) => Node::Bool(value),
        Token::Number(number) => Node::Number(number),
        Token::Text(text) => Node::Text(text),
        Token::List => {
            let mut items = Vec::new();
            while reader.more(&mut first, b']')? {
                items.push(node(reader, left)?);
            }
            Node::List(items)
        }
        Token::Object => {
            let mut fields = Vec::new();
            while reader.more(&mut first, b'}')? {
                fields.push((reader.name()?, node(reader, left)?));
            }
            Node::Object(fields)
        }
    })
}

impl<'a> Node<'a> {
    /// Returns the field of a name, or `None` if there is none or this is not an object.
    pub(super) fn field(&self, name: &str) -> Result<Option<&Node<'a>>, PointerError> {
        let Self::Object(fields) = self else { return Ok(None) };
        let mut named = fields.iter().filter(|(other, _)| other == name);
        let found = named.next().map(|(_, node)| node);
        if named.next().is_some() { Err(PointerError::DuplicateName) } else { Ok(found) }
    }

    /// Returns the value that a JSON pointer leads to, which may be `null`.
    ///
    /// In a list, the step `name=value` is the item whose field `name` has that value. RFC 6901 has only numbers there.
    pub(super) fn at(&self, pointer: &str) -> Result<Option<&Node<'a>>, PointerError> {
        let mut found = self;
        for step in pointer.split('/').skip(1) {
            let step = if step.contains('~') {
                Cow::Owned(step.replace("~1", "/").replace("~0", "~"))
            } else {
                Cow::Borrowed(step)
            };
            let next = match found {
                Self::List(items) => item(items, &step)?,
                other => other.field(&step)?,
            };
            match next {
                Some(next) => found = next,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// Returns a text, an integer, `true` or `false` as it is written, or `None` for any other value.
    pub(super) fn word(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            Self::Number(Number::Whole(number)) => Some(Cow::Owned(number.to_string())),
            Self::Number(Number::Wide(number)) => Some(Cow::Owned(number.to_string())),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns `true` if a word in the configuration stands for this value: the same text, number, `true` or `false`.
    pub(super) fn means(&self, word: &str) -> bool {
        match self {
            Self::Number(number) => {
                // `1` in the configuration is also `1.0` in a record.
                let close = number.exact().is_some_and(|own| word.parse() == Ok(own));
                close || self.word().is_some_and(|own| own == word)
            }
            // Python spells them with a capital.
            Self::Bool(value) => word.eq_ignore_ascii_case(if *value { "true" } else { "false" }),
            Self::Text(text) => text == word,
            Self::Null | Self::List(_) | Self::Object(_) => false,
        }
    }
}

/// Returns the item of a list that a step of a pointer leads to.
fn item<'i, 'a>(items: &'i [Node<'a>], step: &str) -> Result<Option<&'i Node<'a>>, PointerError> {
    let plain = step.bytes().all(|byte| byte.is_ascii_digit()) && (step == "0" || !step.starts_with('0'));
    if plain {
        return Ok(step.parse::<usize>().ok().and_then(|number| items.get(number)));
    }
    let Some((name, value)) = step.split_once('=') else { return Ok(None) };
    let mut found = None;
    for item in items {
        if item.field(name)?.is_some_and(|field| field.means(value)) && found.replace(item).is_some() {
            return Err(PointerError::SeveralItems);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn same(node: &Node<'_>, value: &Value) -> bool {
        match (node, value) {
            (Node::Null, Value::Null) => true,
            (Node::Bool(own), Value::Bool(other)) => own == other,
            (Node::Text(own), Value::String(other)) => own == other,
            (Node::Number(Number::Real(own)), Value::Number(other)) => {
                other.as_f64().map(f64::to_bits) == Some(own.to_bits())
            }
            (Node::Number(own), Value::Number(other)) => {
                other.to_string() == Node::Number(*own).word().unwrap()
            }
            (Node::List(own), Value::Array(other)) => {
                own.len() == other.len() && own.iter().zip(other).all(|(own, other)| same(own, other))
            }
            (Node::Object(own), Value::Object(other)) => {
                own.len() == other.len()
                    && own
                        .iter()
                        .all(|(name, own)| other.get(name.as_ref()).is_some_and(|other| same(own, other)))
            }
            _ => false,
        }
    }

    #[test]
    fn a_tree_is_what_serde_json_makes_of_it() {
        for text in [
            r#"{"a":[1,-2,18446744073709551615,0.5,1e300,-0,1.0,true,null,"\u00e4\n"],"b":{"":{}},"c":[]}"#,
            "5",
            " [[[]] , {} ]\r\n",
        ] {
            assert!(same(&parse(text).unwrap().0, &serde_json::from_str(text).unwrap()), "{text}");
        }
        for bad in [
            "1 2",
            "",
            "{",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{a:1}",
            "[1 2]",
            "]",
            "'a'",
            "{\"a\" 1}",
            "[/**/]",
        ] {
            assert!(matches!(parse(bad), Err(DecodeError::BadJson { .. })), "{bad}");
        }
    }

    #[test]
    fn values_are_counted() {
        let zeros = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert!(parse(&zeros(MAX_VALUES - 1)).is_ok());
        assert_eq!(parse(&zeros(MAX_VALUES)), Err(DecodeError::TooManyValues));
        // An error after the last allowed value is not one of their number.
        let broken = format!("{}]", zeros(MAX_VALUES - 1));
        assert!(matches!(parse(&broken), Err(DecodeError::BadJson { .. })));
    }

    #[test]
    fn values_that_no_pointer_leads_to_are_not_checked() {
        let text =
            r#"{"id":7,"stats":{"score":NaN,"low":-Infinity,"cut":"\ud83d","a":1,"a":2,"n":01},"id2":"x"}"#;
        let (node, replaced) = parse(text).unwrap();
        assert_eq!(replaced, 1);
        assert_eq!(node.at("/id").unwrap().unwrap().word().unwrap(), "7");
        assert_eq!(node.at("/stats/a"), Err(PointerError::DuplicateName));
        assert_eq!(node.at("/stats/b"), Ok(None));
        assert_eq!(node.at("/stats/score").unwrap().unwrap().word(), None);
        assert_eq!(
            parse(r#"{"b":[{"a":1,"\u0061":2}]}"#).unwrap().0.at("/b/0/a"),
            Err(PointerError::DuplicateName)
        );
    }

    #[test]
    fn an_item_of_a_list_is_found_by_a_field() {
        let (node, _) =
            parse(r#"{"r":[{"n":"a","v":1},{"n":"b","v":2},{"n":"b","v":3},{"k":7,"v":4},5],"o":{"n=a":6}}"#)
                .unwrap();
        let at = |pointer: &str| {
            node.at(pointer).map(|found| found.and_then(|node| node.word().map(Cow::into_owned)))
        };
        assert_eq!(at("/r/n=a/v"), Ok(Some("1".into())));
        assert_eq!(at("/r/k=7/v"), Ok(Some("4".into())));
        assert_eq!(at("/r/n=c/v"), Ok(None));
        assert_eq!(at("/r/n=b/v"), Err(PointerError::SeveralItems));
        assert_eq!(at("/o/n=a"), Ok(Some("6".into())));
        assert_eq!(at("/r/00/v"), Ok(None));
        assert_eq!(at("/r/4"), Ok(Some("5".into())));
        assert_eq!(at("/r/-1"), Ok(None));
    }
}
