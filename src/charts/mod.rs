//! Charts as SVG, for the replay report, `aegis evaluate` and the benchmarks.
//!
//! All charts share one style sheet and follow the reader's light or dark theme. A chart is a fragment for an HTML page
//! that contains [`STYLE`] ([`Svg::fragment`]), or a file of its own ([`Svg::file`]). The same data gives the same bytes.
//! docs/decisions/0015-charts-are-drawn-here.md says why no plotting crate draws them.

mod accuracy;
mod bars;
mod frame;
mod lines;
mod reliability;
mod stacked;
mod svg;
mod text;

pub use accuracy::{Accuracy, AccuracyRow};
pub use bars::{Bar, Bars, file as bars_file};
pub use lines::{Line, Lines, Stroke};
pub use reliability::{Bin, reliability};
pub use stacked::{Layer, Stacked};
pub use svg::{STYLE, Svg};
pub use text::{escape, grouped};
