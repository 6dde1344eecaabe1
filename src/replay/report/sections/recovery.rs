//! The time that the learner needs to recover after a change of the best expert.

use crate::charts::{Line, Lines, Stroke, escape, grouped};
use crate::core::learners::Name;
use crate::replay::report::courses::{Course, best_sequence};
use crate::replay::report::policy_report::{PolicyReport, section};

/// The greatest number of shifts to look for.
const MAX_SHIFTS: usize = 3;
/// The learner has recovered if its error is within this of the best expert's.
const RECOVERED: f64 = 0.02;

/// The best sequence of experts in hindsight, by block.
struct Sequence<'a> {
    report: &'a PolicyReport<'a>,
    experts: Vec<usize>,
}

impl<'a> Sequence<'a> {
    fn best(report: &'a PolicyReport<'a>) -> Self {
        let min_saved = report.baselines.rounds / 200;
        let experts = best_sequence(&report.baselines.expert_blocks, MAX_SHIFTS, min_saved);
        Self { report, experts }
    }

    fn name(&self, expert: usize) -> &str {
        self.report.fold.experts().get(expert).expect("a sequence consists of the fold's experts")
    }

    /// Returns the error of the sequence's expert in each block.
    fn errors(&self) -> Vec<f64> {
        let baselines = &self.report.baselines;
        let error = |(block, expert): (usize, &usize)| {
            let mistakes = baselines.expert_blocks.get(*expert).and_then(|blocks| blocks.get(block));
            let left = baselines.rounds - block as u64 * baselines.block;
            *mistakes.expect("a sequence has the fold's blocks") as f64 / left.min(baselines.block) as f64
        };
        self.experts.iter().enumerate().map(error).collect()
    }

    /// Returns the shifts: the block that each begins with, and the experts before and after it.
    fn shifts(&self) -> Vec<(usize, String)> {
        let pairs = self.experts.windows(2).enumerate();
        let shift = |(block, pair): (usize, &[usize])| match *pair {
            [before, after] if before != after => {
                Some((block + 1, format!("from {} to {}", self.name(before), self.name(after))))
            }
            _ => None,
        };
        pairs.filter_map(shift).collect()
    }
}

impl PolicyReport<'_> {
    pub(super) fn recovery(&self) -> String {
        let sequence = Sequence::best(self);
        let (best, shifts) = (sequence.errors(), sequence.shifts());
        let mut lines = vec![self.block_line(&self.own, Stroke::Strong(0))];
        let fixed = self.course_of(Name::WeightedMajority);
        if let Some(fixed) = fixed.filter(|course| course.spec.name != self.own.spec.name) {
            lines.push(self.block_line(fixed, Stroke::Thin(1)));
        }
        lines.push(Line {
            name: "best sequence of experts".to_owned(),
            stroke: Stroke::Dashed,
            points: self.at_blocks(&best),
        });
        let block_rounds = |block: usize| block as u64 * self.baselines.block;
        let text = if shifts.is_empty() {
            let expert = sequence.experts.first().map_or("", |expert| sequence.name(*expert));
            format!(
                "No change of the best expert is found: in hindsight the best sequence of experts is {} throughout.",
                escape(expert)
            )
        } else {
            let changes = shifts.iter().map(|(block, change)| {
                let recovery = match self.recovery_after(*block, &best) {
                    Some(blocks) => {
                        format!("within .02 of the best again after {} more", grouped(block_rounds(blocks)))
                    }
                    None => "not within .02 of the best again".to_owned(),
                };
                format!("after {} rounds {} ({recovery})", grouped(block_rounds(*block)), escape(change))
            });
            let changes = changes.collect::<Vec<_>>().join(", ");
            format!(
                "In hindsight the best sequence of experts with up to {MAX_SHIFTS} shifts changes {changes}."
            )
        };
        let text = format!("Errors in blocks of {} rounds. {text}", grouped(self.baselines.block));
        let marks = shifts.into_iter().map(|(block, change)| (block_rounds(block) as f64, change));
        let chart = Lines {
            title: "Error by block of rounds".to_owned(),
            x: "rounds",
            y: "error of the block",
            lines,
            marks: marks.collect(),
            percent: true,
            from: Some(0.0),
        };
        section("Recovery after shifts", &text, &[chart.svg().fragment()])
    }

    /// Returns the number of blocks from this one on after which the learner has recovered. `None` if it never does.
    fn recovery_after(&self, first: usize, best: &[f64]) -> Option<usize> {
        let errors = self.own.block_errors.iter().zip(best).skip(first);
        let recovered = |(error, best): (&f64, &f64)| *error <= best + RECOVERED;
        errors.map(recovered).position(|recovered| recovered).map(|blocks| blocks + 1)
    }

    fn block_line(&self, course: &Course, stroke: Stroke) -> Line {
        Line { name: course.spec.name.to_string(), stroke, points: self.at_blocks(&course.block_errors) }
    }

    /// Returns a value of each block as a point in the middle of the block.
    fn at_blocks(&self, values: &[f64]) -> Vec<(f64, f64)> {
        let (block, rounds) = (self.baselines.block as f64, self.baselines.rounds as f64);
        let middle = |at: usize| ((at as f64 + 0.5) * block).min(rounds);
        values.iter().enumerate().map(|(at, value)| (middle(at), *value)).collect()
    }
}
