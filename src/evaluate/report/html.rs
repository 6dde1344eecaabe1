//! The report as a page without scripts and without anything from elsewhere.

use super::{Report, count, percent};
use crate::charts::{self, Accuracy, AccuracyRow, Lines, escape};
use crate::evaluate::curves::{Curves, MAX_ALARMS, MAX_RECALL};
use crate::evaluate::figures::Judge;
use crate::evaluate::layout::Dimension;
use crate::evaluate::measures::Scored;
use crate::evaluate::table::number;
use crate::replay::report::STYLE as REPORT_STYLE;

/// The maximum number of groups in the chart of accuracy.
const MAX_ROWS: usize = 30;

impl Report<'_> {
    /// Returns the page.
    pub(in crate::evaluate) fn html(&self) -> String {
        let title = escape(&self.title());
        let about: String =
            self.about().iter().map(|line| format!("<p class=\"under\">{}</p>", escape(line))).collect();
        let tables: String = self.tables().iter().map(super::super::table::Table::html).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <title>{title} – Aegis evaluation</title><style>{}{REPORT_STYLE}</style></head><body><main>\n<h1>{title}</h1>{about}{}{}{}{tables}</main></body></html>\n",
            charts::STYLE,
            self.tiles(),
            self.curves(),
            self.accuracy(),
        )
    }

    fn tiles(&self) -> String {
        let figures = self.figures;
        let auc =
            |judge: Option<&Judge>| judge.map_or_else(|| "–".to_owned(), |judge| number(judge.measures.auc));
        let best = figures.best_expert();
        let name = best.map_or("the best expert", |judge| judge.name.as_str());
        let tiles = [
            (auc(figures.judges.last()), "AUC of the learner, online".to_owned()),
            (auc(best), format!("AUC of {}", escape(name))),
            (auc(figures.judges.get(figures.experts)), "AUC of plain majority".to_owned()),
            (count(self.read.samples.len()), "texts".to_owned()),
            (percent(figures.harmful as f64 / self.read.samples.len() as f64), "unsafe".to_owned()),
        ];
        let tile = |(number, label): &(String, String)| {
            format!("<div class=\"tile\"><b>{number}</b><span>{label}</span></div>")
        };
        format!("<div class=\"tiles\">{}</div>", tiles.iter().map(tile).collect::<String>())
    }

    fn curves(&self) -> String {
        let judge = |judge: &Judge| (judge.name.clone(), judge.scored(&self.read.samples));
        let judges: Vec<(String, Vec<Scored>)> = self.figures.judges.iter().map(judge).collect();
        let curves = Curves { experts: self.figures.experts, judges };
        let chart = |chart: Lines| format!("<div class=\"scroll\">{}</div>", chart.svg().fragment());
        let recall = chart(curves.recall("Recall by false positive rate"));
        let precision = chart(curves.precision("Precision by recall"));
        format!(
            "<section><h2>Curves</h2><p class=\"under\">Recall up to a false positive rate of {}, and precision up to a recall of {}. Experts are grey.</p>{recall}{precision}</section>\n",
            percent(MAX_ALARMS),
            percent(MAX_RECALL)
        )
    }

    /// Draws the accuracy by category, or by kind if there are no categories.
    fn accuracy(&self) -> String {
        let groups = |dimension: Dimension| -> Vec<AccuracyRow> {
            let of = self.figures.groups.iter().filter(|group| group.dimension == dimension);
            let row = |group: &crate::evaluate::figures::Group| {
                let mut right = group.right.clone();
                // The chart has majority and one learner: the one that learns.
                right.remove(self.figures.experts + 1);
                AccuracyRow { name: group.name.clone(), texts: group.harmful + group.safe, right }
            };
            of.take(MAX_ROWS).map(row).collect()
        };
        let rows = groups(Dimension::Category);
        let rows = if rows.is_empty() { groups(Dimension::Kind) } else { rows };
        if rows.is_empty() {
            return String::new();
        }
        let experts: Vec<&str> =
            self.figures.judges.iter().take(self.figures.experts).map(|judge| judge.name.as_str()).collect();
        let chart = Accuracy { title: "Right at .5, by group", experts: &experts, rows };
        format!(
            "<section><h2>By group</h2><div class=\"scroll\">{}</div></section>\n",
            chart.svg().fragment()
        )
    }
}
