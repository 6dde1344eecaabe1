//! The errors of learners and experts, the regret, and the calibration of the learner's probabilities.

use crate::charts::{Bin, Line, Lines, Stroke, reliability};
use crate::replay::report::policy_report::{PolicyReport, section, stroke};

impl PolicyReport<'_> {
    pub(super) fn error(&self) -> String {
        let courses = || self.courses().enumerate();
        let counts = courses().map(|(at, course)| course.counts(stroke(at)));
        let counts = Lines {
            title: "Mistakes so far of every learner and expert".to_owned(),
            x: "rounds",
            y: "mistakes so far",
            lines: counts.chain(self.baseline_counts()).collect(),
            from: Some(0.0),
            ..Lines::default()
        };
        let errors = courses().map(|(at, course)| course.errors(stroke(at)));
        let errors = Lines {
            title: "Error so far of every learner and expert".to_owned(),
            x: "rounds",
            y: "error so far",
            lines: self.without_start(errors.chain(self.baseline_errors()).collect()),
            percent: true,
            ..Lines::default()
        };
        let text = "Every learner in colour, every expert in grey; the thick line is the learner of this replay. A round in which an expert abstains counts as its mistake: alone, it decides nothing there.";
        let figures = [counts.svg().fragment(), errors.svg().fragment()];
        section("Error of every expert and learner", text, &figures)
    }

    pub(super) fn regret(&self) -> String {
        let own = &self.own;
        let at_samples =
            || own.rounds.iter().zip(&own.regret).map(|(rounds, found)| (*rounds as f64, *found));
        let points = at_samples().map(|(x, (regret, _))| (x, regret)).collect();
        let mut lines = vec![Line { name: "regret".to_owned(), stroke: Stroke::Strong(0), points }];
        let bound: Vec<_> = at_samples().filter_map(|(x, (_, bound))| Some((x, bound?))).collect();
        if !bound.is_empty() {
            lines.push(Line { name: "proven bound".to_owned(), stroke: Stroke::Dashed, points: bound });
        }
        let (regret, bound) = *own.regret.last().expect("a course has a round");
        let proven = match bound {
            Some(bound) => format!(
                ", and at most {bound:.3} is proven for any stream. Below zero the learner is better than every expert."
            ),
            None => ". No bound is proven for this learner.".to_owned(),
        };
        let text = format!(
            "The greatest regret against any expert, in {} loss: {regret:.3} after the last round{proven}",
            own.loss
        );
        let title = "Regret against its bound";
        let chart = Lines { title: title.to_owned(), x: "rounds", y: "regret", lines, ..Lines::default() };
        section(title, &text, &[chart.svg().fragment()])
    }

    pub(super) fn reliability(&self) -> String {
        let tally = &self.own.tally;
        let bins = tally.bins.iter().filter(|bin| bin.rounds > 0).map(|bin| {
            let rounds = bin.rounds as f64;
            Bin {
                predicted: bin.predicted / rounds,
                observed: bin.observed / rounds,
                share: rounds / tally.rounds as f64,
            }
        });
        let text = format!(
            "The learner's predictions against the labels, in tenths of P(unsafe); a dot's area is its share of the rounds. On the diagonal, thirty of a hundred texts with p = 30 % are unsafe. Calibration error {:.3}.",
            tally.calibration_error()
        );
        let chart = reliability("Reliability plot", &bins.collect::<Vec<_>>());
        section("Can its probabilities be believed?", &text, &[chart.fragment()])
    }
}
