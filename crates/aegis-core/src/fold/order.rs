//! The rounds that count, in the order (round time, tenant, event id).

use std::cmp::Ordering;
use std::collections::HashSet;

use super::roster::{NO_ENCODER, Roster};
use crate::event::Millis;
use crate::label::Mapping;
use crate::ledger_state::{Edits, Panel, Rounds, Row};

/// The place of a row in the order, and the parts of it that decide the place.
#[derive(Debug, Clone, Copy)]
struct Placed {
    time: Millis,
    /// The round's target; NaN if the round does not count.
    target: f64,
    panel: Panel,
    encoder: u32,
}

impl Placed {
    /// A row that does not count.
    const NOT_COUNTED: Self = Self { time: 0, target: f64::NAN, panel: Panel::NONE, encoder: NO_ENCODER };

    fn counts(&self) -> bool {
        !self.target.is_nan()
    }
}

/// The rounds that count, sorted, and the changes since.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The place of each row.
    placed: Vec<Placed>,
    sorted: Vec<Row>,
    /// Rows that changed, with `true` if their votes did.
    touched: Vec<(Row, bool)>,
}

impl Order {
    /// The number of rounds that count.
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The row of the round at this index of the order; `None` if fewer rounds count.
    pub(super) fn row(&self, at: usize) -> Option<Row> {
        self.sorted.get(at).copied()
    }

    /// The target of a row; NaN if it does not count.
    pub(super) fn target(&self, row: Row) -> f64 {
        self.at(row).target
    }

    fn at(&self, row: Row) -> Placed {
        self.placed[row.0 as usize]
    }

    fn put(&mut self, row: Row, placed: Placed) {
        self.placed[row.0 as usize] = placed;
    }

    /// Marks a row as changed; `votes` is `true` if its votes did.
    pub(super) fn touch(&mut self, row: Row, votes: bool) {
        match self.touched.last_mut() {
            Some((last, changed)) if *last == row => *changed |= votes,
            _ => self.touched.push((row, votes)),
        }
    }

    /// The number of changes since the last [`update`](Self::update).
    pub(super) fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Takes the changed rows, each once, with `true` if its votes changed.
    fn take_touched(&mut self) -> Vec<(Row, bool)> {
        let mut touched = std::mem::take(&mut self.touched);
        // The first entry of a row is `true` if any of its entries is.
        touched.sort_unstable_by_key(|(row, votes)| (*row, !votes));
        touched.dedup_by_key(|(row, _)| *row);
        touched
    }

    /// Moves changed rows to their place. Returns the first index at which the order or the content of a round
    /// changed, or `None` if nothing did.
    pub(super) fn update(
        &mut self,
        rounds: &Rounds,
        mapping: &Mapping,
        edits: &Edits,
        roster: &mut Roster,
    ) -> Option<usize> {
        if self.touched.is_empty() {
            return None;
        }
        let mut touched = self.take_touched();
        self.placed.resize(rounds.len(), Placed::NOT_COUNTED);
        let mut lowest: Option<(Millis, Row)> = None;
        let mut lower = |time, row| {
            if lowest.is_none_or(|(least, of)| compare(rounds, (time, row), (least, of)).is_lt()) {
                lowest = Some((time, row));
            }
        };
        // Rows in the order keep their old place until the first changed index is found.
        let mut later = Vec::new();
        let (mut inserted, mut moved, mut removed) = (Vec::new(), HashSet::new(), false);
        for (row, votes) in touched.drain(..) {
            let old = Some(self.at(row)).filter(Placed::counts);
            let new = place(rounds, row, mapping, edits);
            match (old, new) {
                (None, None) => {}
                (Some(old), None) => {
                    lower(old.time, row);
                    roster.remove(old.panel, old.encoder);
                    later.push((row, Placed::NOT_COUNTED));
                    removed = true;
                }
                // With a cap on annotators, the labels matter beside their mean.
                (Some(old), Some(new))
                    if !votes && !mapping.caps() && old.target.to_bits() == new.target.to_bits() => {}
                (None, Some(new)) => {
                    lower(new.time, row);
                    roster.add(new.panel, new.encoder);
                    self.put(row, new);
                    inserted.push(row);
                }
                (Some(old), Some(new)) => {
                    lower(old.time.min(new.time), row);
                    roster.remove(old.panel, old.encoder);
                    roster.add(new.panel, new.encoder);
                    later.push((row, new));
                    if old.time != new.time {
                        moved.insert(row);
                        inserted.push(row);
                    }
                }
            }
        }
        self.touched = touched;
        // This searches the old order, before the time of any row changes.
        let first = lowest.map(|least| self.position(rounds, least))?;
        for (row, placed) in later {
            self.put(row, placed);
        }
        self.merge(rounds, first, inserted, &moved, removed);
        Some(first)
    }

    /// The number of rounds before this key.
    fn position(&self, rounds: &Rounds, key: (Millis, Row)) -> usize {
        if self.sorted.last().is_none_or(|last| compare(rounds, (self.time(*last), *last), key).is_lt()) {
            return self.sorted.len();
        }
        self.sorted.partition_point(|row| compare(rounds, (self.time(*row), *row), key).is_lt())
    }

    fn time(&self, row: Row) -> Millis {
        self.at(row).time
    }

    /// Merges the inserted rows into the order from the index `first` on, without moved and removed rows.
    fn merge(
        &mut self,
        rounds: &Rounds,
        first: usize,
        mut inserted: Vec<Row>,
        moved: &HashSet<Row>,
        removed: bool,
    ) {
        if inserted.is_empty() && !removed {
            return;
        }
        let key = |row: Row| (self.time(row), row);
        inserted.sort_unstable_by(|a, b| compare(rounds, key(*a), key(*b)));
        if first == self.sorted.len() {
            self.sorted.append(&mut inserted);
            return;
        }
        let stays = |row: &Row| self.at(*row).counts() && (moved.is_empty() || !moved.contains(row));
        let tail = &self.sorted[first..];
        let mut merged = Vec::with_capacity(tail.len() + inserted.len());
        let mut new = inserted.into_iter().peekable();
        for row in tail.iter().copied().filter(stays) {
            while let Some(before) = new.next_if(|new| compare(rounds, key(*new), key(row)).is_lt()) {
                merged.push(before);
            }
            merged.push(row);
        }
        merged.extend(new);
        self.sorted.truncate(first);
        self.sorted.append(&mut merged);
    }
}

/// The place of a row in the present ledger; `None` if it does not count.
fn place(rounds: &Rounds, row: Row, mapping: &Mapping, edits: &Edits) -> Option<Placed> {
    let (panel, scores) = rounds.votes(row)?;
    if scores.iter().all(|score| score.awake().is_nan()) {
        return None;
    }
    let target = rounds.target(row, mapping, edits)?;
    #[expect(clippy::cast_possible_truncation, reason = "encoders are numbered in 32 bits")]
    let encoder = rounds.features(row).map_or(NO_ENCODER, |(encoder, _)| encoder as u32);
    Some(Placed { time: rounds.round_time(row), target, panel, encoder })
}

/// The order of rounds: by time, then tenant, then event id.
fn compare(rounds: &Rounds, a: (Millis, Row), b: (Millis, Row)) -> Ordering {
    a.0.cmp(&b.0).then_with(|| {
        let names = |row: Row| (rounds.tenant(row), rounds.event(row));
        if a.1 == b.1 { Ordering::Equal } else { names(a.1).cmp(&names(b.1)) }
    })
}
