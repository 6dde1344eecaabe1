//! Accuracy by category as a chart: a row for each, a letter for each expert. A file of its own, light and dark.

use std::fmt::Write as _;

use crate::replay::report::escape;

const WIDTH: f64 = 940.0;
const LEFT: f64 = 310.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 100.0;
const ROW: f64 = 40.0;
/// Letters of neighbours stand at different heights: many are right about as much.
const HEIGHTS: [f64; 3] = [-7.0, 4.0, 15.0];

/// A category.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) texts: usize,
    /// Share right at .5, by judge: the experts, majority, the learner.
    pub(super) right: Vec<f64>,
}

/// A chart; the last two judges are majority and the learner, all before them experts.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) judges: &'a [&'a str],
    pub(super) rows: Vec<Row>,
}

const STYLE: &str = "\
    svg { --card: #ffffff; --ink: #1a1a19; --soft: #5f5e5a; --hair: #e4e3df; --quiet: #a3a29c; --ours: #2a78d6; --theirs: #eb6834; \
    font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; } \
    @media (prefers-color-scheme: dark) { svg { --card: #1d1d1b; --ink: #f2f1ec; --soft: #aeada6; --hair: #34332f; --quiet: #7d7c76; --ours: #3987e5; --theirs: #d95926; } } \
    .card { fill: var(--card); } text { fill: var(--ink); } .soft { fill: var(--soft); font-size: 12px; } .title { font-size: 16px; font-weight: 600; } \
    .hair { stroke: var(--hair); fill: none; } .expert { fill: var(--soft); font-size: 12px; font-weight: 600; text-anchor: middle; } \
    .majority { fill: var(--card); stroke: var(--theirs); stroke-width: 2; } .learner { fill: var(--ours); stroke: var(--card); stroke-width: 1.5; } .value { font-weight: 600; }";

fn at(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A mark of those that are no expert; a square for majority, so that colour is not all that tells it from the learner.
fn mark(class: &str, x: f64, y: f64, name: &str) -> String {
    match class {
        "majority" => format!(
            "<rect class=\"majority\" x=\"{:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\"><title>{name}</title></rect>\n",
            x - 5.0,
            y - 5.0
        ),
        _ => format!(
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\"><title>{name}</title></circle>\n"
        ),
    }
}

/// An expert's letter, by its place.
fn letter(place: usize) -> char {
    ('a'..='z').chain('A'..='Z').nth(place).unwrap_or('*')
}

impl Chart<'_> {
    pub(super) fn svg(&self) -> String {
        let experts = self.judges.len() - 2;
        let floor = TOP + ROW * self.rows.len() as f64;
        let height = floor + 34.0;
        let title = escape(self.title);
        // Writing to a String cannot fail, here and below.
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n\
             <style>{STYLE}</style>\n<rect class=\"card\" width=\"{WIDTH}\" height=\"{height}\" rx=\"10\"/>\n\
             <text class=\"title\" x=\"20\" y=\"30\">{title}</text>\n"
        );
        let legend = [("learner", "default learner", 28.0), ("majority", "plain majority", 168.0)];
        for (class, name, x) in legend {
            out.push_str(&mark(class, x, 53.0, name));
            let _ = writeln!(out, "<text class=\"soft\" x=\"{:.1}\" y=\"57\">{name}</text>", x + 13.0);
        }
        let named = |(place, judge): (usize, &&str)| {
            format!("<tspan dx=\"9\">{}</tspan> {}", letter(place), escape(judge))
        };
        let experts_named: String = self.judges.iter().take(experts).enumerate().map(named).collect();
        let _ = writeln!(out, "<text class=\"soft\" x=\"14\" y=\"80\">{experts_named}</text>");
        let _ = writeln!(
            out,
            "<text class=\"soft\" x=\"{:.1}\" y=\"57\">learner</text><text class=\"soft\" x=\"{:.1}\" y=\"57\">best expert here</text>",
            WIDTH - RIGHT + 22.0,
            WIDTH - RIGHT + 82.0
        );
        for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let x = at(tick);
            let _ = writeln!(
                out,
                "<path class=\"hair\" d=\"M{x:.1} {:.1}V{floor:.1}\"/><text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                TOP - 6.0,
                floor + 20.0,
                percent(tick)
            );
        }
        for (place, row) in self.rows.iter().enumerate() {
            self.row(row, TOP + ROW * (place as f64 + 0.5), experts, &mut out);
        }
        out.push_str("</svg>\n");
        out
    }

    fn row(&self, row: &Row, y: f64, experts: usize, out: &mut String) {
        let _ = writeln!(
            out,
            "<path class=\"hair\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} <tspan class=\"soft\">({})</tspan></text>",
            at(1.0),
            LEFT - 16.0,
            y + 4.0,
            escape(&row.name),
            row.texts
        );
        for (place, (judge, right)) in self.judges.iter().zip(&row.right).enumerate() {
            let (x, name) = (at(*right), format!("{}: {}", escape(judge), percent(*right)));
            let _ = match place.checked_sub(experts) {
                None => writeln!(
                    out,
                    "<text class=\"expert\" x=\"{x:.1}\" y=\"{:.1}\">{}<title>{name}</title></text>",
                    y + HEIGHTS[place % HEIGHTS.len()],
                    letter(place)
                ),
                Some(0) => write!(out, "{}", mark("majority", x, y, &name)),
                Some(_) => write!(out, "{}", mark("learner", x, y, &name)),
            };
        }
        let best = self.judges.iter().zip(&row.right).take(experts).max_by(|a, b| a.1.total_cmp(b.1));
        if let (Some((name, best)), Some(learner)) = (best, row.right.last()) {
            let _ = writeln!(
                out,
                "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{} {}</text>",
                WIDTH - RIGHT + 22.0,
                y + 4.0,
                percent(*learner),
                WIDTH - RIGHT + 82.0,
                y + 4.0,
                escape(name),
                percent(*best)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_judge_of_every_row_is_drawn() {
        let row = |name: &str| Row { name: name.into(), texts: 3, right: vec![0.5, 0.75, 0.25, 1.0] };
        let chart = Chart {
            title: "a < b",
            judges: &["one", "two", "majority", "default"],
            rows: vec![row("x & y"), row("z")],
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y"), "{svg}");
        assert_eq!(svg.matches("class=\"expert\"").count(), 2 * 2);
        assert!(
            svg.contains("a</tspan> one") && svg.contains("b</tspan> two"),
            "letters are explained: {svg}"
        );
        assert_eq!(svg.matches("class=\"majority\"").count(), 2 + 1);
        assert_eq!(svg.matches("class=\"learner\"").count(), 2 + 1);
        assert!(svg.contains("two 75 %"), "the best expert is named: {svg}");
    }
}
