//! A reliability plot: predicted probabilities against observed shares.

use super::frame::{EdgeName, Frame};
use super::svg::{Svg, path_data};

/// One bin of a reliability plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The mean prediction, P(unsafe).
    pub predicted: f64,
    /// The mean target.
    pub observed: f64,
    /// The bin's share of all rounds.
    pub share: f64,
}

/// Draws a reliability plot. A dot's area is its bin's share of the rounds.
#[must_use]
pub fn reliability(title: &str, bins: &[Bin]) -> Svg {
    let frame = Frame { x: (0.0, 1.0), y: (0.0, 1.0) };
    let mut svg = Frame::svg(title);
    frame.axes("predicted P(unsafe)", "found unsafe", true, &mut svg);
    let (start, end) = (frame.at(0.0, 0.0), frame.at(1.0, 1.0));
    svg.path("line dashed quiet", &path_data([start, end].into_iter()), "");
    let points = bins.iter().map(|bin| frame.at(bin.predicted, bin.observed));
    svg.path("line thin c0", &path_data(points), "");
    for Bin { predicted, observed, share } in bins {
        let percent = share * 100.0;
        let tooltip = format!("predicted {predicted:.3}, found {observed:.3}, {percent:.1} % of the rounds");
        svg.circle("dot f0", frame.at(*predicted, *observed), 3.0 + 18.0 * share.sqrt(), &tooltip);
    }
    let diagonal = EdgeName {
        name: "perfect calibration",
        class: "name thin quiet".to_owned(),
        value: String::new(),
        y: end.1,
    };
    Frame::names(vec![diagonal], &mut svg);
    svg
}
