//! A chart of lines, each named where it ends.

use super::frame::{EdgeName, Frame, range};
use super::svg::{Svg, path_data};
use super::text::{number, percent};

/// The stroke of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// One of the eight colours, thick.
    Strong(usize),
    /// One of the eight colours, thin.
    Thin(usize),
    /// Grey and thin.
    Quiet,
    /// Grey and dashed, for bounds and references.
    Dashed,
}

impl Stroke {
    /// Returns the class of an element that is drawn with this stroke: `line` or `name`.
    fn class(self, element: &str) -> String {
        match self {
            Self::Strong(colour) => format!("{element} strong c{}", colour % 8),
            Self::Thin(colour) => format!("{element} thin c{}", colour % 8),
            Self::Quiet => format!("{element} thin quiet"),
            Self::Dashed => format!("{element} dashed quiet"),
        }
    }
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name, printed at its end.
    pub name: String,
    /// Its stroke.
    pub stroke: Stroke,
    /// Its points by x.
    pub points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The title for screen readers.
    pub title: String,
    /// The name of the x axis.
    pub x: &'static str,
    /// The name of the y axis.
    pub y: &'static str,
    /// The lines; thick ones are drawn on top.
    pub lines: Vec<Line>,
    /// Positions on the x axis to mark, each with a tooltip.
    pub marks: Vec<(f64, String)>,
    /// If `true`, values are shares and shown in percent.
    pub percent: bool,
    /// The start of the y axis; `None` for a little below the least value.
    pub from: Option<f64>,
}

impl Lines {
    /// Draws the chart.
    #[must_use]
    pub fn svg(&self) -> Svg {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (least, high) = range(points().map(|point| point.1));
        let low = self.from.unwrap_or(least);
        let margin = (high - low) * 0.04;
        let y = (if self.from.is_some() { low } else { low - margin }, high + margin);
        let frame = Frame { x: range(points().map(|point| point.0)), y };
        let mut svg = Frame::svg(&self.title);
        frame.axes(self.x, self.y, self.percent, &mut svg);
        for (x, tooltip) in &self.marks {
            frame.mark(*x, tooltip, &mut svg);
        }
        let mut order: Vec<&Line> = self.lines.iter().filter(|line| !line.points.is_empty()).collect();
        order.sort_by_key(|line| matches!(line.stroke, Stroke::Strong(_)));
        let mut names = Vec::new();
        for line in order {
            let data = path_data(line.points.iter().map(|(x, y)| frame.at(*x, *y)));
            svg.path(&line.stroke.class("line"), &data, &line.name);
            names.extend(line.points.last().map(|(x, y)| EdgeName {
                name: &line.name,
                class: line.stroke.class("name"),
                value: if self.percent { percent(*y) } else { number(*y) },
                y: frame.at(*x, *y).1,
            }));
        }
        Frame::names(names, &mut svg);
        svg
    }
}
