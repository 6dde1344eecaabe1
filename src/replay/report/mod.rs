//! `--report`: an HTML page without scripts and without anything from elsewhere.

mod courses;
mod policy_report;
mod sections;

use std::path::Path;

use super::{ReplayError, savepoint};
use crate::charts;
use crate::core::fold::Fold;
use crate::core::hash::hex;
use crate::core::ledger_state::LedgerState;

/// The style sheet of pages, in addition to that of charts.
pub(crate) const STYLE: &str = include_str!("style.css");

/// Writes the page about these folds, which must be caught up. `title` names the streams.
///
/// # Errors
/// Returns [`ReplayError::Data`] if a learner refuses the experts, and [`ReplayError::Unavailable`] if the file cannot
/// be written.
pub fn write(path: &Path, title: &str, ledger: &LedgerState, folds: &[Fold]) -> Result<(), ReplayError> {
    let page = page(title, ledger, folds)?;
    savepoint::write_atomically(path, |out| out.write_all(page.as_bytes()))
}

fn page(title: &str, ledger: &LedgerState, folds: &[Fold]) -> Result<String, ReplayError> {
    let mut policies = String::new();
    for fold in folds {
        let sections = sections::policy(ledger, fold, folds.len() > 1);
        let Some(sections) = sections.map_err(|error| ReplayError::Data(error.to_string()))? else {
            continue;
        };
        policies.push_str(&sections);
        if folds.len() == 1 {
            let hash = hex(&fold.state_hash(ledger));
            policies.push_str(&format!(
                "<p class=\"under\" style=\"margin-top:22px\">state <code>{hash}</code></p>"
            ));
        }
    }
    if policies.is_empty() {
        policies =
            "<p class=\"under\">No round counts: none has both a live label and a vote.</p>".to_owned();
    }
    let title = charts::escape(title);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title} – Aegis replay</title><style>{}{}</style></head><body><main>\n<h1>{title}</h1>{policies}</main></body></html>\n",
        charts::STYLE,
        STYLE
    ))
}
