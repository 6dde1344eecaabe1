//! Forms batches of texts by padded tokens: pure, for whole windows; a [`queue`](queue) does it for
//! texts that keep coming.
//!
//! A batch is padded to its longest text, so it costs `rows × longest` tokens; each run of a graph
//! costs something beside. Texts sorted by length and cut into runs make the cheapest batches: give
//! any two batches the same number of rows as before, but the longer texts to the one with the longer
//! longest, and neither limit nor cost gets worse. Among the cuts of the sorted texts the cheapest is
//! found exactly, in `texts × rows` steps.

pub(crate) mod queue;

/// What a batch may hold, and what one costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Greatest number of padded tokens (rows × longest). A longer text runs alone.
    pub tokens: usize,
    /// Greatest number of rows.
    pub rows: usize,
    /// What one more run costs, in tokens.
    pub overhead: usize,
}

/// Texts to run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The texts, by their place in the lengths given.
    pub texts: Vec<usize>,
    /// Length of the longest.
    pub longest: usize,
}

impl Batch {
    /// Padded tokens: what the batch costs.
    #[must_use]
    pub fn padded(&self) -> usize {
        self.texts.len() * self.longest
    }
}

/// Whether `rows` texts of at most `longest` tokens may run together.
pub(super) fn fits(limits: &Limits, rows: usize, longest: usize) -> bool {
    rows == 1 || (rows <= limits.rows && rows.saturating_mul(longest) <= limits.tokens)
}

/// What first-come order pads to: each text joins the open batch where it can.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FirstCome {
    closed: usize,
    rows: usize,
    longest: usize,
}

impl FirstCome {
    /// One more text comes.
    pub(super) fn add(&mut self, length: usize, limits: &Limits) {
        if self.rows > 0 && !fits(limits, self.rows + 1, self.longest.max(length)) {
            self.closed += self.rows * self.longest;
            (self.rows, self.longest) = (0, 0);
        }
        self.rows += 1;
        self.longest = self.longest.max(length);
    }

    /// Padded tokens so far, the open batch's among them.
    pub(super) fn padded(&self) -> usize {
        self.closed + self.rows * self.longest
    }
}

/// What first-come order pads to under the same limits.
#[must_use]
pub fn first_come_padded(lengths: &[usize], limits: &Limits) -> usize {
    let mut order = FirstCome::default();
    lengths.iter().for_each(|&length| order.add(length, limits));
    order.padded()
}

/// The cheapest way to cut some of the shortest texts into batches.
#[derive(Clone, Copy)]
struct Cut {
    cost: usize,
    batches: usize,
    /// Rows of its last batch; 0 where there is none.
    rows: usize,
}

/// The cheapest cut of texts sorted by length, as the rows of its batches from the longest text down.
pub(super) fn cut(
    sorted: impl ExactSizeIterator<Item = usize>,
    limits: &Limits,
    overhead: usize,
) -> Vec<usize> {
    let mut cuts = Vec::with_capacity(sorted.len() + 1);
    cuts.push(Cut { cost: 0, batches: 0, rows: 0 });
    for longest in sorted {
        let best = cuts
            .iter()
            .rev()
            .zip(1..)
            .take_while(|&(_, rows)| fits(limits, rows, longest))
            .map(|(before, rows): (&Cut, usize)| Cut {
                cost: before.cost + rows * longest + overhead,
                batches: before.batches + 1,
                rows,
            })
            .min_by_key(|cut| (cut.cost, cut.batches));
        cuts.extend(best);
    }
    let mut rows = Vec::new();
    while let Some(last) = cuts.pop()
        && last.rows > 0
    {
        rows.push(last.rows);
        cuts.truncate(cuts.len() + 1 - last.rows);
    }
    rows
}

fn assemble(sorted: &[(usize, usize)], rows: &[usize]) -> Vec<Batch> {
    let mut sorted = sorted.to_vec();
    rows.iter()
        .map(|&rows| {
            let batch = sorted.split_off(sorted.len().saturating_sub(rows));
            Batch {
                longest: batch.last().map_or(0, |&(length, _)| length),
                texts: batch.into_iter().map(|(_, text)| text).collect(),
            }
        })
        .collect()
}

/// Forms batches of texts with the given lengths in tokens: each text in exactly one, within the
/// limits but for a text that exceeds them alone. Never more padded tokens than in first-come order.
/// The costliest batches come first, so that workers who share them end together.
#[must_use]
pub fn form(lengths: &[usize], limits: &Limits) -> Vec<Batch> {
    let mut sorted: Vec<(usize, usize)> = lengths.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    let lengths_sorted = || sorted.iter().map(|&(length, _)| length);
    let mut batches = assemble(&sorted, &cut(lengths_sorted(), limits, limits.overhead));
    let padded: usize = batches.iter().map(Batch::padded).sum();
    if padded > first_come_padded(lengths, limits) {
        // Fewer runs were worth more padding; but the promise is about padding.
        batches = assemble(&sorted, &cut(lengths_sorted(), limits, 0));
    }
    batches.sort_by_key(|batch| std::cmp::Reverse(batch.padded()));
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> impl Strategy<Value = Limits> {
        (1_usize..600, 1_usize..20, 0_usize..100).prop_map(|(tokens, rows, overhead)| Limits {
            tokens,
            rows,
            overhead,
        })
    }

    proptest! {
        #[test]
        fn each_text_is_in_exactly_one_batch(
            lengths in prop::collection::vec(0_usize..300, 0..200), limits in limits()
        ) {
            let mut seen: Vec<usize> = form(&lengths, &limits).into_iter().flat_map(|b| b.texts).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        }

        #[test]
        fn limits_hold_but_for_a_single_text(
            lengths in prop::collection::vec(0_usize..300, 0..200), limits in limits()
        ) {
            for batch in form(&lengths, &limits) {
                prop_assert_eq!(batch.longest, batch.texts.iter().map(|&t| lengths[t]).max().unwrap());
                prop_assert!(batch.texts.len() <= limits.rows);
                prop_assert!(batch.texts.len() == 1 || batch.padded() <= limits.tokens);
            }
        }

        #[test]
        fn padding_is_never_worse_than_first_come_order(
            lengths in prop::collection::vec(0_usize..300, 0..200), limits in limits()
        ) {
            let padded: usize = form(&lengths, &limits).iter().map(Batch::padded).sum();
            prop_assert!(padded <= first_come_padded(&lengths, &limits));
        }

        /// No way to share the texts out costs less: tried on all partitions of few texts.
        #[test]
        fn the_cut_is_the_cheapest_of_all_partitions(
            lengths in prop::collection::vec(0_usize..12, 1..7), tokens in 1_usize..30, rows in 1_usize..5,
            overhead in 0_usize..10
        ) {
            let limits = Limits { tokens, rows, overhead };
            let mut sorted: Vec<(usize, usize)> = lengths.iter().copied().zip(0..).collect();
            sorted.sort_unstable();
            let rows = cut(sorted.iter().map(|&(length, _)| length), &limits, overhead);
            let found: usize = assemble(&sorted, &rows).iter().map(|b| b.padded() + overhead).sum();
            prop_assert_eq!(found, cheapest(&lengths, &limits, &mut Vec::new()));
        }
    }

    /// Tries every partition: the next text joins each open batch, or opens one.
    fn cheapest(rest: &[usize], limits: &Limits, open: &mut Vec<(usize, usize)>) -> usize {
        let Some((&length, rest)) = rest.split_first() else {
            return open.iter().map(|(rows, longest)| rows * longest + limits.overhead).sum();
        };
        let mut least = usize::MAX;
        for place in 0..open.len() {
            let (rows, longest) = open[place];
            if fits(limits, rows + 1, longest.max(length)) {
                open[place] = (rows + 1, longest.max(length));
                least = least.min(cheapest(rest, limits, open));
                open[place] = (rows, longest);
            }
        }
        open.push((1, length));
        least = least.min(cheapest(rest, limits, open));
        open.pop();
        least
    }

    #[test]
    fn overhead_decides_between_padding_and_runs() {
        let lengths = [1, 1, 10, 10];
        let limits = |overhead| Limits { tokens: 256, rows: 32, overhead };
        assert_eq!(form(&lengths, &limits(5)).len(), 2);
        assert_eq!(form(&[9, 9, 10, 10], &limits(5)).len(), 1);
    }

    #[test]
    fn the_costliest_comes_first() {
        let padded: Vec<_> = form(&[5, 250, 40, 3, 3, 90], &Limits { tokens: 256, rows: 32, overhead: 20 })
            .iter()
            .map(Batch::padded)
            .collect();
        assert!(padded.is_sorted_by(|a, b| a >= b), "{padded:?}");
    }
}
