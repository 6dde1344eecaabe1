//! `--trace`: round by round, as CSV.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::ReplayError;
use crate::core::fold::{Fold, FoldStep};
use crate::core::learners::Learner;
use crate::core::ledger_state::LedgerState;

/// Writes the rounds of all folds: policy, tenant, event_id, event_time, p, target, mistakes so far, and
/// per expert its vote and its weight: the played one, or its mass after the round.
pub(super) fn write(path: &Path, book: &LedgerState, folds: &[Fold]) -> Result<(), ReplayError> {
    let broken = |error: io::Error| ReplayError::writing(path, &error);
    let mut out = BufWriter::new(File::create(path).map_err(broken)?);
    // Policies may have different experts: the columns are those of all.
    let mut experts: Vec<&String> = folds.iter().flat_map(Fold::experts).collect();
    experts.sort_unstable();
    experts.dedup();
    let mut head = String::from("policy,tenant,event_id,event_time,p,target,mistakes");
    for expert in &experts {
        head.push_str(&format!(
            ",{},{}",
            quoted(&format!("vote {expert}")),
            quoted(&format!("weight {expert}"))
        ));
    }
    writeln!(out, "{head}").map_err(broken)?;
    for fold in folds {
        let policy = &fold.settings().policy;
        let Some(rounds) = book.find(policy).and_then(|at| book.rounds(at)) else { continue };
        let columns: Vec<Option<usize>> =
            experts.iter().map(|name| fold.experts().binary_search(name).ok()).collect();
        let mut failed = None;
        let mut mistakes = 0u64;
        let mut line = String::new();
        let mut visit = |round: &FoldStep<'_>, learner: &dyn Learner| {
            use std::fmt::Write as _;
            mistakes += u64::from((round.p >= 0.5) != (round.target >= 0.5));
            line.clear();
            let (tenant, event) = (quoted(rounds.tenant(round.row)), quoted(rounds.event(round.row)));
            let time = rounds.round_time(round.row);
            let masses = if round.weights.is_none() { learner.masses() } else { Vec::new() };
            // Writing to a String cannot fail.
            let _ = write!(
                line,
                "{},{tenant},{event},{time},{},{},{mistakes}",
                quoted(policy),
                round.p,
                round.target
            );
            for (name, column) in experts.iter().zip(&columns) {
                let vote =
                    column.and_then(|at| round.input.votes.get(at)).copied().filter(|vote| !vote.is_nan());
                let weight = match round.weights {
                    Some(weights) => column.and_then(|at| weights.get(at)).copied(),
                    None => masses.iter().find(|mass| mass.member == **name).map(|mass| mass.mass),
                };
                for number in [vote, weight] {
                    let _ = match number {
                        Some(number) => write!(line, ",{number}"),
                        None => write!(line, ","),
                    };
                }
            }
            line.push('\n');
            if failed.is_none() {
                failed = out.write_all(line.as_bytes()).err();
            }
        };
        fold.walk(book, &fold.settings().learner, &mut visit)
            .map_err(|error| ReplayError::Data(error.to_string()))?;
        if let Some(error) = failed {
            return Err(broken(error));
        }
    }
    out.flush().map_err(broken)
}

/// A text as a CSV field.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
