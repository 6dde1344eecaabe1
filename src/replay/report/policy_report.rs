//! The data of one policy's sections, and the phrases and lines that several sections share.

use std::cmp::Ordering;

use super::courses::{Baselines, Course};
use crate::charts::{Line, Stroke, grouped};
use crate::core::fold::Fold;
use crate::core::learners::Name;

/// The data of one policy's sections.
pub(super) struct PolicyReport<'a> {
    pub(super) fold: &'a Fold,
    pub(super) baselines: Baselines,
    /// The course of the fold's own learner.
    pub(super) own: Course,
    /// The courses of learners to compare it with.
    pub(super) others: Vec<Course>,
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Returns a section of the page. `text` is HTML.
pub(super) fn section(title: &str, text: &str, figures: &[String]) -> String {
    let figures: String =
        figures.iter().map(|figure| format!("<div class=\"scroll\">{figure}</div>")).collect();
    format!("<section><h2>{title}</h2><p class=\"under\">{text}</p>{figures}</section>\n")
}

/// Returns the difference in words, such as `3 fewer than`.
pub(super) fn difference(mistakes: u64, other: u64) -> String {
    match mistakes.cmp(&other) {
        Ordering::Less => format!("{} fewer than", grouped(other - mistakes)),
        Ordering::Equal => "as many as".to_owned(),
        Ordering::Greater => format!("{} more than", grouped(mistakes - other)),
    }
}

/// Returns mistakes so far as shares of the rounds so far.
fn shares<'a>(rounds: &'a [u64], mistakes: &'a [u64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    rounds.iter().zip(mistakes).map(|(rounds, n)| (*rounds as f64, *n as f64 / *rounds as f64))
}

impl PolicyReport<'_> {
    /// Returns all courses, the fold's own first.
    pub(super) fn courses(&self) -> impl Iterator<Item = &Course> {
        std::iter::once(&self.own).chain(&self.others)
    }

    pub(super) fn course_of(&self, name: Name) -> Option<&Course> {
        self.courses().find(|course| course.spec.name == name)
    }

    /// Returns every expert with its mistakes alone over all rounds, in the order of ids.
    pub(super) fn experts(&self) -> impl Iterator<Item = (&str, u64)> {
        let names = self.fold.experts().iter().zip(&self.baselines.experts);
        names.filter_map(|(name, course)| Some((name.as_str(), *course.last()?)))
    }

    pub(super) fn best_expert(&self) -> Option<(&str, u64)> {
        self.experts().min_by_key(|(_, mistakes)| *mistakes)
    }

    /// Returns plain majority's mistakes over all rounds.
    pub(super) fn majority(&self) -> u64 {
        *self.baselines.majority.last().expect("a report has a round")
    }

    /// Returns the mistakes so far of experts and plain majority as lines.
    pub(super) fn baseline_counts(&self) -> Vec<Line> {
        self.baseline_lines(|mistakes| {
            self.own.rounds.iter().zip(mistakes).map(|(rounds, n)| (*rounds as f64, *n as f64)).collect()
        })
    }

    /// Returns the errors so far of experts and plain majority as lines.
    pub(super) fn baseline_errors(&self) -> Vec<Line> {
        self.baseline_lines(|mistakes| shares(&self.own.rounds, mistakes).collect())
    }

    fn baseline_lines(&self, points: impl Fn(&[u64]) -> Vec<(f64, f64)>) -> Vec<Line> {
        let experts = self.fold.experts().iter().zip(&self.baselines.experts);
        let experts = experts.map(|(name, course)| Line {
            name: name.clone(),
            stroke: Stroke::Quiet,
            points: points(course),
        });
        let majority = Line {
            name: "plain majority".to_owned(),
            stroke: Stroke::Dashed,
            points: points(&self.baselines.majority),
        };
        experts.chain([majority]).collect()
    }

    /// Removes the first twentieth of the rounds, whose shares mean little and would stretch the axis.
    pub(super) fn without_start(&self, mut lines: Vec<Line>) -> Vec<Line> {
        let first = self.baselines.rounds as f64 / 20.0;
        lines.iter_mut().for_each(|line| line.points.retain(|(rounds, _)| *rounds >= first));
        lines
    }
}

impl Course {
    /// Returns the mistakes so far as a line.
    pub(super) fn counts(&self, stroke: Stroke) -> Line {
        let points = self.rounds.iter().zip(&self.mistakes).map(|(rounds, n)| (*rounds as f64, *n as f64));
        Line { name: self.spec.name.to_string(), stroke, points: points.collect() }
    }

    /// Returns the error so far as a line.
    pub(super) fn errors(&self, stroke: Stroke) -> Line {
        let points = shares(&self.rounds, &self.mistakes).collect();
        Line { name: self.spec.name.to_string(), stroke, points }
    }
}

/// Returns the stroke of the course at this position, where the fold's own is the first.
pub(super) fn stroke(position: usize) -> Stroke {
    if position == 0 { Stroke::Strong(0) } else { Stroke::Thin(position) }
}
