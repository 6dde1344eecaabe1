//! The audit of events and outcomes: their number for each record, and their order.
//!
//! It is pure: it is fed with offsets, first those of events, then those of outcomes. It holds two bits per event and no
//! contents of records.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::offset_set::OffsetSet;
use super::violations::{Place, ViolationKind, Violations};

/// A partition of events.
#[derive(Debug, Default)]
struct Partition {
    /// The offsets that are audited.
    range: Range<i64>,
    /// The committed offset of the group.
    committed: i64,
    /// `true` if the group has committed an offset.
    was_read: bool,
    /// The outcomes of events before this offset may have been deleted from their topics.
    kept_from: i64,
    /// The outcomes of deleted events before this offset may have been deleted as well.
    outcomes_from: i64,
    /// The events read.
    events: OffsetSet,
    /// The events with a null value, which may have an outcome but need none.
    tombstones: OffsetSet,
    /// The events with an outcome.
    outcomes: OffsetSet,
    /// The greatest event offset among the decisions so far, and the place of that decision.
    last: Option<(i64, Place)>,
}

impl Partition {
    /// Returns `true` if an event needs an outcome and has none yet.
    fn lacks(&self, offset: i64) -> bool {
        !self.outcomes.contains(offset) && !self.tombstones.contains(offset)
    }

    /// The events that need an outcome and have none, in order.
    fn missing(&self) -> impl Iterator<Item = i64> + '_ {
        self.events.without(&self.outcomes).filter(|offset| !self.tombstones.contains(*offset))
    }
}

/// A partition of labels. Only its offsets and its dead letters are known.
#[derive(Debug, Default)]
struct Labels {
    range: Range<i64>,
    letters: OffsetSet,
}

/// The counts of an audit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// The number of events read.
    pub events: u64,
    /// The number of these events that have a null value. Each may be skipped or become a dead letter.
    pub tombstones: u64,
    /// The number of decisions read.
    pub decisions: u64,
    /// The number of dead letters of events.
    pub event_dead_letters: u64,
    /// The number of dead letters of labels.
    pub label_dead_letters: u64,
    /// The number of events without an outcome that the group has not committed yet.
    pub open: u64,
    /// The number of events without an outcome whose outcome may have been deleted from its topic.
    pub not_kept: u64,
    /// The number of outcomes of events before those that are audited.
    pub before: u64,
    /// The number of offsets of events that were deleted before they were decided.
    pub deleted: u64,
    /// The number of offsets before the first event kept that have no outcome and may be those of transaction markers.
    pub deleted_or_markers: u64,
}

/// An audit of events and their outcomes.
#[derive(Debug)]
pub struct OutcomeAudit {
    events: Arc<str>,
    labels: Arc<str>,
    partitions: BTreeMap<i32, Partition>,
    label_partitions: BTreeMap<i32, Labels>,
    counts: Counts,
    violations: Violations,
}

impl OutcomeAudit {
    /// An audit of the events and labels on these topics.
    #[must_use]
    pub fn new(events: &Arc<str>, labels: &Arc<str>) -> Self {
        Self {
            events: Arc::clone(events),
            labels: Arc::clone(labels),
            partitions: BTreeMap::new(),
            label_partitions: BTreeMap::new(),
            counts: Counts::default(),
            violations: Violations::default(),
        }
    }

    /// The topic of events.
    #[must_use]
    pub fn events(&self) -> &str {
        &self.events
    }

    /// Adds a partition of events: the offsets to audit, and the committed offset of the group.
    pub fn partition(&mut self, partition: i32, range: Range<i64>, committed: Option<i64>) {
        let was_read = committed.is_some();
        let committed = committed.unwrap_or(range.start);
        let kept_from = range.start;
        let added = Partition { range, committed, was_read, kept_from, ..Partition::default() };
        self.partitions.insert(partition, added);
    }

    /// Adds a partition of labels with the offsets that exist.
    pub fn label_partition(&mut self, partition: i32, range: Range<i64>) {
        self.label_partitions.insert(partition, Labels { range, ..Labels::default() });
    }

    /// Notes that events before `offset` have been deleted since the partition was added.
    pub fn begins(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.range.start = partition.range.start.max(offset);
            partition.kept_from = partition.kept_from.max(offset);
        }
    }

    /// Notes that the outcomes of events before `offset` may have been deleted, so that they are not reported as missing.
    pub fn kept_from(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.kept_from = partition.kept_from.max(offset);
            partition.outcomes_from = partition.outcomes_from.max(offset);
        }
    }

    /// Adds an event.
    pub fn event(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition)
            && partition.range.contains(&offset)
            && partition.events.add(offset)
        {
            self.counts.events += 1;
        }
    }

    /// Adds an event with a null value.
    pub fn tombstone(&mut self, partition: i32, offset: i64) {
        self.event(partition, offset);
        if let Some(partition) = self.partitions.get_mut(&partition)
            && partition.events.contains(offset)
            && partition.tombstones.add(offset)
        {
            self.counts.tombstones += 1;
        }
    }

    /// Adds the decision at `at` about the event at (`topic`, `partition`, `offset`). Decisions must be added in the order of
    /// their partitions.
    pub fn decision(&mut self, at: Place, topic: &str, partition: i32, offset: i64) {
        self.counts.decisions += 1;
        if topic != &*self.events {
            let events = Arc::clone(&self.events);
            self.violations.add(ViolationKind::Orphan, at, || {
                format!("names an event of topic {topic}, and events come from {events}")
            });
            return;
        }
        let misplaced = at.partition != partition;
        if misplaced {
            self.violations.add(ViolationKind::Order, at.clone(), || {
                format!("is of an event of partition {partition}: order per key is lost across partitions")
            });
        }
        if !self.outcome(&at, partition, offset) || misplaced {
            return;
        }
        let Some(partition) = self.partitions.get_mut(&partition) else { return };
        match &partition.last {
            Some((greatest, before)) if *greatest > offset => {
                let (greatest, before) = (*greatest, before.offset);
                self.violations.add(ViolationKind::Order, at, || {
                    format!(
                        "is of event {offset} and comes after that of event {greatest}, at offset {before}"
                    )
                });
            }
            _ => partition.last = Some((offset, at)),
        }
    }

    /// Adds the dead letter at `at` of the record at (`topic`, `partition`, `offset`).
    pub fn dead_letter(&mut self, at: Place, topic: &str, partition: i32, offset: i64) {
        if topic == &*self.events {
            self.counts.event_dead_letters += 1;
            self.outcome(&at, partition, offset);
        } else if topic == &*self.labels {
            self.counts.label_dead_letters += 1;
            self.refused_label(at, partition, offset);
        } else {
            self.violations.add(ViolationKind::Orphan, at, || {
                format!("names a record of topic {topic}, from which nothing is read")
            });
        }
    }

    /// Adds a record that cannot be decoded.
    pub fn unreadable(&mut self, at: Place, why: &str) {
        self.violations.add(ViolationKind::Unreadable, at, || why.to_owned());
    }

    /// Counts an outcome. Returns `true` if it is the first one of an event that is audited.
    fn outcome(&mut self, at: &Place, partition: i32, offset: i64) -> bool {
        let event = Place::new(&self.events, partition, offset);
        let partition = self.partitions.get_mut(&partition);
        let Some(partition) = partition.filter(|partition| offset >= 0 && offset < partition.range.end)
        else {
            self.violations.add(ViolationKind::Orphan, at.clone(), || format!("there is no {event}"));
            return false;
        };
        if offset < partition.range.start {
            // The event is too old, or has been deleted.
            self.counts.before += 1;
            partition.outcomes.add(offset);
            return false;
        }
        if !partition.events.contains(offset) {
            self.violations.add(ViolationKind::Orphan, at.clone(), || format!("there is no {event}"));
            return false;
        }
        if !partition.outcomes.add(offset) {
            self.violations
                .add(ViolationKind::Duplicate, at.clone(), || format!("{event} has an outcome already"));
            return false;
        }
        true
    }

    fn refused_label(&mut self, at: Place, partition: i32, offset: i64) {
        let label = Place::new(&self.labels, partition, offset);
        let partition = self.label_partitions.get_mut(&partition);
        let Some(partition) = partition.filter(|partition| offset >= 0 && offset < partition.range.end)
        else {
            self.violations.add(ViolationKind::Orphan, at, || format!("there is no {label}"));
            return;
        };
        if offset >= partition.range.start && !partition.letters.add(offset) {
            self.violations
                .add(ViolationKind::Duplicate, at, || format!("{label} has a dead letter already"));
        }
    }

    /// Returns `true` if an event that is audited has no outcome yet.
    #[must_use]
    pub fn misses(&self, partition: i32, offset: i64) -> bool {
        let partition = self.partitions.get(&partition);
        partition.is_some_and(|partition| partition.events.contains(offset) && partition.lacks(offset))
    }

    /// The events without an outcome as (partition, offset, `true` if the group has committed the offset).
    fn gaps(&self) -> impl Iterator<Item = (i32, i64, bool)> + '_ {
        self.partitions.iter().flat_map(|(number, partition)| {
            let kept = partition.missing().filter(|offset| *offset >= partition.kept_from);
            kept.map(|offset| (*number, offset, offset < partition.committed))
        })
    }

    /// Returns `true` if an event below the committed offset has no outcome.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.gaps().any(|(_, _, decided)| decided)
    }

    /// The runs of offsets before the first event kept that have no outcome although the group has read them, as
    /// (partition, run, `true` if the run is longer than transactions explain).
    ///
    /// Transactions use offsets that are no events: those of markers and of aborted records. The longest such run is
    /// taken from the events that are kept. If no events are kept, one marker is assumed.
    fn deleted(&self) -> Vec<(i32, Range<i64>, bool)> {
        let kept = || self.partitions.values().filter(|partition| partition.events.first().is_some());
        let holes = kept().flat_map(|partition| partition.events.gaps(partition.range.clone()));
        let longest = holes.map(|hole| hole.end - hole.start).max().unwrap_or(0);
        let explained = if kept().next().is_some() { longest } else { 1 };
        let runs = self.partitions.iter().flat_map(|(number, partition)| {
            let committed = partition.was_read.then_some(partition.committed);
            let first = partition.outcomes.first().into_iter().chain(committed).min();
            let first = first.unwrap_or(partition.range.start).max(partition.outcomes_from);
            let before = first..partition.range.start;
            let gaps = (!before.is_empty()).then(|| partition.outcomes.gaps(before));
            gaps.into_iter().flatten().map(|run| (*number, run))
        });
        runs.map(|(number, run)| (number, run.clone(), run.end - run.start > explained)).collect()
    }

    fn close_deleted(&self, counts: &mut Counts, violations: &mut Violations) {
        for (partition, run, certain) in self.deleted() {
            let offsets = run.end - run.start;
            let count = u64::try_from(offsets).unwrap_or(0);
            if !certain {
                counts.deleted_or_markers += count;
                continue;
            }
            counts.deleted += count;
            violations.add(ViolationKind::Deleted, Place::new(&self.events, partition, run.start), || {
                format!(
                    "up to offset {}: {offsets} offsets are gone and no decision or dead letter names any of them",
                    run.end - 1
                )
            });
        }
    }

    /// Closes the audit. `whole` says that the events are all that their topic has, and not only those since a time.
    #[must_use]
    pub fn close(self, group: &str, whole: bool) -> (Counts, Violations) {
        let (mut counts, mut violations) = (self.counts, self.violations.clone());
        if whole {
            self.close_deleted(&mut counts, &mut violations);
        }
        for (partition, offset, decided) in self.gaps() {
            if !decided {
                counts.open += 1;
                continue;
            }
            let committed = self.partitions.get(&partition).map_or(0, |partition| partition.committed);
            violations.add(ViolationKind::Gap, Place::new(&self.events, partition, offset), || {
                format!("has neither decision nor dead letter, and group {group} has committed {committed}")
            });
        }
        for partition in self.partitions.values() {
            counts.not_kept +=
                partition.missing().take_while(|offset| *offset < partition.kept_from).count() as u64;
        }
        (counts, violations)
    }
}

#[cfg(test)]
mod tests;
