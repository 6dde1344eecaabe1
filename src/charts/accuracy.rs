//! Accuracy by category: a row for each category, in it a letter for each expert and a shape for majority and learner.

use super::svg::{Anchor, Svg};

const WIDTH: f64 = 1_020.0;
const LEFT: f64 = 310.0;
const RIGHT: f64 = 300.0;
/// The first line of the experts' names.
const NAMES: f64 = 80.0;
const NAME_LINE: f64 = 20.0;
const ROW: f64 = 40.0;
/// Vertical offsets of neighbouring letters: many experts have about the same accuracy.
const LETTER_OFFSETS: [f64; 3] = [-7.0, 4.0, 15.0];
/// Width of a character of the legend, in pixels.
const CHAR_WIDTH: f64 = 6.4;

/// A category.
#[derive(Debug, Clone, PartialEq)]
pub struct AccuracyRow {
    /// Its name.
    pub name: String,
    /// The number of texts in it.
    pub texts: usize,
    /// The share of them judged right at .5, from 0 to 1, by judge.
    pub right: Vec<f64>,
}

/// A chart of accuracy by category.
#[derive(Debug)]
pub struct Accuracy<'a> {
    /// The heading.
    pub title: &'a str,
    /// The experts, in the order of each row's shares. Majority and the learner follow them.
    pub experts: &'a [&'a str],
    /// The categories from top to bottom.
    pub rows: Vec<AccuracyRow>,
}

fn at(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Returns an expert's letter by its position.
fn letter(position: usize) -> String {
    ('a'..='z').chain('A'..='Z').nth(position).unwrap_or('*').to_string()
}

/// Draws majority's square: not only the colour tells it from the learner's circle.
fn majority(svg: &mut Svg, (x, y): (f64, f64), tooltip: &str) {
    svg.rectangle("majority", (x - 5.0, y - 5.0), (10.0, 10.0), 0.0, tooltip);
}

fn learner(svg: &mut Svg, place: (f64, f64), tooltip: &str) {
    svg.circle("learner", place, 7.0, tooltip);
}

/// Places the experts' names in lines of the chart's width. Returns the place of each.
fn legend_places(experts: &[&str]) -> Vec<(f64, f64)> {
    let (mut x, mut y) = (23.0, NAMES);
    let place = |name: &&str| {
        let width = CHAR_WIDTH * (name.chars().count() as f64 + 2.0) + 9.0;
        if x + width > WIDTH {
            (x, y) = (23.0, y + NAME_LINE);
        }
        let place = (x, y);
        x += width;
        place
    };
    experts.iter().map(place).collect()
}

impl Accuracy<'_> {
    /// Draws the chart.
    #[must_use]
    pub fn svg(&self) -> Svg {
        let places = legend_places(self.experts);
        let top = places.last().map_or(NAMES, |(_, y)| *y) + NAME_LINE;
        let floor = top + ROW * self.rows.len() as f64;
        let mut svg = Svg::new(self.title, WIDTH, floor + 34.0);
        svg.text("title", (20.0, 30.0), Anchor::Start, self.title);
        self.legend(&places, &mut svg);
        for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let x = at(tick);
            svg.path("grid", &format!("M{x:.1} {:.1}V{floor:.1}", top - 6.0), "");
            svg.text("soft", (x, floor + 20.0), Anchor::Middle, &percent(tick));
        }
        for (position, row) in self.rows.iter().enumerate() {
            self.row(row, top + ROW * (position as f64 + 0.5), &mut svg);
        }
        svg
    }

    fn legend(&self, places: &[(f64, f64)], svg: &mut Svg) {
        learner(svg, (28.0, 53.0), "default learner");
        svg.text("soft", (41.0, 57.0), Anchor::Start, "default learner");
        majority(svg, (168.0, 53.0), "plain majority");
        svg.text("soft", (181.0, 57.0), Anchor::Start, "plain majority");
        for (position, (name, place)) in self.experts.iter().zip(places).enumerate() {
            svg.text_and_value("letter", *place, Anchor::Start, &letter(position), ("soft", name));
        }
        svg.text("soft", (WIDTH - RIGHT + 22.0, 57.0), Anchor::Start, "learner");
        svg.text("soft", (WIDTH - RIGHT + 82.0, 57.0), Anchor::Start, "best expert here");
    }

    fn row(&self, row: &AccuracyRow, y: f64, svg: &mut Svg) {
        svg.path("grid", &format!("M{LEFT} {y:.1}H{:.1}", at(1.0)), "");
        let texts = format!("({})", row.texts);
        svg.text_and_value("label", (LEFT - 16.0, y + 4.0), Anchor::End, &row.name, ("soft", &texts));
        for (position, (name, right)) in self.experts.iter().zip(&row.right).enumerate() {
            let y = y + LETTER_OFFSETS[position % LETTER_OFFSETS.len()];
            let tooltip = format!("{name}: {}", percent(*right));
            svg.letter((at(*right), y), &letter(position), &tooltip);
        }
        let [of_majority, of_learner] = *row.right.get(self.experts.len()..).unwrap_or_default() else {
            return;
        };
        majority(svg, (at(of_majority), y), &format!("majority: {}", percent(of_majority)));
        learner(svg, (at(of_learner), y), &format!("default learner: {}", percent(of_learner)));
        svg.text("value", (WIDTH - RIGHT + 22.0, y + 4.0), Anchor::Start, &percent(of_learner));
        let best = self.experts.iter().zip(&row.right).max_by(|a, b| a.1.total_cmp(b.1));
        if let Some((name, right)) = best {
            let best = format!("{name} {}", percent(*right));
            svg.text("soft", (WIDTH - RIGHT + 82.0, y + 4.0), Anchor::Start, &best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_legend_is_within_the_chart() {
        let experts = ["multilingual-harmful-request"; 30];
        let places = legend_places(&experts);
        for (at, (x, y)) in places.iter().enumerate() {
            assert!(x + CHAR_WIDTH * 30.0 <= WIDTH, "{at} begins at {x}");
            assert!(!places[..at].contains(&(*x, *y)), "{at} has a place of its own");
        }
        let chart = Accuracy { title: "t", experts: &experts, rows: vec![] }.svg().fragment();
        assert_eq!(chart.matches("multilingual-harmful-request<").count(), experts.len());
    }

    #[test]
    fn every_judge_of_every_row_is_drawn() {
        let row = |name: &str| AccuracyRow { name: name.into(), texts: 3, right: vec![0.5, 0.75, 0.25, 1.0] };
        let chart = Accuracy { title: "a < b", experts: &["one", "two"], rows: vec![row("x & y"), row("z")] };
        let svg = chart.svg().fragment();
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y"), "{svg}");
        assert_eq!(svg.matches("class=\"letter\"").count(), 2 * 2 + 2, "two in the legend");
        assert!(svg.contains(">a <tspan class=\"soft\">one<"), "letters are explained: {svg}");
        assert_eq!(svg.matches("class=\"majority\"").count(), 2 + 1);
        assert_eq!(svg.matches("class=\"learner\"").count(), 2 + 1);
        assert!(svg.contains("two 75 %"), "the best expert is named: {svg}");
    }
}
