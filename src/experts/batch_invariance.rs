//! Whether a score hangs on what else is in a batch: quantised graphs often scale by the greatest number of all
//! rows, and some take no second row at all.

use std::time::{Duration, Instant};

use ort::session::RunOptions;

use super::backend::onnx::session::Fault;
use super::backend::onnx::{Heads, RowResult, Spent, Station};
use super::backend::run::Call;
use super::error::PanelError;
use super::fit::misfit;
use crate::core::vote::Abstention;

/// How far a score may move with what else is in its batch.
pub const TOLERANCE: f64 = 1e-4;
/// How long the runs may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tokens of the texts that are run, where there is room for as many: all but one are padded.
const LENGTHS: [usize; 3] = [3, 24, 9];

/// Refuses a station whose scores hang on the batch by more than [`TOLERANCE`]. `greatest` is the greatest token that
/// its tokenizer gives, `room` the most tokens, or characters, of a text.
pub(super) fn steady(
    id: &str,
    greatest: Option<u32>,
    room: usize,
    station: &mut Station,
) -> Result<(), PanelError> {
    let text = |(place, &length): (usize, &usize)| text(greatest, place, length.min(room));
    let texts: Vec<Vec<u32>> = LENGTHS.iter().enumerate().map(text).collect();
    let rows: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let run = |station: &mut Station, rows: &[&[u32]]| -> Result<Vec<RowResult>, Fault> {
        let options = RunOptions::new().map_err(Fault::failed)?;
        let call = Call::new(Instant::now() + PATIENCE, Some(options));
        Ok(station.run(rows, Some(Heads { without: &[] }), &call, &mut Spent::default()))
    };
    // Without run options nothing runs at all, and says so itself.
    let Ok(together) = run(station, &rows) else { return Ok(()) };
    for (row, beside) in rows.iter().zip(together) {
        let Ok(alone) = run(station, &[row]) else { return Ok(()) };
        let outcomes = alone.into_iter().flat_map(|result| result.outcomes).zip(beside.outcomes);
        for ((_, alone), (_, beside)) in outcomes {
            let problem = match (alone, beside) {
                (Ok((alone, _)), Ok((beside, _))) if (alone - beside).abs() > TOLERANCE => {
                    format!("a score moves by {:.1e} with what else is in its batch", (alone - beside).abs())
                }
                (Ok(_), Err(reason)) if reason != Abstention::TimedOut => {
                    format!("it judges a text alone, and in a batch not ({})", reason.word())
                }
                _ => continue,
            };
            let mend = "say alone = true there, or export a graph whose rows do not touch each other";
            return Err(misfit(id, ("alone", problem, mend)));
        }
    }
    Ok(())
}

/// The greatest token and the least in turn, or letters; neighbours begin with the other.
fn text(greatest: Option<u32>, place: usize, length: usize) -> Vec<u32> {
    let pair = greatest.map_or([u32::from('a'), u32::from('b')], |greatest| [greatest, 0]);
    pair.into_iter().cycle().skip(place % 2).take(length).collect()
}
