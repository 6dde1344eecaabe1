//! Curves of recall by false positive rate and of precision by recall, a line for each judge.

use super::measures::{Flagged, Scored, thresholds};
use crate::charts::{Line, Lines, Stroke};

/// The false positive rate at which the curves of recall end. Moderation works far below it.
pub(super) const MAX_ALARMS: f64 = 0.2;
/// The recall at which the curves of precision end.
pub(super) const MAX_RECALL: f64 = 0.8;
/// The number of points of a curve.
const POINTS: usize = 200;
/// The judges of a chart, with their scores.
pub(super) struct Curves {
    /// The number of experts, which are the first of the judges. Majority, the learner before and online follow.
    pub(super) experts: usize,
    pub(super) judges: Vec<(String, Vec<Scored>)>,
}

impl Curves {
    /// Draws the recall by false positive rate.
    pub(super) fn recall(&self, title: &str) -> Lines {
        self.chart(title, "false positive rate", "recall", recall_curve)
    }

    /// Draws the precision by recall.
    pub(super) fn precision(&self, title: &str) -> Lines {
        self.chart(title, "recall", "precision", precision_curve)
    }

    fn chart(
        &self,
        title: &str,
        x: &'static str,
        y: &'static str,
        curve: fn(&[Flagged]) -> Vec<(f64, f64)>,
    ) -> Lines {
        let line = |(at, (name, scored)): (usize, &(String, Vec<Scored>))| {
            let stroke = match at.checked_sub(self.experts) {
                None => Stroke::Quiet,
                Some(0) => Stroke::Dashed,
                Some(1) => Stroke::Thin(1),
                Some(_) => Stroke::Strong(0),
            };
            Line { name: name.clone(), stroke, points: curve(&thresholds(scored)) }
        };
        let lines = self.judges.iter().enumerate().map(line).collect();
        Lines { title: title.to_owned(), x, y, lines, percent: true, from: Some(0.0), ..Lines::default() }
    }
}

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
