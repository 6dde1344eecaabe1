//! `--embed`: the bundled encoders read the texts of rounds without features.

use super::ReplayError;
use super::args::ReplayContext;
use super::load::{Loader, Refused};
use crate::experts::{Panel, PanelConfig};

/// Texts given to the panel at once.
const CHUNK: usize = 4_096;

/// Reads the texts of all unread rounds and inserts the rounds. Texts are sorted by length, so that batches have little
/// padding. A round whose text cannot be read has no features.
pub(super) fn read(loader: &mut Loader, context: &mut ReplayContext<'_>) -> Result<(), ReplayError> {
    let mut rounds = std::mem::take(&mut loader.unread);
    if rounds.is_empty() {
        return Ok(());
    }
    let config = context.panel.clone().unwrap_or_else(|| PanelConfig::new("models"));
    let panel = Panel::open(config).map_err(|error| {
        ReplayError::Unavailable(format!("--embed: {error} (`make setup` brings the experts)"))
    })?;
    if panel.encoder().is_none() {
        return Err(ReplayError::Unavailable(
            "--embed: the panel has no encoder: run `make setup`".to_owned(),
        ));
    }
    rounds.sort_by(|a, b| a.text.len().cmp(&b.text.len()).then_with(|| a.text.cmp(&b.text)));
    let total = rounds.len();
    let mut done = 0;
    for slice in rounds.chunks(CHUNK) {
        // Equal texts are neighbours and read once.
        let mut texts: Vec<&str> = slice.iter().map(|round| round.text.as_str()).collect();
        texts.dedup();
        let mut report = |read: usize| {
            if let Some(progress) = &mut context.progress {
                progress((done + read).min(total), total);
            }
        };
        let readings = panel.read(&texts, &mut report);
        let mut found = texts.iter().zip(&readings).peekable();
        for round in slice {
            while found.peek().is_some_and(|(text, _)| **text != round.text) {
                found.next();
            }
            let reading = found.peek().and_then(|(_, reading)| reading.as_ref());
            let features = reading.map(|reading| (&reading.encoder, &*reading.features));
            loader.insert_read(round, features).map_err(|refused| match refused {
                Refused::Run(error) => error,
                Refused::Line(reason) => ReplayError::Internal(reason),
            })?;
        }
        done += slice.len();
    }
    if let Some(progress) = &mut context.progress {
        progress(total, total);
    }
    Ok(())
}
