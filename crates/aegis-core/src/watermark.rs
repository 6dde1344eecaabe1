//! How far the records of each partition have their outcomes: a committed offset hides every earlier
//! record, so it must never pass one that is still without.
//!
//! Outcomes come in any order; they leave in the order of the records, together with the offsets that they
//! allow to commit. An outcome ahead of a gap is kept back: were it written and the process killed, its
//! record would come again and get a second one.
//!
//! A *tenure* is one assignment of a partition. What belongs to an earlier tenure (the partition was away,
//! or was rewound) counts no more: another member may have done it already.

use std::collections::{BTreeMap, VecDeque};

/// A record that waits for its outcome.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket<P> {
    /// Its partition.
    pub partition: P,
    /// The tenure in which it was consumed.
    pub tenure: u64,
    /// Its offset.
    pub offset: i64,
}

/// Outcomes in the order of their records, and what they allow to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready<P, O> {
    /// The outcomes, in order per partition.
    pub outcomes: Vec<O>,
    /// Per partition the next offset to consume: one past the last record of `outcomes`.
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
    /// In the order of offsets, without gaps of records (offsets may have gaps: control records).
    waiting: VecDeque<Waiting<O>>,
    /// The last offset consumed.
    last: Option<i64>,
}

/// The records consumed of all partitions, and their outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Watermark<P, O> {
    tenures: BTreeMap<P, Tenure<O>>,
    begun: u64,
    /// The partition at which a limit ended the last taking; those after it are first in the next.
    last: Option<P>,
}

impl<P, O> Default for Watermark<P, O> {
    fn default() -> Self {
        Self { tenures: BTreeMap::new(), begun: 0, last: None }
    }
}

impl<P: Ord + Clone, O> Watermark<P, O> {
    /// Nothing consumed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a tenure: the partition was assigned, or rewound to its committed offset. What was known of
    /// it is forgotten.
    pub fn begin(&mut self, partition: P) {
        self.begun += 1;
        let tenure = Tenure { number: self.begun, waiting: VecDeque::new(), last: None };
        self.tenures.insert(partition, tenure);
    }

    /// Ends a tenure: the partition was revoked.
    pub fn end(&mut self, partition: &P) {
        self.tenures.remove(partition);
    }

    /// Notes a record; its outcome comes with the ticket. None: the partition is not held, or the offset
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

    /// Gives a record its outcome. False, and the outcome is dropped: its tenure is over, or it has one.
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

    /// Per partition, one past the last record of those settled without a gap; only where there is one.
    #[must_use]
    pub fn committable(&self) -> Vec<(P, i64)> {
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

    /// Takes the outcomes that stand before every gap, `limit` at most, with the offsets that they allow. Partitions
    /// take turns at being first: none waits behind a busy one for long. What is taken belongs to one unit: if it
    /// fails, begin the tenures anew.
    pub fn take(&mut self, limit: usize) -> Ready<P, O> {
        let mut ready = Ready { outcomes: Vec::new(), offsets: Vec::new() };
        let last = self.last.take();
        let first = |partition: &P| last.as_ref().is_none_or(|last| partition > last);
        let (firsts, others): (Vec<P>, Vec<P>) = self.tenures.keys().cloned().partition(first);
        for partition in firsts.into_iter().chain(others) {
            let Some(tenure) = self.tenures.get_mut(&partition) else { continue };
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

    /// Records consumed whose outcome was not taken yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.tenures.values().map(|tenure| tenure.waiting.len()).sum()
    }

    /// Outcomes that [`take`](Self::take) would give without a limit.
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
    fn an_outcome_ahead_of_a_gap_is_kept_back() {
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
    fn what_belongs_to_an_earlier_tenure_counts_no_more() {
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
            // A step of more than one: control records between.
            8 => (0u8..3, 1i64..4).prop_map(|(partition, gap)| Step::Consume(partition, gap)),
            8 => any::<usize>().prop_map(Step::Settle),
            2 => (0usize..6).prop_map(Step::Take),
        ];
        proptest::collection::vec(step, 1..200)
    }

    /// What a member has committed so far, and all that it knows, in the plainest way.
    #[derive(Default)]
    struct Model {
        /// Per partition: records of the present tenure in order, settled or not, taken or not.
        records: BTreeMap<u8, Vec<(Ticket<u8>, bool, bool)>>,
        tickets: Vec<Ticket<u8>>,
        at: BTreeMap<u8, i64>,
    }

    proptest! {
        /// Whatever comes in whatever order: an offset is given out only with all outcomes before it, each
        /// once and in order, and nothing of an earlier tenure.
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
                    Step::Take(limit) => {
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
                    }
                }
                let held: usize = model.records.values().flatten().filter(|(_, _, taken)| !taken).count();
                prop_assert_eq!(mark.held(), held);
            }
            // In the end everything leaves: nothing is lost.
            for ticket in model.tickets.clone() { mark.settle(&ticket, ticket.clone()); }
            mark.take(usize::MAX);
            prop_assert_eq!(mark.held(), 0);
        }
    }
}
