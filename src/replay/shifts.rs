//! The fewest mistakes of any sequence of experts in hindsight, by the number of shifts between experts.

/// Counts, round by round, the fewest mistakes of any sequence of experts with at most m shifts, for m from 0 to
/// `max_shifts`. An abstention counts as a mistake.
#[derive(Debug)]
pub(super) struct Shifts {
    /// `best[m][i]` is the fewest mistakes so far with at most m shifts, ending with expert i.
    best: Vec<Vec<u64>>,
}

impl Shifts {
    pub(super) fn new(experts: usize, max_shifts: usize) -> Self {
        Self { best: vec![vec![0; experts]; max_shifts + 1] }
    }

    /// Adds a round.
    pub(super) fn add(&mut self, votes: &[f64], target: f64) {
        // From many shifts to few, so that each row reads the row before it as of the last round.
        for m in (0..self.best.len()).rev() {
            let (fewer, more) = self.best.split_at_mut(m);
            let least = fewer.last().and_then(|fewer| fewer.iter().min()).copied();
            let Some(row) = more.first_mut() else { continue };
            for (mistakes, vote) in row.iter_mut().zip(votes) {
                let wrong = vote.is_nan() || (*vote >= 0.5) != (target >= 0.5);
                *mistakes = least.map_or(*mistakes, |least| least.min(*mistakes)) + u64::from(wrong);
            }
        }
    }

    /// Returns the fewest mistakes by number of shifts.
    pub(super) fn fewest(&self) -> Vec<u64> {
        self.best.iter().filter_map(|row| row.iter().min()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewest_mistakes_are_those_of_all_sequences() {
        // All sequences of three experts over six rounds.
        let mut seed = 7u32;
        for _ in 0..50 {
            let mut rounds = Vec::new();
            for _ in 0..6 {
                let mut bit = || {
                    seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    seed >> 16 & 3
                };
                let vote = |bits: u32| if bits == 3 { f64::NAN } else { f64::from(bits) / 2.0 };
                rounds.push(([vote(bit()), vote(bit()), vote(bit())], f64::from(bit() & 1)));
            }
            let mut shifts = Shifts::new(3, 4);
            rounds.iter().for_each(|(votes, target)| shifts.add(votes, *target));
            let mut fewest = [u64::MAX; 5];
            for sequence in 0..3usize.pow(6) {
                let experts: Vec<usize> = (0..6).map(|round| sequence / 3usize.pow(round) % 3).collect();
                let changes = experts.windows(2).filter(|pair| pair[0] != pair[1]).count();
                let mistakes = rounds.iter().zip(&experts).filter(|((votes, target), expert)| {
                    votes[**expert].is_nan() || (votes[**expert] >= 0.5) != (*target >= 0.5)
                });
                let mistakes = mistakes.count() as u64;
                fewest.iter_mut().skip(changes).for_each(|best| *best = mistakes.min(*best));
            }
            assert_eq!(shifts.fewest(), fewest);
        }
    }
}
