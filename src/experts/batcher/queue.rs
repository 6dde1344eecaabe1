//! The texts of one model that wait for a run, and the batch that a free worker takes. Times are passed in.
//!
//! All waiting texts are sorted by length and cut into the cheapest batches, as in [`form`](super::form), and a worker
//! takes one batch of that cut. While no text is due, it takes only a full batch, to which no text as long as its
//! longest could be added. As soon as a text is due, it takes the batch with the text that was due first. So no text
//! waits for others after its due time, and under load, when every text is due, the oldest goes first with the texts
//! nearest to it in length.
//!
//! **Padding is never worse than in first-come order**, however arrivals and workers interleave. First-come order begins
//! again whenever nothing waits, because no text can join a batch that went before it came. Let F be the padded
//! tokens of all texts since then in first-come order, T those of the batches taken, and P the fewest to which the waiting texts
//! can be padded. A new text adds at least its length to F and at most its length to P. A batch taken of a cut moves
//! its padded tokens from P to T. So T + P <= F stays true, and a cut that would break it is not used.

use crate::experts::batcher::{FirstCome, Limits, cut, fits};

/// A text that waits.
#[derive(Debug)]
struct Waiting<T, D> {
    length: usize,
    due: D,
    item: T,
}

/// Texts to run together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TakenBatch<T> {
    pub(crate) items: Vec<T>,
    /// The length of the longest text.
    pub(crate) longest: usize,
}

impl<T> TakenBatch<T> {
    /// The cost of the batch: its padded tokens.
    pub(crate) fn padded(&self) -> usize {
        self.items.len() * self.longest
    }
}

/// A batch of the cut.
struct Candidate<D> {
    start: usize,
    end: usize,
    padded: usize,
    due: D,
    full: bool,
}

/// The waiting texts of a model. `D` is a point in time.
#[derive(Debug)]
pub(crate) struct BatchQueue<T, D> {
    limits: Limits,
    /// Sorted by length, then by due time.
    waiting: Vec<Waiting<T, D>>,
    /// F, of all texts since the queue was last empty.
    first_come: FirstCome,
    /// T, of the batches taken since then.
    taken: usize,
}

impl<T, D: Copy + Ord> BatchQueue<T, D> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, waiting: Vec::new(), first_come: FirstCome::default(), taken: 0 }
    }

    /// Adds a text. It runs by `due` even if its batch is not full.
    pub(crate) fn push(&mut self, length: usize, due: D, item: T) {
        if self.waiting.is_empty() {
            (self.first_come, self.taken) = (FirstCome::default(), 0);
        }
        self.first_come.add(length, &self.limits);
        let place = self.waiting.partition_point(|other| (other.length, other.due) <= (length, due));
        self.waiting.insert(place, Waiting { length, due, item });
    }

    /// Moves the due time of a waiting text forward, if it is later than `due`.
    pub(crate) fn hasten(&mut self, item: &T, due: D)
    where
        T: PartialEq,
    {
        let later = |waiting: &Waiting<T, D>| waiting.due > due && waiting.item == *item;
        if let Some(place) = self.waiting.iter().position(later) {
            let Waiting { length, item, .. } = self.waiting.remove(place);
            let place = self.waiting.partition_point(|other| (other.length, other.due) <= (length, due));
            self.waiting.insert(place, Waiting { length, due, item });
        }
    }

    /// The earliest due time.
    pub(crate) fn due(&self) -> Option<D> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }

    /// Keeps only the texts for which `keep` returns `true`.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.waiting.retain(|waiting| keep(&waiting.item));
    }

    /// Removes all texts.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = T> + '_ {
        self.waiting.drain(..).map(|waiting| waiting.item)
    }

    /// Takes the batch to run now, if there is one.
    pub(crate) fn take(&mut self, now: D) -> Option<TakenBatch<T>> {
        let is_due = self.due()? <= now;
        let chosen = self
            .candidates()
            .into_iter()
            .filter(|batch| is_due || batch.full)
            // Texts of one window are due together. Then the costliest batch goes first, so that workers end together.
            .min_by_key(|batch| (batch.due, std::cmp::Reverse(batch.padded)))?;
        self.taken += chosen.padded;
        let texts: Vec<_> = self.waiting.drain(chosen.start..chosen.end).collect();
        let longest = texts.last().map_or(0, |longest| longest.length);
        Some(TakenBatch { items: texts.into_iter().map(|text| text.item).collect(), longest })
    }

    /// The cheapest cut that keeps the guarantee about padding.
    fn candidates(&self) -> Vec<Candidate<D>> {
        let lengths = || self.waiting.iter().map(|waiting| waiting.length);
        let candidates = self.assemble(&cut(lengths(), &self.limits, self.limits.overhead));
        let padded: usize = candidates.iter().map(|batch| batch.padded).sum();
        if self.taken + padded <= self.first_come.padded() {
            return candidates;
        }
        // Fewer runs were worth more padding, but the guarantee is about padding.
        self.assemble(&cut(lengths(), &self.limits, 0))
    }

    /// The batches with these numbers of rows, from the longest text down.
    fn assemble(&self, rows: &[usize]) -> Vec<Candidate<D>> {
        let mut end = self.waiting.len();
        let batch = |&rows: &usize| {
            let start = end - rows;
            let texts = &self.waiting[start..end];
            let longest = texts.last().map_or(0, |longest| longest.length);
            let due = texts.iter().map(|text| text.due).min()?;
            let full = !fits(&self.limits, rows + 1, longest);
            let batch = Candidate { start, end, padded: rows * longest, due, full };
            end = start;
            Some(batch)
        };
        rows.iter().filter_map(batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::experts::batcher::first_come_padded;

    /// An event of a queue: a text arrives and is due after `wait`, or a worker is free.
    #[derive(Debug, Clone)]
    enum Event {
        Text { length: usize, wait: u64 },
        Free,
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (1_usize..600, 1_usize..20, 0_usize..100).prop_map(|(tokens, rows, overhead)| Limits {
            tokens,
            rows,
            overhead,
        })
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            3 => (0_usize..300, 0_u64..50).prop_map(|(length, wait)| Event::Text { length, wait }),
            1 => Just(Event::Free),
        ];
        prop::collection::vec((0_u64..5, event), 0..200)
    }

    /// Plays the events, then takes the rest. Checks each batch against the waiting texts. Returns the lengths in order
    /// of arrival, split where a text came while nothing waited, and the batches, whose items are the numbers of their
    /// texts.
    fn play(limits: Limits, events: Vec<(u64, Event)>) -> (Vec<Vec<usize>>, Vec<TakenBatch<usize>>) {
        let (mut queue, mut now, mut lengths, mut dues) =
            (BatchQueue::new(limits), 0, Vec::new(), Vec::new());
        let mut waiting = std::collections::BTreeSet::new();
        let (mut batches, mut spells) = (Vec::new(), Vec::<Vec<usize>>::new());
        let mut free = |queue: &mut BatchQueue<usize, u64>,
                        now,
                        waiting: &mut std::collections::BTreeSet<usize>,
                        lengths: &[usize],
                        dues: &[u64]| {
            let first = waiting.iter().map(|&text: &usize| dues[text]).min();
            assert_eq!(queue.due(), first);
            let Some(batch) = queue.take(now) else {
                assert!(first.is_none_or(|due| due > now), "a text was due and did not go");
                return false;
            };
            assert_eq!(batch.longest, batch.items.iter().map(|&text| lengths[text]).max().unwrap());
            assert!(batch.items.len() == 1 || fits(&limits, batch.items.len(), batch.longest));
            for text in &batch.items {
                assert!(waiting.remove(text), "it was taken twice");
            }
            let earliest = batch.items.iter().map(|&text| dues[text]).min();
            if first.is_some_and(|due| due <= now) {
                assert_eq!(earliest, first, "the text that was due first goes first");
            } else {
                assert!(!fits(&limits, batch.items.len() + 1, batch.longest), "it was not full");
            }
            batches.push(batch);
            true
        };
        for (passed, event) in events {
            now += passed;
            match event {
                Event::Text { length, wait } => {
                    if waiting.is_empty() {
                        spells.push(Vec::new());
                    }
                    spells.last_mut().expect("the first text opens one").push(length);
                    queue.push(length, now + wait, lengths.len());
                    waiting.insert(lengths.len());
                    lengths.push(length);
                    dues.push(now + wait);
                }
                Event::Free => {
                    free(&mut queue, now, &mut waiting, &lengths, &dues);
                }
            }
        }
        while free(&mut queue, u64::MAX, &mut waiting, &lengths, &dues) {}
        assert!(waiting.is_empty(), "lost: {waiting:?}");
        (spells, batches)
    }

    proptest! {
        /// No text is lost or taken twice, limits hold, and due texts go, the first due first.
        #[test]
        fn each_text_goes_once_and_in_time(limits in limits(), events in events()) {
            let (spells, batches) = play(limits, events);
            let mut seen: Vec<usize> = batches.into_iter().flat_map(|batch| batch.items).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..spells.concat().len()).collect::<Vec<_>>());
        }

        #[test]
        fn padding_is_never_worse_than_first_come_order(limits in limits(), events in events()) {
            let (spells, batches) = play(limits, events);
            let padded: usize = batches.iter().map(TakenBatch::padded).sum();
            let first_come: usize = spells.iter().map(|lengths| first_come_padded(lengths, &limits)).sum();
            prop_assert!(padded <= first_come);
        }

        /// A window of texts costs no more than the batches of `form`.
        #[test]
        fn a_window_is_cut_as_form_cuts_it(
            limits in limits(), lengths in prop::collection::vec(0_usize..300, 1..100)
        ) {
            let events = lengths.iter().map(|&length| (0, Event::Text { length, wait: 0 })).collect();
            let (_, batches) = play(limits, events);
            let formed = crate::experts::batcher::form(&lengths, &limits);
            let cost = |padded: usize, batches: usize| padded + limits.overhead * batches;
            let ours = cost(batches.iter().map(TakenBatch::padded).sum(), batches.len());
            prop_assert!(ours <= cost(formed.iter().map(|b| b.padded()).sum(), formed.len()));
        }
    }

    #[test]
    fn only_full_batches_go_before_they_are_due() {
        let mut queue = BatchQueue::new(Limits { tokens: 20, rows: 8, overhead: 1 });
        queue.push(5, 10, 'a');
        queue.push(5, 12, 'b');
        queue.push(5, 11, 'c');
        assert_eq!((queue.take(9), queue.due()), (None, Some(10)));
        queue.push(5, 13, 'd');
        let batch = queue.take(9).unwrap();
        assert_eq!((batch.items, batch.longest), (vec!['a', 'c', 'b', 'd'], 5));
        queue.push(7, 20, 'e');
        assert_eq!(queue.take(19), None);
        assert_eq!(queue.take(20).unwrap().items, ['e']);
        assert_eq!(queue.take(u64::MAX), None);
    }

    #[test]
    fn the_costliest_of_the_texts_due_together_goes_first() {
        let mut queue = BatchQueue::new(Limits { tokens: 256, rows: 32, overhead: 20 });
        for length in [5, 250, 40, 3, 3, 90] {
            queue.push(length, 0, length);
        }
        let padded: Vec<usize> = std::iter::from_fn(|| queue.take(0)).map(|batch| batch.padded()).collect();
        assert_eq!(padded.len(), 4, "{padded:?}");
        assert!(padded.is_sorted_by(|a, b| a >= b), "{padded:?}");
    }

    /// Two streams keep a queue full, the second one with a head start. A batch is taken `rounds` times, and each text in it
    /// is replaced by a new one of its stream. Returns, for each text that ran, its stream and the rounds that it waited.
    fn contend(windows: [usize; 2], head_start: u64, rounds: u64) -> Vec<(usize, u64)> {
        let mut queue = BatchQueue::new(Limits { tokens: 40, rows: 4, overhead: 1 });
        let mut random = fastrand::Rng::with_seed(7);
        let push = |queue: &mut BatchQueue<(usize, u64), u64>, stream: usize, now: u64, length| {
            queue.push(length, now - if stream == 1 { head_start } else { 0 }, (stream, now));
        };
        // Times are far from 0, where a head start would end.
        let begin = 10_000;
        for stream in [0, 1] {
            for _ in 0..windows[stream] {
                push(&mut queue, stream, begin, random.usize(1..10));
            }
        }
        let mut ran = Vec::new();
        for now in begin + 1..=begin + rounds {
            for (stream, since) in queue.take(now).expect("the queue is full").items {
                ran.push((stream, now - since));
                push(&mut queue, stream, now, random.usize(1..10));
            }
        }
        ran
    }

    #[test]
    fn of_two_streams_that_fill_a_queue_neither_starves() {
        for (windows, head_start) in [([256, 64], 20), ([256, 64], 0), ([8, 256], 20), ([1, 256], 40)] {
            let ran = contend(windows, head_start, 1_000);
            let longest =
                |stream| ran.iter().filter(|text| text.0 == stream).map(|text| text.1).max().unwrap();
            let all: usize = windows.iter().sum();
            // A text with a head start waits at most as long as all texts of both streams take one by one; a text without
            // one waits the head start longer, and for the texts that came in it.
            let bound = u64::try_from(all).unwrap();
            assert!(longest(1) <= bound, "{windows:?}: {}", longest(1));
            assert!(longest(0) <= bound + head_start, "{windows:?}: {}", longest(0));
            let share = |stream| ran.iter().filter(|text| text.0 == stream).count();
            assert!(share(0) > 0 && share(1) > share(0) * windows[1] / windows[0] / 2, "{windows:?}");
        }
        // In front of a backlog the texts with a head start wait for one batch or two.
        let mut waits: Vec<u64> =
            contend([256, 2], 1_000, 1_000).into_iter().filter(|ran| ran.0 == 1).map(|ran| ran.1).collect();
        waits.sort_unstable();
        assert!(waits[waits.len() / 2] <= 2, "{waits:?}");
    }

    #[test]
    fn a_text_that_is_asked_about_again_is_not_due_later() {
        let mut queue = BatchQueue::new(Limits { tokens: 5, rows: 8, overhead: 1 });
        queue.push(5, 10, 'a');
        queue.push(5, 12, 'b');
        queue.hasten(&'b', 3);
        queue.hasten(&'a', 11);
        assert_eq!(queue.due(), Some(3));
        assert_eq!(queue.take(20).unwrap().items, ['b']);
        assert_eq!((queue.due(), queue.take(20).unwrap().items), (Some(10), vec!['a']));
    }

    #[test]
    fn removed_texts_do_not_go() {
        let mut queue = BatchQueue::new(Limits { tokens: 20, rows: 8, overhead: 1 });
        queue.push(5, 0, 'a');
        queue.push(5, 0, 'b');
        queue.retain(|&item| item != 'a');
        assert_eq!(queue.take(0).unwrap().items, ['b']);
    }
}
