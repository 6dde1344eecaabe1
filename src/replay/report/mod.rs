//! `--report`: one page to look at, with everything in it: no script, nothing from elsewhere.

mod gather;
mod sections;
mod svg;

pub(crate) use svg::escape;

use std::path::Path;

use super::{ReplayError, savepoint};
use crate::core::fold::Fold;
use crate::core::hash::hex;
use crate::core::ledger_state::LedgerState;

/// Writes the page about these folds, which must be caught up. `title` says what was replayed.
///
/// # Errors
/// Where a learner refuses the experts, or the file cannot be written.
pub fn write(path: &Path, title: &str, book: &LedgerState, folds: &[Fold]) -> Result<(), ReplayError> {
    let page = page(title, book, folds)?;
    savepoint::whole(path, |out| out.write_all(page.as_bytes()))
}

fn page(title: &str, book: &LedgerState, folds: &[Fold]) -> Result<String, ReplayError> {
    let title = svg::escape(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title} – Aegis replay</title><style>{}</style></head><body><main>\n<h1>{title}</h1>",
        include_str!("style.css")
    );
    let mut any = false;
    for fold in folds {
        let text = sections::policy(book, fold, folds.len() > 1)
            .map_err(|error| ReplayError::Data(error.to_string()))?;
        any |= text.is_some();
        out.push_str(&text.unwrap_or_default());
        if folds.len() == 1 && any {
            out.push_str(&format!(
                "<p class=\"under\" style=\"margin-top:22px\">state <code>{}</code></p>",
                hex(&fold.state_hash(book))
            ));
        }
    }
    if !any {
        out.push_str(
            "<p class=\"under\">No round counts: none has both a live label and an expert awake.</p>",
        );
    }
    out.push_str("</main></body></html>\n");
    Ok(out)
}
