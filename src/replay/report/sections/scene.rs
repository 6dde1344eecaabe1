//! Everything that is drawn about one policy, and what several sections say of it.

use std::fmt::Write as _;

use crate::core::fold::Fold;
use crate::core::learners::Name;
use crate::replay::report::gather::{Course, Grounds};
use crate::replay::report::svg::{Line, Stroke, grouped};

/// Everything that is drawn.
pub(super) struct Scene<'a> {
    pub(super) fold: &'a Fold,
    pub(super) grounds: Grounds,
    /// The fold's own learner first.
    pub(super) courses: Vec<Course>,
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

pub(super) fn section(out: &mut String, title: &str, text: &str, figures: &[String]) {
    let _ = write!(out, "<section><h2>{title}</h2><p class=\"under\">{text}</p>");
    for figure in figures {
        let _ = write!(out, "<div class=\"scroll\">{figure}</div>");
    }
    out.push_str("</section>\n");
}

/// More or fewer, in words.
pub(super) fn against(mistakes: u64, other: u64) -> String {
    match mistakes.cmp(&other) {
        std::cmp::Ordering::Less => format!("{} fewer than", grouped(other - mistakes)),
        std::cmp::Ordering::Equal => "as many as".to_owned(),
        std::cmp::Ordering::Greater => format!("{} more than", grouped(mistakes - other)),
    }
}

impl Scene<'_> {
    pub(super) fn own(&self) -> Option<&Course> {
        self.courses.first()
    }

    pub(super) fn of(&self, name: Name) -> Option<&Course> {
        self.courses.iter().find(|course| course.spec.name == name)
    }

    /// Every expert's mistakes alone, at the end.
    pub(super) fn alone(&self) -> Vec<u64> {
        self.grounds.alone.iter().filter_map(|course| course.last()).copied().collect()
    }

    pub(super) fn best(&self) -> Option<(&str, u64)> {
        let alone = self.alone();
        let (at, mistakes) = alone.iter().enumerate().min_by_key(|(_, mistakes)| **mistakes)?;
        Some((self.fold.experts().get(at)?, *mistakes))
    }

    pub(super) fn majority(&self) -> u64 {
        self.grounds.majority.last().copied().unwrap_or(0)
    }

    pub(super) fn lines(&self, courses: &[&Course], values: impl Fn(&Course) -> Vec<f64>) -> Vec<Line> {
        let line = |(at, course): (usize, &&Course)| Line {
            name: course.spec.name.to_string(),
            stroke: if at == 0 { Stroke::Strong(0) } else { Stroke::Thin(at) },
            points: course.places.iter().map(|place| *place as f64).zip(values(course)).collect(),
        };
        courses.iter().enumerate().map(line).collect()
    }

    /// Courses of experts and plain majority, as shares of the rounds so far.
    pub(super) fn experts(&self) -> Vec<Line> {
        let Some(own) = self.own() else { return Vec::new() };
        let share = |course: &[u64]| -> Vec<(f64, f64)> {
            let shares =
                own.places.iter().zip(course).map(|(place, n)| (*place as f64, *n as f64 / *place as f64));
            shares.collect()
        };
        let names = self.fold.experts().iter().zip(&self.grounds.alone);
        let mut lines: Vec<Line> = names
            .map(|(name, course)| Line { name: name.clone(), stroke: Stroke::Quiet, points: share(course) })
            .collect();
        let majority = share(&self.grounds.majority);
        lines.push(Line { name: "plain majority".to_owned(), stroke: Stroke::Dashed, points: majority });
        lines
    }
}
