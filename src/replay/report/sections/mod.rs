//! The sections about one policy: each makes a statement and shows the figure that proves it.

mod errors;
mod recovery;
mod weights;

use super::courses::{baselines, course};
use super::policy_report::{PolicyReport, difference, percent};
use crate::charts::{escape, grouped};
use crate::core::fold::{Fold, FoldError};
use crate::core::learners::{LearnerSpec, Name};
use crate::core::ledger_state::LedgerState;

/// Returns the sections of one policy. `None` if no round counts.
pub(super) fn policy(ledger: &LedgerState, fold: &Fold, named: bool) -> Result<Option<String>, FoldError> {
    let own = &fold.settings().learner;
    let Some(own_course) = course(fold, ledger, own)? else { return Ok(None) };
    let compared = [Name::Default, Name::Stacking, Name::FixedShareGrid, Name::Hedge, Name::FixedShare];
    let mut specs: Vec<LearnerSpec> = compared.into_iter().map(LearnerSpec::new).collect();
    specs.push(LearnerSpec { eta: Some(0.5), ..LearnerSpec::new(Name::WeightedMajority) });
    specs.push(LearnerSpec { eta: Some(0.26), ..LearnerSpec::new(Name::Fpl) });
    let mut others = Vec::new();
    for spec in specs.iter().filter(|spec| spec.canonical() != own.canonical()) {
        others.extend(course(fold, ledger, spec)?);
    }
    let report = PolicyReport { fold, baselines: baselines(fold, ledger)?, own: own_course, others };
    let title = format!("<h1 style=\"margin-top:48px\">Policy {}</h1>", escape(&fold.settings().policy));
    let sections = [
        if named { title } else { String::new() },
        report.summary(),
        report.error(),
        report.recovery(),
        report.weights(),
        report.regret(),
        report.reliability(),
        report.paper(),
        report.table(),
    ];
    Ok(Some(sections.concat()))
}

impl PolicyReport<'_> {
    fn summary(&self) -> String {
        let Some((best, best_mistakes)) = self.best_expert() else { return String::new() };
        let (best, tally) = (escape(best), &self.own.tally);
        let text = format!(
            "<p class=\"under\">{} labelled rounds, {} experts, learner <b>{}</b>. It made {} mistakes, {} its best expert ({best}) and {} plain majority.</p>",
            grouped(self.baselines.rounds),
            self.fold.experts().len(),
            escape(&self.own.spec.to_string()),
            grouped(tally.mistakes),
            difference(tally.mistakes, best_mistakes),
            difference(tally.mistakes, self.majority()),
        );
        let error = |mistakes: u64| percent(mistakes as f64 / self.baselines.rounds as f64);
        let tiles = [
            (error(tally.mistakes), "error of the learner"),
            (error(best_mistakes), &format!("error of {best}")),
            (error(self.majority()), "error of plain majority"),
            (format!("{:.4}", tally.brier()), "Brier score"),
            (format!("{:.3}", tally.calibration_error()), "calibration error"),
        ];
        let tile = |(number, label): &(String, &str)| {
            format!("<div class=\"tile\"><b>{number}</b><span>{label}</span></div>")
        };
        format!("{text}<div class=\"tiles\">{}</div>", tiles.iter().map(tile).collect::<String>())
    }

    fn table(&self) -> String {
        let rounds = self.baselines.rounds as f64;
        let mut rows = String::new();
        for (position, course) in self.courses().enumerate() {
            let tally = &course.tally;
            let (regret, bound) = *course.regret.last().expect("a course has a round");
            rows.push_str(&format!(
                "<tr{}><td>{}</td><td>{}</td><td>{}</td><td>{:.4}</td><td>{:.3}</td><td>{regret:.2}</td><td>{}</td><td>{}</td></tr>",
                if position == 0 { " class=\"own\"" } else { "" },
                escape(&course.spec.to_string()),
                grouped(tally.mistakes),
                percent(tally.mistakes as f64 / rounds),
                tally.brier(),
                tally.calibration_error(),
                bound.map_or("–".to_owned(), |bound| format!("{bound:.2}")),
                course.loss,
            ));
        }
        let mut row = |name: &str, mistakes: u64| {
            rows.push_str(&format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td></td><td></td><td></td><td></td><td></td></tr>",
                escape(name),
                grouped(mistakes),
                percent(mistakes as f64 / rounds)
            ));
        };
        row("plain majority", self.majority());
        let mut experts: Vec<_> = self.experts().collect();
        experts.sort_by_key(|(name, mistakes)| (*mistakes, *name));
        experts.into_iter().for_each(|(name, mistakes)| row(name, mistakes));
        format!(
            "<section><h2>In numbers</h2><div class=\"scroll\"><table><thead><tr><th>learner or expert</th><th>mistakes</th><th>error</th><th>Brier</th><th>calibration</th><th>regret</th><th>proven</th><th>in</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
        )
    }
}
