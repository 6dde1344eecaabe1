//! Charts of bars, several in one file: measurements with their spread.

use super::svg::{Anchor, Svg};
use super::text::grouped;

const WIDTH: f64 = 940.0;
const LEFT: f64 = 300.0;
const BAR_WIDTH: f64 = 440.0;
const ROW: f64 = 30.0;
const HEAD: f64 = 34.0;

/// A measured quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// The median, which is the bar's length.
    pub median: f64,
    /// The least and the greatest value, drawn as a line.
    pub spread: (f64, f64),
    /// If `true`, the bar is coloured: it is one of ours.
    pub own: bool,
}

/// A chart of bars.
#[derive(Debug)]
pub struct Bars<'a> {
    /// The heading.
    pub title: &'a str,
    /// The line under the heading.
    pub note: &'a str,
    /// The bars from top to bottom.
    pub bars: Vec<Bar>,
}

/// Draws several charts of bars, one above the other.
#[must_use]
pub fn file(title: &str, charts: &[Bars<'_>]) -> Svg {
    let height = |chart: &Bars<'_>| HEAD + ROW * chart.bars.len() as f64 + 40.0;
    let mut svg = Svg::new(title, WIDTH, charts.iter().map(height).sum::<f64>() + 12.0);
    let mut top = 36.0;
    for chart in charts {
        chart.draw(top, &mut svg);
        top += height(chart);
    }
    svg
}

impl Bars<'_> {
    fn draw(&self, top: f64, svg: &mut Svg) {
        svg.text("title", (20.0, top), Anchor::Start, self.title);
        svg.text("soft", (20.0, top + 20.0), Anchor::Start, self.note);
        let greatest = self.bars.iter().map(|bar| bar.spread.1).fold(f64::MIN_POSITIVE, f64::max);
        let length = |value: f64| value / greatest * BAR_WIDTH;
        for (row, Bar { name, median, spread: (least, most), own }) in self.bars.iter().enumerate() {
            let y = top + HEAD + ROW * row as f64;
            svg.text("label", (LEFT - 14.0, y + 15.0), Anchor::End, name);
            let class = if *own { "bar own" } else { "bar" };
            svg.rectangle(class, (LEFT, y + 2.0), (length(*median), 18.0), 3.0, "");
            let (start, end) = (LEFT + length(*least), LEFT + length(*most));
            svg.path("spread", &format!("M{start:.1} {:.1}H{end:.1}", y + 11.0), "");
            let whole = |value: f64| grouped(value.round() as u64);
            let range = format!("({} to {})", whole(*least), whole(*most));
            let place = (LEFT + length(median.max(*most)) + 10.0, y + 15.0);
            svg.text_and_value("label", place, Anchor::Start, &whole(*median), ("soft", &range));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_scaled_to_the_greatest_value_of_their_chart() {
        let bar = |name: &str, most| Bar { name: name.into(), median: 50.0, spread: (25.0, most), own: true };
        let chart = |most| Bars { title: "t", note: "n", bars: vec![bar("a", most), bar("b", 60.0)] };
        let file = file("all", &[chart(100.0), chart(1_000.0)]).file();
        assert!(file.contains("width=\"220.0\"") && file.contains("width=\"22.0\""), "{file}");
        assert!(file.contains("(25 to 1,000)") && file.contains("M410.0 "), "{file}");
    }
}
