//! The books of events and outcomes: which record has how many, and in which order.
//!
//! Pure: fed with offsets, in the order events, then outcomes. It holds two bits per event and nothing of any
//! record.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::offset_set::OffsetSet;
use super::violations::{Place, ViolationKind, Violations};

/// Whose record a dead letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// An event.
    Event,
    /// A label.
    Label,
}

/// One partition of events.
#[derive(Debug, Default)]
struct Partition {
    /// The offsets that are looked at.
    range: Range<i64>,
    /// The group's committed offset.
    committed: i64,
    /// Whether the group has committed any.
    was_read: bool,
    /// Before this the outcomes may be gone from their topics.
    kept_from: i64,
    /// The same for events that have gone themselves.
    outcomes_from: i64,
    events: OffsetSet,
    /// Events with a null value: they may have an outcome, and need none.
    tombstones: OffsetSet,
    outcomes: OffsetSet,
    /// The greatest source offset among the decisions so far, and where that decision lies.
    last: Option<(i64, Place)>,
}

impl Partition {
    /// Whether an event needs an outcome and has none yet.
    fn lacks(&self, offset: i64) -> bool {
        !self.outcomes.has(offset) && !self.tombstones.has(offset)
    }

    /// The events that need an outcome and have none, in order.
    fn missing(&self) -> impl Iterator<Item = i64> + '_ {
        self.events.without(&self.outcomes).filter(|offset| !self.tombstones.has(*offset))
    }
}

/// One partition of labels: only what dead letters say of it is known.
#[derive(Debug, Default)]
struct Labels {
    range: Range<i64>,
    letters: OffsetSet,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Events read.
    pub events: u64,
    /// Of these, the ones with a null value: each may be passed over, or be a dead letter.
    pub tombstones: u64,
    /// Decisions read.
    pub decisions: u64,
    /// Dead letters of events.
    pub event_dead_letters: u64,
    /// Dead letters of labels.
    pub label_dead_letters: u64,
    /// Events that the group has not committed yet and that have no outcome.
    pub open: u64,
    /// Events whose outcome may be gone from its topic: not looked for.
    pub not_kept: u64,
    /// Outcomes of events before those that are looked at.
    pub before: u64,
    /// Offsets of events that were deleted before they were decided.
    pub deleted: u64,
    /// Offsets before the first event kept that have no outcome, and that transactions can have used up.
    pub deleted_or_markers: u64,
}

/// Events and their outcomes.
#[derive(Debug)]
pub struct OutcomeAudit {
    events: Arc<str>,
    labels: Arc<str>,
    partitions: BTreeMap<i32, Partition>,
    label_partitions: BTreeMap<i32, Labels>,
    counts: Counts,
    faults: Violations,
}

impl OutcomeAudit {
    /// OutcomeAudit for these two topics.
    #[must_use]
    pub fn new(events: &Arc<str>, labels: &Arc<str>) -> Self {
        Self {
            events: Arc::clone(events),
            labels: Arc::clone(labels),
            partitions: BTreeMap::new(),
            label_partitions: BTreeMap::new(),
            counts: Counts::default(),
            faults: Violations::default(),
        }
    }

    /// The events' topic.
    #[must_use]
    pub fn events(&self) -> &str {
        &self.events
    }

    /// A partition of events: the offsets to look at, and how far the group has committed.
    pub fn partition(&mut self, partition: i32, range: Range<i64>, committed: Option<i64>) {
        let was_read = committed.is_some();
        let committed = committed.unwrap_or(range.start);
        let kept_from = range.start;
        let partition_books = Partition { range, committed, was_read, kept_from, ..Partition::default() };
        self.partitions.insert(partition, partition_books);
    }

    /// A partition of labels: the offsets that exist.
    pub fn label_partition(&mut self, partition: i32, range: Range<i64>) {
        self.label_partitions.insert(partition, Labels { range, ..Labels::default() });
    }

    /// Events before `offset` have gone from their topic since the partition was opened.
    pub fn begins(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.range.start = partition.range.start.max(offset);
            partition.kept_from = partition.kept_from.max(offset);
        }
    }

    /// The outcomes of events before `offset` may be gone from their topic: they are not missed.
    pub fn kept_from(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.kept_from = partition.kept_from.max(offset);
            partition.outcomes_from = partition.outcomes_from.max(offset);
        }
    }

    /// An event was read.
    pub fn event(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition)
            && partition.range.contains(&offset)
            && partition.events.add(offset)
        {
            self.counts.events += 1;
        }
    }

    /// An event with a null value was read.
    pub fn tombstone(&mut self, partition: i32, offset: i64) {
        self.event(partition, offset);
        if let Some(partition) = self.partitions.get_mut(&partition)
            && partition.events.has(offset)
            && partition.tombstones.add(offset)
        {
            self.counts.tombstones += 1;
        }
    }

    /// A decision was read at `at`; it names its source. Call in the order of the decisions' partitions.
    pub fn decision(&mut self, at: Place, topic: &str, partition: i32, offset: i64) {
        self.counts.decisions += 1;
        if topic != &*self.events {
            let events = Arc::clone(&self.events);
            self.faults.add(ViolationKind::Orphan, at, || {
                format!("names an event of topic {topic}, and events come from {events}")
            });
            return;
        }
        let strayed = at.partition != partition;
        if strayed {
            self.faults.add(ViolationKind::Order, at.clone(), || {
                format!("is of an event of partition {partition}: order per key is lost across partitions")
            });
        }
        if !self.outcome(&at, partition, offset) || strayed {
            return;
        }
        let Some(known) = self.partitions.get_mut(&partition) else { return };
        match &known.last {
            Some((greatest, before)) if *greatest > offset => {
                let (greatest, before) = (*greatest, before.offset);
                self.faults.add(ViolationKind::Order, at, || {
                    format!(
                        "is of event {offset} and comes after that of event {greatest}, at offset {before}"
                    )
                });
            }
            _ => known.last = Some((offset, at)),
        }
    }

    /// A dead letter was read at `at`; it names its source.
    pub fn dead_letter(&mut self, at: Place, topic: &str, partition: i32, offset: i64) {
        if topic == &*self.events {
            self.counts.event_dead_letters += 1;
            self.outcome(&at, partition, offset);
        } else if topic == &*self.labels {
            self.counts.label_dead_letters += 1;
            self.refused_label(at, partition, offset);
        } else {
            self.faults.add(ViolationKind::Orphan, at, || {
                format!("names a record of topic {topic}, from which nothing is read")
            });
        }
    }

    /// Something at `at` cannot be read.
    pub fn unreadable(&mut self, at: Place, why: &str) {
        self.faults.add(ViolationKind::Unreadable, at, || why.to_owned());
    }

    /// Counts an outcome; true where it is the first one of an event that is looked at.
    fn outcome(&mut self, at: &Place, partition: i32, offset: i64) -> bool {
        let event = Place::new(&self.events, partition, offset);
        let known = self.partitions.get_mut(&partition);
        let Some(known) = known.filter(|known| offset >= 0 && offset < known.range.end) else {
            self.faults.add(ViolationKind::Orphan, at.clone(), || format!("there is no {event}"));
            return false;
        };
        if offset < known.range.start {
            // Too old to be looked at, or gone from the topic.
            self.counts.before += 1;
            known.outcomes.add(offset);
            return false;
        }
        if !known.events.has(offset) {
            self.faults.add(ViolationKind::Orphan, at.clone(), || format!("there is no {event}"));
            return false;
        }
        if !known.outcomes.add(offset) {
            self.faults
                .add(ViolationKind::Duplicate, at.clone(), || format!("{event} has an outcome already"));
            return false;
        }
        true
    }

    fn refused_label(&mut self, at: Place, partition: i32, offset: i64) {
        let label = Place::new(&self.labels, partition, offset);
        let known = self.label_partitions.get_mut(&partition);
        let Some(known) = known.filter(|known| offset >= 0 && offset < known.range.end) else {
            self.faults.add(ViolationKind::Orphan, at, || format!("there is no {label}"));
            return;
        };
        if offset >= known.range.start && !known.letters.add(offset) {
            self.faults.add(ViolationKind::Duplicate, at, || format!("{label} has a dead letter already"));
        }
    }

    /// Whether an event that is looked at has no outcome yet: a later part of the topics may bring it.
    #[must_use]
    pub fn misses(&self, partition: i32, offset: i64) -> bool {
        let known = self.partitions.get(&partition);
        known.is_some_and(|known| known.events.has(offset) && known.lacks(offset))
    }

    /// The events below the committed offset without an outcome, and the events that may still get one.
    fn gaps(&self) -> impl Iterator<Item = (i32, i64, bool)> + '_ {
        self.partitions.iter().flat_map(|(number, known)| {
            let kept = known.missing().filter(|offset| *offset >= known.kept_from);
            kept.map(|offset| (*number, offset, offset < known.committed))
        })
    }

    /// Whether any event below the committed offset has no outcome.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.gaps().any(|(_, _, decided)| decided)
    }

    /// Runs of offsets that lie before the first event kept and have no outcome, though the group has read that far
    /// back; each with whether it is longer than transactions explain.
    ///
    /// Transactions use up offsets that are no events: markers, and records that were aborted. How many in a row is
    /// seen from the events that are kept; where none is kept, one marker is assumed.
    fn deleted(&self) -> Vec<(i32, Range<i64>, bool)> {
        let kept = || self.partitions.values().filter(|known| known.events.first().is_some());
        let holes = kept().flat_map(|known| known.events.gaps(known.range.clone()));
        let longest = holes.map(|hole| hole.end - hole.start).max().unwrap_or(0);
        let explained = if kept().next().is_some() { longest } else { 1 };
        let runs = self.partitions.iter().flat_map(|(number, known)| {
            let committed = known.was_read.then_some(known.committed);
            let first = known.outcomes.first().into_iter().chain(committed).min();
            let first = first.unwrap_or(known.range.start).max(known.outcomes_from);
            let before = first..known.range.start;
            let gaps = (!before.is_empty()).then(|| known.outcomes.gaps(before));
            gaps.into_iter().flatten().map(|run| (*number, run))
        });
        runs.map(|(number, run)| (number, run.clone(), run.end - run.start > explained)).collect()
    }

    fn close_deleted(&self, counts: &mut Counts, faults: &mut Violations) {
        for (partition, run, certain) in self.deleted() {
            let offsets = run.end - run.start;
            let count = u64::try_from(offsets).unwrap_or(0);
            if !certain {
                counts.deleted_or_markers += count;
                continue;
            }
            counts.deleted += count;
            faults.add(ViolationKind::Deleted, Place::new(&self.events, partition, run.start), || {
                format!(
                    "up to offset {}: {offsets} offsets are gone and no decision or dead letter names any of them",
                    run.end - 1
                )
            });
        }
    }

    /// Closes the books. `whole`: the events are all that their topic keeps, and not only those from a time on.
    #[must_use]
    pub fn close(self, group: &str, whole: bool) -> (Counts, Violations) {
        let (mut counts, mut faults) = (self.counts, self.faults.clone());
        if whole {
            self.close_deleted(&mut counts, &mut faults);
        }
        for (partition, offset, decided) in self.gaps() {
            if !decided {
                counts.open += 1;
                continue;
            }
            let committed = self.partitions.get(&partition).map_or(0, |known| known.committed);
            faults.add(ViolationKind::Gap, Place::new(&self.events, partition, offset), || {
                format!("has neither decision nor dead letter, and group {group} has committed {committed}")
            });
        }
        for known in self.partitions.values() {
            counts.not_kept += known.missing().take_while(|offset| *offset < known.kept_from).count() as u64;
        }
        (counts, faults)
    }
}

#[cfg(test)]
mod tests;
