//! The frame that the report's charts share: its coordinates, its axes, and the names at its right edge.

use super::svg::{Anchor, Svg};
use super::text::{number, percent, short};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Width of the column of names at the right edge.
const NAMES_WIDTH: f64 = 222.0;

/// The ranges of a chart's axes.
pub(super) struct Frame {
    pub(super) x: (f64, f64),
    pub(super) y: (f64, f64),
}

/// A name at the right edge.
pub(super) struct EdgeName<'a> {
    pub(super) name: &'a str,
    pub(super) class: String,
    /// The value printed after the name.
    pub(super) value: String,
    /// The y coordinate in pixels that the name belongs to.
    pub(super) y: f64,
}

impl Frame {
    pub(super) fn svg(title: &str) -> Svg {
        Svg::new(title, WIDTH, HEIGHT)
    }

    /// Returns the pixel of a point.
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let share =
            |value: f64, (low, high): (f64, f64)| if high > low { (value - low) / (high - low) } else { 0.5 };
        let (width, height) = (WIDTH - LEFT - NAMES_WIDTH, HEIGHT - TOP - BOTTOM);
        (LEFT + share(x, self.x) * width, TOP + (1.0 - share(y, self.y)) * height)
    }

    /// Draws the axes with their names. If `shares`, numbers are percentages.
    pub(super) fn axes(&self, x: &str, y: &str, shares: bool, svg: &mut Svg) {
        let text = |value: f64, shares: bool| if shares { percent(value) } else { number(value) };
        let (left, floor) = self.at(self.x.0, self.y.0);
        let (right, _) = self.at(self.x.1, self.y.0);
        for tick in ticks(self.y, 5.0) {
            let (_, at) = self.at(0.0, tick);
            svg.path("grid", &format!("M{left:.1} {at:.1}H{right:.1}"), "");
            svg.text("tick", (left - 6.0, at + 4.0), Anchor::End, &text(tick, shares));
        }
        for tick in ticks(self.x, 6.0) {
            let (at, _) = self.at(tick, 0.0);
            svg.text("tick", (at, floor + 16.0), Anchor::Middle, &text(tick, shares && self.x.1 <= 1.0));
        }
        svg.path("axis", &format!("M{left:.1} {floor:.1}H{right:.1}"), "");
        svg.text("tick", (right, floor + 32.0), Anchor::End, x);
        svg.text("tick", (left, floor + 32.0), Anchor::Start, y);
    }

    /// Draws a dotted vertical line from the x axis to the top.
    pub(super) fn mark(&self, x: f64, tooltip: &str, svg: &mut Svg) {
        let (x, floor) = self.at(x, self.y.0);
        svg.path("mark", &format!("M{x:.1} {floor:.1}V{TOP}"), tooltip);
    }

    /// Draws names at the right edge, moved apart, each with a line that leads to its y coordinate.
    pub(super) fn names(mut names: Vec<EdgeName<'_>>, svg: &mut Svg) {
        names.sort_by(|a, b| a.y.total_cmp(&b.y));
        let wanted: Vec<f64> = names.iter().map(|name| name.y).collect();
        let x = WIDTH - NAMES_WIDTH;
        for (name, at) in names.iter().zip(spread(&wanted)) {
            svg.path("lead", &format!("M{:.1} {:.1}L{:.1} {at:.1}", x + 2.0, name.y, x + 12.0), "");
            let place = (x + 15.0, at + 4.0);
            svg.text_and_value(&name.class, place, Anchor::Start, &short(name.name), ("tick", &name.value));
        }
    }
}

/// Returns the least and the greatest of the finite values; a range of width 1 if they are equal or there are none.
pub(super) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        (0.0, 1.0)
    } else if low == high {
        (low, low + 1.0)
    } else {
        (low, high)
    }
}

/// Returns about `count` round numbers of a range.
fn ticks((low, high): (f64, f64), count: f64) -> Vec<f64> {
    let span = (high - low).max(1e-12);
    let rough = span / count;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|nice| nice * magnitude).find(|step| *step >= rough);
    let step = step.unwrap_or(span);
    let first = (low / step - 1e-9).ceil();
    (0..20).map(|at| (first + f64::from(at)) * step).take_while(|tick| *tick <= high + step * 1e-6).collect()
}

/// Moves the y coordinates of names apart so that no name covers another, keeping their order.
fn spread(wanted: &[f64]) -> Vec<f64> {
    const LINE_HEIGHT: f64 = 14.0;
    let mut at: Vec<f64> = Vec::new();
    for want in wanted {
        at.push(at.last().map_or(*want, |before| want.max(before + LINE_HEIGHT)));
    }
    let mut limit = HEIGHT - BOTTOM + 6.0;
    for place in at.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - LINE_HEIGHT;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks((0.0, 1.0), 5.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks((0.0, 10_999.0), 6.0), [0.0, 2_000.0, 4_000.0, 6_000.0, 8_000.0, 10_000.0]);
        assert_eq!(ticks((3.0, 3.0), 5.0), [3.0]);
    }

    #[test]
    fn names_stay_apart_and_inside() {
        let at = spread(&[10.0, 11.0, 12.0, 279.0, 280.0, 281.0]);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 13.99), "{at:?}");
        assert!(at.iter().all(|at| *at <= HEIGHT - BOTTOM + 6.0));
    }
}
