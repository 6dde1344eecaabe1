//! Forms batches of texts with the least padding. [`form`] does it for a window of texts, a
//! [`BatchQueue`](queue::BatchQueue) for texts that keep coming.
//!
//! A batch is padded to its longest text, so it costs `rows × longest` tokens, and each run of a graph has a fixed cost.
//! The cheapest batches are consecutive parts of the texts sorted by length: exchange the texts of any two batches so
//! that the one with the longest text has all of the longer ones, with the same numbers of rows, and neither a limit
//! nor the cost gets worse. The cheapest cut of the sorted texts is found exactly, in `texts × rows` steps.

pub(crate) mod queue;

/// The limits of a batch, and the fixed cost of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The greatest number of padded tokens (rows × longest). A longer text runs alone.
    pub tokens: usize,
    /// The greatest number of rows.
    pub rows: usize,
    /// The cost of one more run, in tokens.
    pub overhead: usize,
}

/// Texts to run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The texts, as indexes of the given lengths.
    pub texts: Vec<usize>,
    /// The length of the longest text.
    pub longest: usize,
}

impl Batch {
    /// The cost of the batch: its padded tokens.
    #[must_use]
    pub fn padded(&self) -> usize {
        self.texts.len() * self.longest
    }
}

/// Returns `true` if `rows` texts of at most `longest` tokens may run together.
pub(super) fn fits(limits: &Limits, rows: usize, longest: usize) -> bool {
    rows == 1 || (rows <= limits.rows && rows.saturating_mul(longest) <= limits.tokens)
}

/// The padded tokens of first-come order, in which each text joins the open batch if it fits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FirstCome {
    closed: usize,
    rows: usize,
    longest: usize,
}

impl FirstCome {
    /// Adds a text.
    pub(super) fn add(&mut self, length: usize, limits: &Limits) {
        if self.rows > 0 && !fits(limits, self.rows + 1, self.longest.max(length)) {
            self.closed += self.rows * self.longest;
            (self.rows, self.longest) = (0, 0);
        }
        self.rows += 1;
        self.longest = self.longest.max(length);
    }

    /// The padded tokens so far, including the open batch.
    pub(super) fn padded(&self) -> usize {
        self.closed + self.rows * self.longest
    }
}

/// The padded tokens of first-come order under the same limits.
#[must_use]
pub fn first_come_padded(lengths: &[usize], limits: &Limits) -> usize {
    let mut order = FirstCome::default();
    lengths.iter().for_each(|&length| order.add(length, limits));
    order.padded()
}

/// The cheapest cut of the shortest texts, up to some text.
#[derive(Clone, Copy)]
struct Cut {
    cost: usize,
    batches: usize,
    /// The rows of its last batch; 0 without any text.
    rows: usize,
}

/// Finds the cheapest cut of texts sorted by length. Returns the rows of its batches, from the longest text down.
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

/// Forms batches of texts with the given lengths in tokens. Each text is in exactly one batch, and a batch exceeds the
/// limits only if it is a single text. There are never more padded tokens than in first-come order. The costliest
/// batches come first, so that workers that share them end at about the same time.
#[must_use]
pub fn form(lengths: &[usize], limits: &Limits) -> Vec<Batch> {
    let mut sorted: Vec<(usize, usize)> = lengths.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    let lengths_sorted = || sorted.iter().map(|&(length, _)| length);
    let mut batches = assemble(&sorted, &cut(lengths_sorted(), limits, limits.overhead));
    let padded: usize = batches.iter().map(Batch::padded).sum();
    if padded > first_come_padded(lengths, limits) {
        // Fewer runs were worth more padding, but the guarantee is about padding.
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

        /// No partition costs less. All partitions of a few texts are tried.
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

    /// The cost of the cheapest partition: the next text joins each open batch in turn, or opens one.
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
