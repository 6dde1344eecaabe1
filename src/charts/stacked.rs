//! A chart of shares of a whole, one on top of the other.

use super::frame::{EdgeName, Frame, range};
use super::svg::{Svg, path_data};
use super::text::percent;

/// Layers that end thinner than this have no name at the edge.
const MIN_NAMED_SHARE: f64 = 0.012;

/// One layer of a stacked chart.
#[derive(Debug)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// One of the eight colours; `None` for grey.
    pub colour: Option<usize>,
    /// Its share at each x, from 0 to 1.
    pub shares: Vec<f64>,
}

/// A chart of shares that add up to at most 1.
#[derive(Debug)]
pub struct Stacked {
    /// The title for screen readers.
    pub title: String,
    /// The x of each share.
    pub x: Vec<f64>,
    /// The layers from the bottom up.
    pub layers: Vec<Layer>,
}

impl Stacked {
    /// Draws the chart with these names of the axes.
    #[must_use]
    pub fn svg(&self, x: &str, y: &str) -> Svg {
        let frame = Frame { x: range(self.x.iter().copied()), y: (0.0, 1.0) };
        let mut svg = Frame::svg(&self.title);
        frame.axes(x, y, true, &mut svg);
        let mut below = vec![0.0; self.x.len()];
        let mut names = Vec::new();
        for Layer { name, colour, shares } in &self.layers {
            let above: Vec<f64> = below.iter().zip(shares).map(|(below, share)| below + share).collect();
            let up = self.x.iter().zip(&above).map(|(x, y)| frame.at(*x, *y));
            let down = self.x.iter().zip(&below).rev().map(|(x, y)| frame.at(*x, *y));
            let class = colour.map_or("area other".to_owned(), |colour| format!("area f{}", colour % 8));
            svg.path(&class, &format!("{}Z", path_data(up.chain(down))), name);
            if let (Some(low), Some(high)) = (below.last(), above.last())
                && high - low > MIN_NAMED_SHARE
            {
                let colour = colour.map_or("quiet".to_owned(), |colour| format!("c{}", colour % 8));
                names.push(EdgeName {
                    name,
                    class: format!("name thin {colour}"),
                    value: percent(((high - low) * 100.0).round() / 100.0),
                    y: frame.at(0.0, (low + high) / 2.0).1,
                });
            }
            below = above;
        }
        Frame::names(names, &mut svg);
        svg
    }
}
