//! The watermark: the offset of each partition up to which all records have outcomes. A committed offset hides
//! every earlier record, so it must never pass a record without an outcome.
//!
//! Outcomes arrive in any order. They are taken in the order of the records, together with the offsets that
//! may then be committed. An outcome after a gap is held back: if it were written and the process killed, its
//! record would be read again and get a second outcome.
//!
//! A *tenure* is one assignment of a partition. Records of an earlier tenure, before the partition was revoked
//! or rewound, are ignored, because another member may have processed them already.

use std::collections::{BTreeMap, VecDeque};

/// A record that waits for its outcome.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket<P> {
    /// The partition of the record.
    pub partition: P,
    /// The tenure in which the record was consumed.
    pub tenure: u64,
    /// The offset of the record.
    pub offset: i64,
}

/// Outcomes in the order of their records, and the offsets that may be committed with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready<P, O> {
    /// The outcomes, in order per partition.
    pub outcomes: Vec<O>,
    /// The next offset to consume of each partition, which is one past its last record in `outcomes`.
    pub offsets: Vec<(P, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Waiting<O> {
    offset: i64,
    outcome: Option<O>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Tenure<O> {
    number: u64,
    /// All records without a taken outcome, in the order of offsets. Control records may leave gaps in the
    /// offsets.
    waiting: VecDeque<Waiting<O>>,
    /// The last offset consumed.
    last: Option<i64>,
}

/// The consumed records of all partitions with their outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Watermark<P, O> {
    tenures: BTreeMap<P, Tenure<O>>,
    /// The number of the newest tenure.
    newest: u64,
    /// The partition at which the limit of the last [`take`](Watermark::take) was reached. The next one starts
    /// after it.
    last: Option<P>,
}

impl<P, O> Default for Watermark<P, O> {
    fn default() -> Self {
        Self { tenures: BTreeMap::new(), newest: 0, last: None }
    }
}

impl<P: Ord + Clone, O> Watermark<P, O> {
    /// A watermark without partitions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a tenure: the partition was assigned, or rewound to its committed offset. The records of an earlier
    /// tenure are dropped.
    pub fn begin(&mut self, partition: P) {
        self.newest += 1;
        let tenure = Tenure { number: self.newest, waiting: VecDeque::new(), last: None };
        self.tenures.insert(partition, tenure);
    }

    /// Ends a tenure: the partition was revoked.
    pub fn end(&mut self, partition: &P) {
        self.tenures.remove(partition);
    }

    /// Adds a record. Returns the ticket for its outcome, or `None` if the partition is not assigned, or the offset
    /// was consumed in this tenure already.
    pub fn consume(&mut self, partition: &P, offset: i64) -> Option<Ticket<P>> {
        let tenure = self.tenures.get_mut(partition)?;
        if tenure.last.is_some_and(|last| last >= offset) {
            return None;
        }
        tenure.last = Some(offset);
        tenure.waiting.push_back(Waiting { offset, outcome: None });
        Some(Ticket { partition: partition.clone(), tenure: tenure.number, offset })
    }

    /// Sets the outcome of a record. Returns `false` and drops the outcome if the record's tenure is over, or it has
    /// an outcome already.
    pub fn settle(&mut self, ticket: &Ticket<P>, outcome: O) -> bool {
        let Some(tenure) = self.tenures.get_mut(&ticket.partition) else {
            return false;
        };
        if tenure.number != ticket.tenure {
            return false;
        }
        let place = tenure.waiting.binary_search_by_key(&ticket.offset, |record| record.offset);
        match place.ok().and_then(|place| tenure.waiting.get_mut(place)) {
            Some(record) if record.outcome.is_none() => {
                record.outcome = Some(outcome);
                true
            }
            _ => false,
        }
    }

    /// The offset of each partition that may be committed: one past the last record before the first gap.
    /// Partitions without such a record are left out.
    #[cfg(test)]
    fn committable(&self) -> Vec<(P, i64)> {
        let settled = |tenure: &Tenure<O>| {
            tenure
                .waiting
                .iter()
                .take_while(|record| record.outcome.is_some())
                .last()
                .map(|last| last.offset + 1)
        };
        self.tenures
            .iter()
            .filter_map(|(partition, tenure)| Some((partition.clone(), settled(tenure)?)))
            .collect()
    }

    /// Takes the outcomes before the first gap of each partition, at most `limit`, with the offsets that may be
    /// committed with them. The partitions take turns at being first, so that none waits long behind a busy one.
    /// The outcomes are to be committed together. If that fails, new tenures must begin.
    pub fn take(&mut self, limit: usize) -> Ready<P, O> {
        let mut ready = Ready { outcomes: Vec::new(), offsets: Vec::new() };
        let last = self.last.take();
        let first = |partition: &P| last.as_ref().is_none_or(|last| partition > last);
        let (firsts, others): (Vec<P>, Vec<P>) = self.tenures.keys().cloned().partition(first);
        for partition in firsts.into_iter().chain(others) {
            let tenure = self.tenures.get_mut(&partition).expect("it was just listed");
            let mut next = None;
            while ready.outcomes.len() < limit
                && let Some(record) = tenure.waiting.pop_front_if(|record| record.outcome.is_some())
            {
                next = Some(record.offset + 1);
                ready.outcomes.extend(record.outcome);
            }
            if let Some(next) = next {
                self.last = (ready.outcomes.len() == limit).then(|| partition.clone());
                ready.offsets.push((partition, next));
            }
        }
        ready
    }

    /// The number of consumed records whose outcome was not taken.
    #[must_use]
    pub fn held(&self) -> usize {
        self.tenures.values().map(|tenure| tenure.waiting.len()).sum()
    }

    /// The number of outcomes that [`take`](Self::take) would return without a limit.
    #[must_use]
    pub fn ready(&self) -> usize {
        let settled =
            |tenure: &Tenure<O>| tenure.waiting.iter().take_while(|record| record.outcome.is_some()).count();
        self.tenures.values().map(settled).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_outcome_after_a_gap_is_held_back() {
        let mut mark = Watermark::new();
        mark.begin(0);
        let tickets: Vec<_> = [3, 4, 7].iter().map(|offset| mark.consume(&0, *offset).unwrap()).collect();
        assert!(mark.settle(&tickets[1], 'b'));
        assert_eq!((mark.committable(), mark.ready(), mark.held()), (vec![], 0, 3));
        assert_eq!(mark.take(9), Ready { outcomes: vec![], offsets: vec![] });
        assert!(mark.settle(&tickets[0], 'a'));
        assert_eq!((mark.committable(), mark.ready()), (vec![(0, 5)], 2));
        assert_eq!(mark.take(1), Ready { outcomes: vec!['a'], offsets: vec![(0, 4)] });
        assert_eq!(mark.take(9), Ready { outcomes: vec!['b'], offsets: vec![(0, 5)] });
        assert!(mark.settle(&tickets[2], 'c') && !mark.settle(&tickets[2], 'd'));
        assert_eq!(mark.take(9), Ready { outcomes: vec!['c'], offsets: vec![(0, 8)] });
    }

    #[test]
    fn a_busy_partition_does_not_keep_the_others_waiting() {
        let mut mark = Watermark::new();
        for partition in 0..3 {
            mark.begin(partition);
            for offset in 0..4 {
                let ticket = mark.consume(&partition, offset).unwrap();
                assert!(mark.settle(&ticket, (partition, offset)));
            }
        }
        let mut next = |limit| mark.take(limit).outcomes;
        assert_eq!(next(2), [(0, 0), (0, 1)]);
        assert_eq!(next(5), [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]);
        assert_eq!(next(2), [(0, 2), (0, 3)]);
        assert_eq!(next(9), [(2, 1), (2, 2), (2, 3)]);
    }

    #[test]
    fn records_of_an_earlier_tenure_are_ignored() {
        let mut mark = Watermark::new();
        assert_eq!(mark.consume(&0, 1), None);
        mark.begin(0);
        let old = mark.consume(&0, 1).unwrap();
        mark.begin(0);
        assert!(!mark.settle(&old, 'x'));
        let new = mark.consume(&0, 1).unwrap();
        assert!(!mark.settle(&old, 'x'));
        assert!(mark.settle(&new, 'y'));
        assert_eq!(mark.consume(&0, 1), None);
        mark.end(&0);
        assert_eq!((mark.held(), mark.consume(&0, 2)), (0, None));
        assert!(!mark.settle(&new, 'z'));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin(u8),
        End(u8),
        Consume(u8, i64),
        Settle(usize),
        Take(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            1 => (0u8..3).prop_map(Step::Begin),
            1 => (0u8..3).prop_map(Step::End),
            // A step of more than one offset stands for control records.
            8 => (0u8..3, 1i64..4).prop_map(|(partition, gap)| Step::Consume(partition, gap)),
            8 => any::<usize>().prop_map(Step::Settle),
            2 => (0usize..6).prop_map(Step::Take),
        ];
        proptest::collection::vec(step, 1..200)
    }

    /// A simple model of the watermark.
    #[derive(Default)]
    struct Model {
        /// The records of the present tenure of each partition in order, each with `settled` and `taken`.
        records: BTreeMap<u8, Vec<(Ticket<u8>, bool, bool)>>,
        tickets: Vec<Ticket<u8>>,
        at: BTreeMap<u8, i64>,
    }

    /// Takes up to `limit` outcomes, and checks that the offsets pass exactly the records whose outcomes are taken.
    fn take_and_check(
        mark: &mut Watermark<u8, Ticket<u8>>,
        model: &mut Model,
        limit: usize,
    ) -> Result<(), TestCaseError> {
        let allowed = mark.committable();
        let ready = mark.take(limit);
        prop_assert!(ready.outcomes.len() <= limit);
        for (partition, next) in &ready.offsets {
            let most = allowed.iter().find(|(other, _)| other == partition).unwrap().1;
            prop_assert!(*next <= most);
        }
        for (partition, records) in &mut model.records {
            let next = ready.offsets.iter().find(|(other, _)| other == partition).map(|(_, next)| *next);
            let mine = ready.outcomes.iter().filter(|ticket| ticket.partition == *partition);
            let due = records
                .iter_mut()
                .filter(|(ticket, _, taken)| !taken && next.is_some_and(|next| ticket.offset < next));
            let mut expected = Vec::new();
            for (ticket, settled, taken) in due {
                prop_assert!(*settled, "offset {next:?} passes {ticket:?}");
                *taken = true;
                expected.push(&*ticket);
            }
            prop_assert_eq!(mine.collect::<Vec<_>>(), expected);
        }
        Ok(())
    }

    proptest! {
        /// In any order of steps, an offset is returned only with all outcomes before it, each once and in order,
        /// and without those of an earlier tenure.
        #[test]
        fn no_offset_passes_a_record_without_its_outcome(steps in steps()) {
            let mut mark: Watermark<u8, Ticket<u8>> = Watermark::new();
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Begin(partition) => {
                        mark.begin(partition);
                        model.records.insert(partition, Vec::new());
                    }
                    Step::End(partition) => {
                        mark.end(&partition);
                        model.records.remove(&partition);
                    }
                    Step::Consume(partition, gap) => {
                        let at = model.at.entry(partition).or_default();
                        *at += gap;
                        let ticket = mark.consume(&partition, *at);
                        prop_assert_eq!(ticket.is_some(), model.records.contains_key(&partition));
                        if let Some(ticket) = ticket {
                            model.records.get_mut(&partition).unwrap().push((ticket.clone(), false, false));
                            model.tickets.push(ticket);
                        }
                    }
                    Step::Settle(which) => {
                        if model.tickets.is_empty() { continue; }
                        let ticket = model.tickets[which % model.tickets.len()].clone();
                        let known = model.records.get_mut(&ticket.partition).and_then(|records| {
                            records.iter_mut().find(|(other, settled, _)| *other == ticket && !settled)
                        });
                        prop_assert_eq!(mark.settle(&ticket, ticket.clone()), known.is_some());
                        if let Some((_, settled, _)) = known { *settled = true; }
                    }
                    Step::Take(limit) => take_and_check(&mut mark, &mut model, limit)?,
                }
                let held: usize = model.records.values().flatten().filter(|(_, _, taken)| !taken).count();
                prop_assert_eq!(mark.held(), held);
            }
            // In the end all outcomes are taken.
            for ticket in model.tickets.clone() { mark.settle(&ticket, ticket.clone()); }
            mark.take(usize::MAX);
            prop_assert_eq!(mark.held(), 0);
        }
    }
}
