//! How often learners and experts are wrong, by how much, and whether their probabilities can be believed.

use super::scene::{Scene, section};
use crate::replay::report::gather::Course;
use crate::replay::report::svg::{Line, Lines, Stroke, reliability};

impl Scene<'_> {
    pub(super) fn error(&self, out: &mut String) {
        let Some(own) = self.own() else { return };
        let courses: Vec<&Course> = self.courses.iter().collect();
        let mut counts = self.lines(&courses, |course| course.mistakes.iter().map(|n| *n as f64).collect());
        let place = |course: &[u64]| {
            own.places.iter().zip(course).map(|(place, n)| (*place as f64, *n as f64)).collect()
        };
        let experts = self.fold.experts().iter().zip(&self.grounds.alone);
        counts.extend(experts.map(|(name, course)| Line {
            name: name.clone(),
            stroke: Stroke::Quiet,
            points: place(course),
        }));
        counts.push(Line {
            name: "plain majority".to_owned(),
            stroke: Stroke::Dashed,
            points: place(&self.grounds.majority),
        });
        let counts = Lines {
            title: "Mistakes so far of every learner and expert".to_owned(),
            x: "rounds",
            y: "mistakes so far",
            lines: counts,
            from: Some(0.0),
            ..Lines::default()
        };
        let mut shares = self.lines(&courses, |course| {
            course.places.iter().zip(&course.mistakes).map(|(place, n)| *n as f64 / *place as f64).collect()
        });
        shares.extend(self.experts());
        // The first rounds say nothing yet and would stretch the axis.
        let first = self.grounds.rounds as f64 / 20.0;
        shares.iter_mut().for_each(|line| line.points.retain(|(place, _)| *place >= first));
        let shares = Lines {
            title: "Error so far of every learner and expert".to_owned(),
            x: "rounds",
            y: "error so far",
            lines: shares,
            percent: true,
            ..Lines::default()
        };
        let text = "Every learner in colour, every expert in grey; the learner of this replay is the strong line. A round that an expert sleeps through counts as its mistake: alone, it decides nothing there.";
        section(out, "Error of every expert and learner", text, &[counts.svg(), shares.svg()]);
    }

    pub(super) fn regret(&self, out: &mut String) {
        let Some(own) = self.own() else { return };
        let place = |at: usize| own.places.get(at).copied().unwrap_or(0) as f64;
        let regret = own.regret.iter().enumerate().map(|(at, found)| (place(at), found.0)).collect();
        let bound: Vec<(f64, f64)> =
            own.regret.iter().enumerate().filter_map(|(at, found)| Some((place(at), found.1?))).collect();
        let last = own.regret.last().copied().unwrap_or((0.0, None));
        let kind = own.loss;
        let text = match last.1 {
            Some(bound) => format!(
                "The greatest regret against any expert, in {kind} loss: {:.3} after the last round, and at most {bound:.3} is proven for any stream whatever. Below zero the learner is better than every expert.",
                last.0
            ),
            None => format!(
                "The greatest regret against any expert, in {kind} loss: {:.3} after the last round. Nothing is proven for this learner.",
                last.0
            ),
        };
        let mut lines = vec![Line { name: "regret".to_owned(), stroke: Stroke::Strong(0), points: regret }];
        if !bound.is_empty() {
            lines.push(Line { name: "proven bound".to_owned(), stroke: Stroke::Dashed, points: bound });
        }
        let chart = Lines {
            title: "Regret against its bound".to_owned(),
            x: "rounds",
            y: "regret",
            lines,
            ..Lines::default()
        };
        section(out, "Regret against its bound", &text, &[chart.svg()]);
    }

    pub(super) fn reliability(&self, out: &mut String) {
        let Some(own) = self.own() else { return };
        let bins: Vec<(f64, f64, f64)> = own
            .tally
            .bins
            .iter()
            .filter(|bin| bin.rounds > 0)
            .map(|bin| {
                let rounds = bin.rounds as f64;
                (bin.predicted / rounds, bin.observed / rounds, rounds / own.tally.rounds as f64)
            })
            .collect();
        let text = format!(
            "What the learner said against what people found, in tenths of P(unsafe); a dot's area is its share of the rounds. On the diagonal, of a hundred texts with p = 30 % thirty are unsafe. Calibration error {:.3}.",
            own.tally.calibration_error()
        );
        section(out, "Can its probabilities be believed?", &text, &[reliability("Reliability plot", &bins)]);
    }
}
