//! The report as a page without scripts and without anything from elsewhere.

use super::{Report, count, percent};
use crate::charts::{self, Accuracy, AccuracyRow, Line, Lines, Stroke, escape};
use crate::evaluate::figures::Judge;
use crate::evaluate::layout::Dimension;
use crate::evaluate::measures::{Flagged, thresholds};
use crate::evaluate::table::number;
use crate::replay::report::STYLE as REPORT_STYLE;

/// The false positive rate at which the curves of recall end. Moderation works far below it.
const MAX_ALARMS: f64 = 0.2;
/// The recall at which the curves of precision end.
const MAX_RECALL: f64 = 0.8;
/// The number of points of a curve.
const POINTS: usize = 200;
/// The maximum number of groups in the chart of accuracy.
const MAX_ROWS: usize = 30;

/// Returns at most [`POINTS`] of the points, with the first and the last.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .into_iter()
        .enumerate()
        .filter(|(at, _)| at % step == 0 || *at == last)
        .map(|(_, point)| point)
        .collect()
}

/// Returns the recall by false positive rate, up to [`MAX_ALARMS`].
fn recall_curve(flagged: &[Flagged]) -> Vec<(f64, f64)> {
    let Some(all) = flagged.last().filter(|all| all.right > 0.0 && all.wrong > 0.0) else {
        return Vec::new();
    };
    let mut points = vec![(0.0, 0.0)];
    for one in flagged {
        let (before, point) =
            (*points.last().unwrap_or(&(0.0, 0.0)), (one.wrong / all.wrong, one.right / all.right));
        if point.0 > MAX_ALARMS {
            let share = (MAX_ALARMS - before.0) / (point.0 - before.0);
            points.push((MAX_ALARMS, before.1 + share * (point.1 - before.1)));
            break;
        }
        points.push(point);
    }
    thinned(points)
}

/// Returns the precision by recall, up to [`MAX_RECALL`].
fn precision_curve(flagged: &[Flagged]) -> Vec<(f64, f64)> {
    let Some(all) = flagged.last().filter(|all| all.right > 0.0) else { return Vec::new() };
    let mut points = Vec::new();
    for one in flagged.iter().filter(|one| one.right > 0.0) {
        let recall = one.right / all.right;
        points.push((recall.min(MAX_RECALL), one.right / (one.right + one.wrong)));
        if recall >= MAX_RECALL {
            break;
        }
    }
    thinned(points)
}

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
        let line = |(at, judge): (usize, &Judge), curve: fn(&[Flagged]) -> Vec<(f64, f64)>| {
            let stroke = match at.checked_sub(self.figures.experts) {
                None => Stroke::Quiet,
                Some(0) => Stroke::Dashed,
                Some(1) => Stroke::Thin(1),
                Some(_) => Stroke::Strong(0),
            };
            let points = curve(&thresholds(&judge.scored(&self.read.samples)));
            Line { name: judge.name.clone(), stroke, points }
        };
        let lines = |curve| self.figures.judges.iter().enumerate().map(|one| line(one, curve)).collect();
        let chart = |title: &str, x, y, lines| {
            let chart = Lines {
                title: title.to_owned(),
                x,
                y,
                lines,
                percent: true,
                from: Some(0.0),
                ..Lines::default()
            };
            format!("<div class=\"scroll\">{}</div>", chart.svg().fragment())
        };
        let recall =
            chart("Recall by false positive rate", "false positive rate", "recall", lines(recall_curve));
        let precision = chart("Precision by recall", "recall", "precision", lines(precision_curve));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn flagged(points: &[(f64, f64)]) -> Vec<Flagged> {
        points.iter().map(|(right, wrong)| Flagged { right: *right, wrong: *wrong }).collect()
    }

    #[test]
    fn curves_end_where_the_chart_does() {
        let all = flagged(&[(1.0, 0.0), (3.0, 1.0), (4.0, 9.0), (4.0, 10.0)]);
        // Between a rate of .1 and one of .9 the recall grows from .75 to 1.
        assert_eq!(recall_curve(&all), [(0.0, 0.0), (0.0, 0.25), (0.1, 0.75), (0.2, 0.78125)]);
        assert_eq!(precision_curve(&all), [(0.25, 1.0), (0.75, 0.75), (0.8, 4.0 / 13.0)]);
        assert_eq!(recall_curve(&flagged(&[(1.0, 0.0)])), []);
    }

    #[test]
    fn long_curves_are_thinned() {
        let points: Vec<(f64, f64)> = (0..1_000).map(|at| (f64::from(at), 0.0)).collect();
        let thin = thinned(points);
        assert!(thin.len() <= POINTS + 1 && thin.last() == Some(&(999.0, 0.0)), "{}", thin.len());
        assert_eq!(thinned(Vec::new()), []);
    }
}
