//! Charts as inline SVG: lines, stacked areas, a reliability plot. Colours and fonts come from the page.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Room for the names at the lines' ends.
const NAMES: f64 = 222.0;

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    /// One of the eight colours, strong.
    Strong(usize),
    /// One of the eight colours, thin.
    Thin(usize),
    /// Grey and thin.
    Quiet,
    /// Grey and dashed: a bound, a reference.
    Dashed,
}

impl Stroke {
    fn class(self) -> String {
        match self {
            Self::Strong(colour) => format!("line strong c{}", colour % 8),
            Self::Thin(colour) => format!("line thin c{}", colour % 8),
            Self::Quiet => "line thin quiet".to_owned(),
            Self::Dashed => "line dashed quiet".to_owned(),
        }
    }
}

/// A line with its name.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) stroke: Stroke,
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart of lines, named where they end.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// What the chart shows, for readers that do not see it.
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) lines: Vec<Line>,
    /// Places on the x axis that are marked, with a word each.
    pub(super) marks: Vec<(f64, String)>,
    /// Numbers on the y axis are shares.
    pub(super) percent: bool,
    /// Where the y axis starts, if not at the least value.
    pub(super) from: Option<f64>,
}

/// Text as it may stand in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Nothing that turns text around or hides it.
            other
                if other.is_control()
                    || matches!(other, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}') => {}
            other => out.push(other),
        }
    }
    out
}

/// A name that fits beside a chart.
pub(super) fn short(name: &str) -> String {
    const MOST: usize = 26;
    if name.chars().count() <= MOST {
        name.to_owned()
    } else {
        name.chars().take(MOST - 1).chain(['…']).collect()
    }
}

/// A number with thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Round numbers from `low` to `high`, about `count` of them.
fn ticks(low: f64, high: f64, count: f64) -> Vec<f64> {
    let span = (high - low).max(1e-12);
    let rough = span / count;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|nice| nice * magnitude).find(|step| *step >= rough);
    let step = step.unwrap_or(span);
    let first = (low / step - 1e-9).ceil();
    (0..20).map(|at| (first + f64::from(at)) * step).take_while(|tick| *tick <= high + step * 1e-6).collect()
}

fn number(value: f64, percent: bool) -> String {
    if percent {
        let share = value * 100.0;
        return if (share - share.round()).abs() < 1e-6 {
            format!("{share:.0} %")
        } else {
            format!("{share:.1} %")
        };
    }
    let magnitude = value.abs();
    if magnitude >= 1_000.0 {
        let sign = if value < 0.0 { "−" } else { "" };
        format!("{sign}{}", grouped(magnitude.round() as u64))
    } else if (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}").replace('-', "−")
    } else {
        let digits = if magnitude < 0.1 { 3 } else { 2 };
        format!("{value:.digits$}").trim_end_matches('0').replace('-', "−")
    }
}

/// A chart's coordinates.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    right: f64,
}

impl Frame {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let share =
            |value: f64, (low, high): (f64, f64)| if high > low { (value - low) / (high - low) } else { 0.5 };
        let width = WIDTH - LEFT - self.right;
        let height = HEIGHT - TOP - BOTTOM;
        (LEFT + share(x, self.x) * width, TOP + (1.0 - share(y, self.y)) * height)
    }

    fn open(&self, title: &str, out: &mut String) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(title)
        );
    }

    fn axes(&self, x: &str, y: &str, percent: bool, out: &mut String) {
        let (left, floor) = self.at(self.x.0, self.y.0);
        let (right, _) = self.at(self.x.1, self.y.0);
        for tick in ticks(self.y.0, self.y.1, 5.0) {
            let (_, at) = self.at(0.0, tick);
            let _ = write!(out, "<path class=\"grid\" d=\"M{left:.1} {at:.1}H{right:.1}\"/>");
            let text = number(tick, percent);
            let _ = write!(
                out,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                left - 6.0,
                at + 4.0
            );
        }
        for tick in ticks(self.x.0, self.x.1, 6.0) {
            let (at, _) = self.at(tick, 0.0);
            let text = number(tick, percent && self.x.1 <= 1.0);
            let _ = write!(
                out,
                "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                floor + 16.0
            );
        }
        let _ = write!(out, "<path class=\"axis\" d=\"M{left:.1} {floor:.1}H{right:.1}\"/>");
        let _ = write!(
            out,
            "<text class=\"tick\" x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{x}</text>",
            floor + 32.0
        );
        let _ = write!(out, "<text class=\"tick\" x=\"{left:.1}\" y=\"{:.1}\">{y}</text>", floor + 32.0);
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    for (at, (x, y)) in points.enumerate() {
        let _ = write!(out, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' });
    }
    out
}

fn reach(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let low = finite.clone().fold(f64::INFINITY, f64::min);
    let high = finite.fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        (0.0, 1.0)
    } else if low == high {
        (low, low + 1.0)
    } else {
        (low, high)
    }
}

impl Lines {
    pub(super) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (low, high) = reach(points().map(|point| point.1));
        let low = self.from.unwrap_or(low);
        let margin = (high - low) * 0.04;
        let y = (if self.from.is_some() { low } else { low - margin }, high + margin);
        let frame = Frame { x: reach(points().map(|point| point.0)), y, right: NAMES };
        let mut out = String::new();
        frame.open(&self.title, &mut out);
        frame.axes(self.x, self.y, self.percent, &mut out);
        for (at, word) in &self.marks {
            let (x, floor) = frame.at(*at, y.0);
            let _ = write!(
                out,
                "<path class=\"mark\" d=\"M{x:.1} {floor:.1}V{TOP}\"><title>{}</title></path>",
                escape(word)
            );
        }
        // The strong ones last, on top.
        let mut order: Vec<&Line> = self.lines.iter().filter(|line| !line.points.is_empty()).collect();
        order.sort_by_key(|line| matches!(line.stroke, Stroke::Strong(_)));
        for line in &order {
            let drawn = path(line.points.iter().map(|(x, y)| frame.at(*x, *y)));
            let _ = write!(
                out,
                "<path class=\"{}\" d=\"{drawn}\"><title>{}</title></path>",
                line.stroke.class(),
                escape(&line.name)
            );
        }
        let mut names: Vec<(f64, &Line, f64)> = order
            .iter()
            .filter_map(|line| line.points.last().map(|(x, y)| (frame.at(*x, *y).1, *line, *y)))
            .collect();
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<f64> = names.iter().map(|name| name.0).collect();
        for ((wanted, line, last), at) in names.iter().zip(spread(&wanted)) {
            let x = WIDTH - NAMES;
            let class = line.stroke.class().replace("line", "name");
            let value = number(*last, self.percent);
            let _ = write!(
                out,
                "<path class=\"lead\" d=\"M{:.1} {wanted:.1}L{:.1} {at:.1}\"/><text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{} <tspan class=\"tick\">{value}</tspan></text>",
                x + 2.0,
                x + 12.0,
                x + 15.0,
                at + 4.0,
                escape(&short(&line.name))
            );
        }
        out.push_str("</svg>");
        out
    }
}

/// Moves names apart that would stand in one another, in their order.
fn spread(wanted: &[f64]) -> Vec<f64> {
    const APART: f64 = 14.0;
    let mut at: Vec<f64> = Vec::new();
    for want in wanted {
        at.push(at.last().map_or(*want, |before| want.max(before + APART)));
    }
    let mut limit = HEIGHT - BOTTOM + 6.0;
    for place in at.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - APART;
    }
    at
}

/// Shares of a whole over time, one on top of the other.
pub(super) struct Stacked {
    pub(super) title: String,
    pub(super) x: Vec<f64>,
    /// Name, colour (`None`: grey) and share at each x.
    pub(super) layers: Vec<(String, Option<usize>, Vec<f64>)>,
}

impl Stacked {
    pub(super) fn svg(&self) -> String {
        let frame = Frame { x: reach(self.x.iter().copied()), y: (0.0, 1.0), right: NAMES };
        let mut out = String::new();
        frame.open(&self.title, &mut out);
        frame.axes("rounds", "share of the weight", true, &mut out);
        let mut below = vec![0.0; self.x.len()];
        let mut names = Vec::new();
        for (name, colour, shares) in &self.layers {
            let above: Vec<f64> = below.iter().zip(shares).map(|(below, share)| below + share).collect();
            let up = self.x.iter().zip(&above).map(|(x, y)| frame.at(*x, *y));
            let down = self.x.iter().zip(&below).rev().map(|(x, y)| frame.at(*x, *y));
            let class = colour.map_or("area other".to_owned(), |colour| format!("area f{}", colour % 8));
            let _ = write!(
                out,
                "<path class=\"{class}\" d=\"{}Z\"><title>{}</title></path>",
                path(up.chain(down)),
                escape(name)
            );
            if let (Some(low), Some(high)) = (below.last(), above.last())
                && high - low > 0.012
            {
                let class = colour
                    .map_or("name thin quiet".to_owned(), |colour| format!("name thin c{}", colour % 8));
                names.push((frame.at(0.0, (low + high) / 2.0).1, name, class, high - low));
            }
            below = above;
        }
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<f64> = names.iter().map(|name| name.0).collect();
        for ((_, name, class, share), at) in names.iter().zip(spread(&wanted)) {
            let x = WIDTH - NAMES + 8.0;
            let value = number((share * 100.0).round() / 100.0, true);
            let _ = write!(
                out,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\">{} <tspan class=\"tick\">{value}</tspan></text>",
                at + 4.0,
                escape(&short(name))
            );
        }
        out.push_str("</svg>");
        out
    }
}

/// What was said against what was so: (mean p, mean target, share of the rounds) per bin.
pub(super) fn reliability(title: &str, bins: &[(f64, f64, f64)]) -> String {
    let frame = Frame { x: (0.0, 1.0), y: (0.0, 1.0), right: NAMES };
    let mut out = String::new();
    frame.open(title, &mut out);
    frame.axes("said: P(unsafe)", "found unsafe", true, &mut out);
    let diagonal = path([(0.0, 0.0), (1.0, 1.0)].into_iter().map(|(x, y)| frame.at(x, y)));
    let _ = write!(out, "<path class=\"line dashed quiet\" d=\"{diagonal}\"/>");
    let drawn = path(bins.iter().map(|(said, found, _)| frame.at(*said, *found)));
    let _ = write!(out, "<path class=\"line thin c0\" d=\"{drawn}\"/>");
    for (said, found, share) in bins {
        let (x, y) = frame.at(*said, *found);
        let radius = 3.0 + 18.0 * share.sqrt();
        let _ = write!(
            out,
            "<circle class=\"dot f0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>said {said:.3}, found {found:.3}, {:.1} % of the rounds</title></circle>",
            share * 100.0
        );
    }
    let (x, y) = frame.at(1.0, 1.0);
    let _ = write!(
        out,
        "<text class=\"name thin quiet\" x=\"{:.1}\" y=\"{:.1}\">as said, so found</text></svg>",
        x + 15.0,
        y + 4.0
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks(0.0, 1.0, 5.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(0.0, 10_999.0, 6.0), [0.0, 2_000.0, 4_000.0, 6_000.0, 8_000.0, 10_000.0]);
        assert_eq!(ticks(3.0, 3.0, 5.0), [3.0]);
    }

    #[test]
    fn numbers_are_read_easily() {
        assert_eq!(number(10_000.0, false), "10,000");
        assert_eq!(number(-1_118.4, false), "−1,118");
        assert_eq!(number(0.25, true), "25 %");
        assert_eq!(number(0.5, false), "0.5");
    }

    #[test]
    fn names_stay_apart_and_inside() {
        let at = spread(&[10.0, 11.0, 12.0, 279.0, 280.0, 281.0]);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 13.99), "{at:?}");
        assert!(at.iter().all(|at| *at <= HEIGHT - BOTTOM + 6.0));
    }

    #[test]
    fn what_users_wrote_is_text() {
        assert_eq!(escape("<a href='x'>&\u{202e}\"\n"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
