//! How soon the learner is back after a shift of who is right.

use super::scene::{Scene, section};
use crate::core::learners::Name;
use crate::replay::report::gather::{Course, best_sequence};
use crate::replay::report::svg::{Line, Lines, Stroke, escape, grouped};

/// Shifts looked for.
const SHIFTS: usize = 3;
impl Scene<'_> {
    pub(super) fn recovery(&self, out: &mut String) {
        let Some(own) = self.own() else { return };
        let sequence = best_sequence(&self.grounds.blocks, SHIFTS, self.grounds.rounds / 200);
        let block = self.grounds.block as f64;
        let middle = |at: usize| ((at as f64 + 0.5) * block).min(self.grounds.rounds as f64);
        let size = |at: usize| {
            let left = self.grounds.rounds.saturating_sub(at as u64 * self.grounds.block);
            left.min(self.grounds.block).max(1) as f64
        };
        let name = |expert: usize| self.fold.experts().get(expert).map_or("", String::as_str);
        let mut marks = Vec::new();
        for (at, pair) in sequence.windows(2).enumerate() {
            if let [before, after] = pair
                && before != after
            {
                marks.push(((at + 1) as f64 * block, format!("from {} to {}", name(*before), name(*after))));
            }
        }
        let wrong = |expert: usize, at: usize| {
            self.grounds.blocks.get(expert).and_then(|of| of.get(at)).copied().unwrap_or(0) as f64 / size(at)
        };
        let best: Vec<(f64, f64)> =
            sequence.iter().enumerate().map(|(at, expert)| (middle(at), wrong(*expert, at))).collect();
        // How long the learner takes to come within .02 of the one that is right now.
        let back = |from: f64| {
            let first = (from / block).round() as usize;
            let near = |at: &usize| {
                let best = sequence.get(*at).map_or(0.0, |expert| wrong(*expert, *at));
                own.passing.get(*at).is_some_and(|error| *error <= best + 0.02)
            };
            let found = (first..sequence.len()).find(near);
            found.map(|at| ((at + 1 - first) as f64 * block) as u64)
        };
        let passing = |course: &Course| {
            course.passing.iter().enumerate().map(|(at, share)| (middle(at), *share)).collect()
        };
        let mut lines =
            vec![Line { name: own.spec.name.to_string(), stroke: Stroke::Strong(0), points: passing(own) }];
        if let Some(fixed) =
            self.of(Name::WeightedMajority).filter(|course| course.spec.name != own.spec.name)
        {
            lines.push(Line {
                name: fixed.spec.name.to_string(),
                stroke: Stroke::Thin(1),
                points: passing(fixed),
            });
        }
        lines.push(Line {
            name: "best sequence of experts".to_owned(),
            stroke: Stroke::Dashed,
            points: best,
        });
        let text = if marks.is_empty() {
            let who = sequence.first().map_or("", |expert| name(*expert));
            format!(
                "Errors in passing, {} rounds at a time. No shift of who is right is found: in hindsight the best sequence of experts is {} throughout.",
                grouped(self.grounds.block),
                escape(who)
            )
        } else {
            let told = marks.iter().map(|(at, word)| {
                let back = match back(*at) {
                    Some(rounds) => format!("back within .02 of the best after {} more", grouped(rounds)),
                    None => "not yet back within .02 of the best".to_owned(),
                };
                format!("after {} rounds {} ({back})", grouped(*at as u64), escape(word))
            });
            let told: Vec<String> = told.collect();
            format!(
                "Errors in passing, {} rounds at a time. In hindsight the best sequence of experts with up to {SHIFTS} shifts changes {}.",
                grouped(self.grounds.block),
                told.join(", ")
            )
        };
        let chart = Lines {
            title: "Errors in passing".to_owned(),
            x: "rounds",
            y: "error of the block",
            lines,
            marks,
            percent: true,
            from: Some(0.0),
        };
        section(out, "Recovery after shifts", &text, &[chart.svg()]);
    }
}
