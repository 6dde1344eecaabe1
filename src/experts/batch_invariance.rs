//! Checks that a score does not depend on the other texts of its batch. Quantised graphs often scale by the greatest
//! number of all rows, and some take no second row at all.

use std::time::{Duration, Instant};

use super::backend::result::{RunTimes, TextResult};
use super::backend::run::InFlightRun;
use super::backend::{Backend, Wanted};
use super::error::{Misfit, PanelError};
use crate::core::vote::Abstention;

/// The time that each run may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);
/// The lengths in tokens of the texts that run, if there is room: all but one are padded.
const LENGTHS: [usize; 3] = [3, 24, 9];

/// Refuses a backend whose scores differ by more than its [tolerance](Backend::tolerance) with the batch. `greatest` is the
/// greatest token id that its tokenizer gives, `room` the greatest number of tokens, or characters, of a text.
pub(super) fn check_batch_invariance(
    id: &str,
    greatest: Option<u32>,
    room: usize,
    backend: &mut dyn Backend<Text = [u32]>,
) -> Result<(), PanelError> {
    let text = |(place, &length): (usize, &usize)| text(greatest, place, length.min(room));
    let texts: Vec<Vec<u32>> = LENGTHS.iter().enumerate().map(text).collect();
    let rows: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let tolerance = backend.tolerance();
    let mut run = |rows: &[&[u32]]| -> Vec<TextResult> {
        let run = InFlightRun::new(Instant::now() + RUN_TIMEOUT, false);
        backend.run(rows, Wanted::Votes { except: &[] }, &run, &mut RunTimes::default())
    };
    for (row, in_batch) in rows.iter().zip(run(&rows)) {
        let alone = run(&[row]).into_iter().flat_map(|result| result.outcomes);
        for ((_, alone), (_, in_batch)) in alone.zip(in_batch.outcomes) {
            let problem = match (alone, in_batch) {
                (Ok((alone, _)), Ok((in_batch, _))) if (alone - in_batch).abs() > tolerance => {
                    let difference = (alone - in_batch).abs();
                    format!("a score differs by {difference:.1e} with the other texts of its batch")
                }
                (Ok(_), Err(reason)) if reason != Abstention::TimedOut => {
                    format!("it judges a text alone, but not in a batch ({})", reason.word())
                }
                _ => continue,
            };
            let remedy = "set alone = true there, or export a graph whose rows do not influence each other";
            return Err(Misfit::new("alone", problem, remedy).of(id));
        }
    }
    Ok(())
}

/// A text of the greatest and the least token id in turn, or of letters. Neighbours begin with the other one.
fn text(greatest: Option<u32>, place: usize, length: usize) -> Vec<u32> {
    let pair = greatest.map_or([u32::from('a'), u32::from('b')], |greatest| [greatest, 0]);
    pair.into_iter().cycle().skip(place % 2).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experts::backend::{Form, Profile, TOLERANCE};

    /// A backend whose scores depend on the number of rows.
    struct Shaky {
        difference: f64,
        tolerance: f64,
    }

    impl Backend for Shaky {
        type Text = [u32];

        fn profile(&self) -> Profile {
            Profile { reads: Form::TokenIds, padded_to: None, prefix: 0, max_in_flight: None }
        }

        fn tolerance(&self) -> f64 {
            self.tolerance
        }

        fn run(
            &mut self,
            texts: &[&[u32]],
            _: Wanted<'_>,
            _: &InFlightRun,
            _: &mut RunTimes,
        ) -> Vec<TextResult> {
            let score = if texts.len() > 1 { 0.5 + self.difference } else { 0.5 };
            let result = TextResult { outcomes: vec![(0, Ok((score, Vec::new())))], ..TextResult::default() };
            vec![result; texts.len()]
        }
    }

    #[test]
    fn each_backend_is_held_to_its_own_tolerance() {
        let is_accepted = |difference, tolerance| {
            let mut backend = Shaky { difference, tolerance };
            check_batch_invariance("shaky", Some(9), 24, &mut backend).is_ok()
        };
        assert!(is_accepted(5e-5, TOLERANCE) && !is_accepted(1e-3, TOLERANCE));
        assert!(is_accepted(1e-3, 2e-3) && !is_accepted(3e-3, 2e-3));
    }
}
