//! `--embed`: texts without features are read by the bundled encoder.

use super::ReplayError;
use super::args::Around;
use super::load::{Loader, Refused};
use crate::experts::{Panel, PanelConfig};

/// Texts read between two looks at the progress.
const SLICE: usize = 4_096;

/// Reads the texts of all rounds that wait for it, the short ones first so that batches pad little, and
/// seats the rounds. A text that cannot be read gives a round without features.
pub(super) fn read(loader: &mut Loader, around: &mut Around<'_>) -> Result<(), ReplayError> {
    let mut waiting = std::mem::take(&mut loader.unread);
    if waiting.is_empty() {
        return Ok(());
    }
    let config = around.panel.clone().unwrap_or_else(|| PanelConfig::new("models"));
    let panel = Panel::open(config).map_err(|error| {
        ReplayError::Unavailable(format!("--embed: {error} (`make setup` brings the experts)"))
    })?;
    if panel.encoder().is_none() {
        return Err(ReplayError::Unavailable(
            "--embed: the panel has no encoder: run `make setup`".to_owned(),
        ));
    }
    waiting.sort_by(|a, b| a.text.len().cmp(&b.text.len()).then_with(|| a.text.cmp(&b.text)));
    let total = waiting.len();
    let mut done = 0;
    for slice in waiting.chunks(SLICE) {
        // One reading for the same text.
        let mut texts: Vec<&str> = slice.iter().map(|unread| unread.text.as_str()).collect();
        texts.dedup();
        let mut tell = |read: usize| {
            if let Some(progress) = &mut around.progress {
                progress((done + read).min(total), total);
            }
        };
        let readings = panel.read(&texts, &mut tell);
        let mut found = texts.iter().zip(&readings).peekable();
        for unread in slice {
            while found.peek().is_some_and(|(text, _)| **text != unread.text) {
                found.next();
            }
            let reading = found.peek().and_then(|(_, reading)| reading.as_ref());
            let reading = reading.map(|reading| (&reading.encoder, &*reading.features));
            loader.seat(unread, reading).map_err(|refused| match refused {
                Refused::Run(error) => error,
                Refused::Line(reason) => ReplayError::Internal(reason),
            })?;
        }
        done += slice.len();
    }
    if let Some(progress) = &mut around.progress {
        progress(total, total);
    }
    Ok(())
}
