//! `--trace`: the rounds as CSV.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::ReplayError;
use crate::core::fold::{Fold, FoldStep};
use crate::core::learners::Learner;
use crate::core::ledger_state::{LedgerState, Rounds};

/// Writes the rounds of all folds: policy, tenant, event_id, event_time, p, target, mistakes so far, and for each expert
/// its vote and its weight. The weight is the one the round was predicted with, or the mass after the round for learners
/// without weights.
///
/// # Errors
/// Returns [`ReplayError::Unavailable`] if the file cannot be written, and [`ReplayError::Data`] if a learner refuses the
/// experts.
pub(super) fn write(path: &Path, ledger: &LedgerState, folds: &[Fold]) -> Result<(), ReplayError> {
    let failed = |error: io::Error| ReplayError::writing(path, &error);
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    // Policies may have different experts; the columns are those of all.
    let mut experts: Vec<&str> = folds.iter().flat_map(Fold::experts).map(String::as_str).collect();
    experts.sort_unstable();
    experts.dedup();
    let mut head = String::from("policy,tenant,event_id,event_time,p,target,mistakes");
    for expert in &experts {
        let [vote, weight] = ["vote", "weight"].map(|column| csv_field(&format!("{column} {expert}")));
        head.push_str(&format!(",{vote},{weight}"));
    }
    writeln!(out, "{head}").map_err(failed)?;
    for fold in folds {
        let policy = &fold.settings().policy;
        let Some(rounds) = ledger.find(policy).and_then(|at| ledger.rounds(at)) else { continue };
        // A fold's experts are sorted.
        let column = |name: &str| fold.experts().binary_search_by(|id| id.as_str().cmp(name)).ok();
        let columns = experts.iter().map(|name| (*name, column(name))).collect();
        let line = String::new();
        let mut lines = PolicyLines { policy: csv_field(policy), rounds, columns, mistakes: 0, line };
        let mut written = Ok(());
        let walked = fold.walk(ledger, &fold.settings().learner, &mut |round, learner| {
            let line = lines.next(round, learner);
            if written.is_ok() {
                written = out.write_all(line.as_bytes());
            }
        });
        walked.map_err(|error| ReplayError::Data(error.to_string()))?;
        written.map_err(failed)?;
    }
    out.flush().map_err(failed)
}

/// The lines of one policy's rounds.
struct PolicyLines<'a> {
    policy: String,
    rounds: &'a Rounds,
    /// The experts of the columns, each with its index in the policy's votes.
    columns: Vec<(&'a str, Option<usize>)>,
    mistakes: u64,
    /// The current line, whose memory all lines use.
    line: String,
}

impl PolicyLines<'_> {
    /// Returns the line of the next round.
    fn next(&mut self, round: &FoldStep<'_>, learner: &dyn Learner) -> &str {
        self.mistakes += u64::from((round.p >= 0.5) != (round.target >= 0.5));
        let (tenant, event) =
            (csv_field(self.rounds.tenant(round.row)), csv_field(self.rounds.event(round.row)));
        let time = self.rounds.round_time(round.row);
        let (policy, mistakes) = (&self.policy, self.mistakes);
        let line = &mut self.line;
        line.clear();
        write!(line, "{policy},{tenant},{event},{time},{},{},{mistakes}", round.p, round.target)
            .expect("writing to a String cannot fail");
        let masses = if round.weights.is_none() { learner.masses() } else { Vec::new() };
        for (name, column) in &self.columns {
            let of_column = |values: &[f64]| column.and_then(|at| values.get(at)).copied();
            let vote = of_column(round.input.votes).filter(|vote| !vote.is_nan());
            let weight = match round.weights {
                Some(weights) => of_column(weights),
                None => masses.iter().find(|mass| mass.member == *name).map(|mass| mass.mass),
            };
            for number in [vote, weight] {
                line.push(',');
                if let Some(number) = number {
                    write!(line, "{number}").expect("writing to a String cannot fail");
                }
            }
        }
        line.push('\n');
        line
    }
}

/// Returns a text as a CSV field.
fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
