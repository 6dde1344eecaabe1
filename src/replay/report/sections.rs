//! The page's sections about one policy, each with the sentence that its figure proves.

mod errors;
mod recovery;
mod scene;
mod weights;

use std::fmt::Write as _;

use self::scene::{Scene, against, percent};
use super::gather::{Course, course, grounds};
use super::svg::{escape, grouped};
use crate::core::fold::{Fold, FoldError};
use crate::core::learners::{LearnerSpec, Name};
use crate::core::ledger_state::LedgerState;

/// The sections of one policy; `None` where no round counts.
pub(super) fn policy(book: &LedgerState, fold: &Fold, named: bool) -> Result<Option<String>, FoldError> {
    let mut courses = Vec::new();
    let mut specs = vec![fold.settings().learner.clone()];
    let others = [Name::Default, Name::Stacking, Name::FixedShareGrid, Name::Hedge, Name::FixedShare];
    specs.extend(others.into_iter().map(LearnerSpec::new));
    specs.push(LearnerSpec { eta: Some(0.5), ..LearnerSpec::new(Name::WeightedMajority) });
    specs.push(LearnerSpec { eta: Some(0.26), ..LearnerSpec::new(Name::Fpl) });
    for spec in specs {
        if courses.iter().any(|known: &Course| known.spec.canonical() == spec.canonical()) {
            continue;
        }
        courses.extend(course(fold, book, &spec)?);
    }
    if courses.is_empty() {
        return Ok(None);
    }
    let scene = Scene { fold, grounds: grounds(fold, book)?, courses };
    let mut out = String::new();
    if named {
        let _ = write!(out, "<h1 style=\"margin-top:48px\">Policy {}</h1>", escape(&fold.settings().policy));
    }
    scene.head(&mut out);
    scene.error(&mut out);
    scene.recovery(&mut out);
    scene.weights(&mut out);
    scene.regret(&mut out);
    scene.reliability(&mut out);
    scene.paper(&mut out);
    scene.table(&mut out);
    Ok(Some(out))
}

impl Scene<'_> {
    fn head(&self, out: &mut String) {
        let (Some(own), Some((best, alone))) = (self.own(), self.best()) else { return };
        let tally = &own.tally;
        let rounds = self.grounds.rounds;
        let _ = write!(
            out,
            "<p class=\"under\">{} labelled rounds, {} experts, learner <b>{}</b>. It made {} mistakes, {} its best expert ({}) and {} plain majority.</p>",
            grouped(rounds),
            self.fold.experts().len(),
            escape(&own.spec.to_string()),
            grouped(tally.mistakes),
            against(tally.mistakes, alone),
            escape(best),
            against(tally.mistakes, self.majority()),
        );
        let share = |mistakes: u64| percent(mistakes as f64 / rounds.max(1) as f64);
        let tile = |number: String, what: &str| {
            format!("<div class=\"tile\"><b>{number}</b><span>{what}</span></div>")
        };
        let tiles = [
            tile(share(tally.mistakes), "error of the learner"),
            tile(share(alone), &format!("error of {}", escape(best))),
            tile(share(self.majority()), "error of plain majority"),
            tile(format!("{:.4}", tally.brier()), "Brier score"),
            tile(format!("{:.3}", tally.calibration_error()), "calibration error"),
        ];
        let _ = write!(out, "<div class=\"tiles\">{}</div>", tiles.concat());
    }

    fn table(&self, out: &mut String) {
        let rounds = self.grounds.rounds.max(1) as f64;
        let mut rows = String::new();
        for (at, course) in self.courses.iter().enumerate() {
            let tally = &course.tally;
            let (regret, bound) = course.regret.last().copied().unwrap_or((0.0, None));
            let _ = write!(
                rows,
                "<tr{}><td>{}</td><td>{}</td><td>{}</td><td>{:.4}</td><td>{:.3}</td><td>{regret:.2}</td><td>{}</td><td>{}</td></tr>",
                if at == 0 { " class=\"own\"" } else { "" },
                escape(&course.spec.to_string()),
                grouped(tally.mistakes),
                percent(tally.mistakes as f64 / rounds),
                tally.brier(),
                tally.calibration_error(),
                bound.map_or("–".to_owned(), |bound| format!("{bound:.2}")),
                course.loss,
            );
        }
        let mut row = |name: &str, mistakes: u64| {
            let share = percent(mistakes as f64 / rounds);
            let _ = write!(
                rows,
                "<tr><td>{name}</td><td>{}</td><td>{share}</td><td></td><td></td><td></td><td></td><td></td></tr>",
                grouped(mistakes)
            );
        };
        row("plain majority", self.majority());
        let mut experts: Vec<(u64, &String)> = self.alone().into_iter().zip(self.fold.experts()).collect();
        experts.sort();
        for (mistakes, name) in experts {
            row(&escape(name), mistakes);
        }
        let _ = write!(
            out,
            "<section><h2>In numbers</h2><div class=\"scroll\"><table><thead><tr><th>learner or expert</th><th>mistakes</th><th>error</th><th>Brier</th><th>calibration</th><th>regret</th><th>proven</th><th>in</th></tr></thead><tbody>{rows}</tbody></table></div></section>",
        );
    }
}
