//! A line's votes. Names in the same order as on the line before are compared with it and not allocated again.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::core::ledger_state::{MAX_VOTES, Score};

/// The names of a line's votes in the line's order.
#[derive(Debug)]
struct Shape {
    names: Vec<String>,
    /// The index on the line of each name in sorted order.
    order: Vec<usize>,
    panel: usize,
}

/// The votes of the current line, and the panels seen so far.
#[derive(Debug, Default)]
pub(super) struct VoteReader {
    shapes: Vec<Shape>,
    by_names: HashMap<Vec<String>, usize>,
    panels: HashMap<Vec<String>, usize>,
    /// Panels that [`VoteReader::new_panels`] has not returned yet.
    unreported: Vec<Vec<String>>,
    /// The index of the last line's shape.
    last: usize,
    /// The line's numbers in its own order; NaN for null.
    given: Vec<f64>,
    /// The reason why the line's votes are malformed.
    malformed: Option<&'static str>,
    /// The name of the list or object that is being read, for reasons that must not show its content.
    pub(super) reading: &'static str,
}

impl VoteReader {
    /// Returns the number of the last line's panel.
    pub(super) fn panel(&self) -> usize {
        self.shapes.get(self.last).map_or(0, |shape| shape.panel)
    }

    /// Returns the panels that are new since the last call.
    pub(super) fn new_panels(&mut self) -> impl Iterator<Item = Vec<String>> {
        self.unreported.drain(..)
    }

    /// Appends the line's scores in the order of the experts' ids.
    pub(super) fn scores(
        &self,
        shadow: &[&str],
        decisive: &[&str],
        out: &mut Vec<Score>,
    ) -> Result<(), &'static str> {
        if let Some(reason) = self.malformed {
            return Err(reason);
        }
        let Some(shape) = self.shapes.get(self.last) else { return Err(NOT_VOTES) };
        let place = |name: &str| shape.names.iter().any(|known| known == name);
        if !shadow.iter().all(|name| place(name)) {
            return Err("shadow: names an expert that has no vote");
        }
        if !decisive.iter().all(|name| place(name)) {
            return Err("decisive: names an expert that has no vote");
        }
        let start = out.len();
        for at in &shape.order {
            let given = self.given.get(*at).copied().unwrap_or(f64::NAN);
            let score = (!given.is_nan()).then_some(given);
            let is_among = |listed: &[&str]| {
                !listed.is_empty() && shape.names.get(*at).is_some_and(|name| listed.contains(&name.as_str()))
            };
            match Score::new(score, is_among(shadow)) {
                Ok(score) => out.push(if is_among(decisive) { score.decisive() } else { score }),
                Err(_) => {
                    out.truncate(start);
                    return Err("votes: a vote is not a number from 0 to 1, nor null");
                }
            }
        }
        Ok(())
    }

    /// Returns the index of the shape of these names. It is an error if one is there twice.
    fn shape(&mut self, names: Vec<String>) -> Result<usize, &'static str> {
        if let Some(known) = self.by_names.get(&names) {
            return Ok(*known);
        }
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_unstable_by_key(|at| names.get(*at));
        let sorted: Vec<String> = order.iter().filter_map(|at| names.get(*at)).cloned().collect();
        if !sorted.is_sorted_by(|a, b| a < b) {
            return Err("votes: an expert votes twice");
        }
        let panel = match self.panels.get(&sorted) {
            Some(known) => *known,
            None => {
                let number = self.panels.len();
                self.panels.insert(sorted.clone(), number);
                self.unreported.push(sorted);
                number
            }
        };
        self.shapes.push(Shape { names: names.clone(), order, panel });
        self.by_names.insert(names, self.shapes.len() - 1);
        Ok(self.shapes.len() - 1)
    }
}

const NOT_VOTES: &str = "votes: not an object of experts and numbers";

/// Reads a name. Returns `None` if it is the expected one, and the name if it is not.
struct Expected<'a>(Option<&'a str>);

impl Visitor<'_> for Expected<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<String>, E> {
        Ok((self.0 != Some(name)).then(|| name.to_owned()))
    }
}

impl<'de> DeserializeSeed<'de> for Expected<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<String>, D::Error> {
        from.deserialize_str(self)
    }
}

/// A vote: a number, NaN for null, and -1 for anything else.
struct Vote(f64);

struct VoteVisitor;

impl<'de> Visitor<'de> for VoteVisitor {
    type Value = Vote;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vote")
    }

    fn visit_unit<E>(self) -> Result<Vote, E> {
        Ok(Vote(f64::NAN))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Vote, E> {
        Ok(Vote(value as f64))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Vote, E> {
        Ok(Vote(-1.0))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Vote, E> {
        // NaN would be taken for null, an abstention.
        Ok(Vote(if value.is_nan() { -1.0 } else { value }))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Vote, E> {
        Ok(Vote(-1.0))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Vote, E> {
        Ok(Vote(-1.0))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Vote, E> {
        Ok(Vote(-1.0))
    }

    fn visit_str<E>(self, _: &str) -> Result<Vote, E> {
        Ok(Vote(-1.0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vote, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Vote(-1.0))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Vote, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Vote(-1.0))
    }
}

impl<'de> serde::Deserialize<'de> for Vote {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(VoteVisitor)
    }
}

impl<'de> Visitor<'de> for &mut VoteReader {
    /// `true` if there are votes.
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("votes")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut votes: A) -> Result<bool, A::Error> {
        self.given.clear();
        self.malformed = None;
        // The line's names, collected from the first that differs from the last line's.
        let mut names: Option<Vec<String>> = None;
        loop {
            let at = self.given.len();
            let known = self.shapes.get(self.last).map_or(&[][..], |shape| &shape.names);
            let expected = if names.is_none() { known.get(at).map(String::as_str) } else { None };
            match votes.next_key_seed(Expected(expected))? {
                None => break,
                Some(None) => {}
                Some(Some(name)) => {
                    names.get_or_insert_with(|| known.get(..at).unwrap_or(&[]).to_vec()).push(name);
                }
            }
            if at == MAX_VOTES {
                return Err(A::Error::custom("too many votes"));
            }
            self.given.push(votes.next_value::<Vote>()?.0);
        }
        let fewer = names.is_none()
            && self.shapes.get(self.last).is_none_or(|last| last.names.len() != self.given.len());
        if fewer {
            let known = self.shapes.get(self.last).and_then(|last| last.names.get(..self.given.len()));
            names = Some(known.unwrap_or(&[]).to_vec());
        }
        if let Some(names) = names {
            match self.shape(names) {
                Ok(shape) => self.last = shape,
                Err(reason) => self.malformed = Some(reason),
            }
        }
        Ok(true)
    }
}

impl<'de> DeserializeSeed<'de> for &mut VoteReader {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}
