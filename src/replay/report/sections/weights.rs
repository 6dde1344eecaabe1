//! Whom learners listen to, and the paper's pictures of that.

use super::scene::{Scene, section};
use crate::core::learners::Name;
use crate::replay::report::gather::Course;
use crate::replay::report::svg::{Lines, Stacked, Stroke};

/// Layers of weight that have a colour of their own.
const COLOURS: usize = 8;

impl Scene<'_> {
    fn stacked(course: &Course, title: &str) -> String {
        let x: Vec<f64> = course.places.iter().map(|place| *place as f64).collect();
        let mut layers: Vec<(String, Vec<f64>)> = Vec::new();
        for (at, masses) in course.masses.iter().enumerate() {
            for mass in masses {
                let known = layers.iter().position(|layer| layer.0 == mass.member);
                let slot = known.unwrap_or_else(|| {
                    layers.push((mass.member.clone(), vec![0.0; x.len()]));
                    layers.len() - 1
                });
                if let Some(share) = layers.get_mut(slot).and_then(|layer| layer.1.get_mut(at)) {
                    *share = mass.mass;
                }
            }
        }
        // Those that weigh most over the whole stream get the colours, in member order.
        let weight = |layer: &(String, Vec<f64>)| layer.1.iter().sum::<f64>();
        let mut order: Vec<f64> = layers.iter().map(weight).collect();
        order.sort_by(|a, b| b.total_cmp(a));
        let least = order.get(COLOURS - 1).copied().unwrap_or(0.0);
        let (mut shown, mut rest) = (Vec::new(), vec![0.0; x.len()]);
        for layer in layers {
            if weight(&layer) >= least && shown.len() < COLOURS {
                shown.push((layer.0, Some(shown.len()), layer.1));
            } else {
                rest.iter_mut().zip(&layer.1).for_each(|(sum, share)| *sum += share);
            }
        }
        if rest.iter().any(|share| *share > 0.0) {
            shown.push(("all others".to_owned(), None, rest));
        }
        Stacked { title: title.to_owned(), x, layers: shown }.svg()
    }

    pub(super) fn weights(&self, out: &mut String) {
        let Some(own) = self.own() else { return };
        let mut figures = Vec::new();
        if own.masses.iter().any(|masses| !masses.is_empty()) {
            figures.push(format!(
                "<h3>{}: members</h3>{}",
                own.spec.name,
                Self::stacked(own, "Weights of the learner's members")
            ));
        }
        if let Some(share) = self.of(Name::FixedShare).filter(|other| other.spec.name != own.spec.name) {
            figures.push(format!(
                "<h3>{}: experts</h3>{}",
                share.spec.name,
                Self::stacked(share, "Weights of the experts")
            ));
        }
        let text = "Whom the learner listens to, round by round. The default mixes experts with learners inside it: what weighs most there is what predicts best.";
        section(out, "Weights over time", text, &figures);
    }

    pub(super) fn paper(&self, out: &mut String) {
        let (Some(majority), Some(fpl)) = (self.of(Name::WeightedMajority), self.of(Name::Fpl)) else {
            return;
        };
        let mut figures = vec![
            format!(
                "<h3>Weighted Majority, η = .5</h3>{}",
                Self::stacked(majority, "Weights of Weighted Majority")
            ),
            format!(
                "<h3>Follow the Perturbed Leader, η = .26</h3>{}",
                Self::stacked(fpl, "Weights of Follow the Perturbed Leader")
            ),
        ];
        let mut courses = vec![majority, fpl];
        courses.extend(self.own().filter(|own| !matches!(own.spec.name, Name::WeightedMajority | Name::Fpl)));
        let mut lines = self.lines(&courses, |course| {
            course.places.iter().zip(&course.mistakes).map(|(place, n)| *n as f64 / *place as f64).collect()
        });
        for (at, line) in lines.iter_mut().enumerate() {
            line.stroke = if at == 2 { Stroke::Strong(0) } else { Stroke::Thin(at + 1) };
        }
        lines.extend(self.experts());
        let first = self.grounds.rounds as f64 / 20.0;
        lines.iter_mut().for_each(|line| line.points.retain(|(place, _)| *place >= first));
        let chart = Lines {
            title: "Error compared".to_owned(),
            x: "rounds",
            y: "error so far",
            lines,
            percent: true,
            ..Lines::default()
        };
        figures.push(format!("<h3>Error compared</h3>{}", chart.svg()));
        let text = "The three pictures of the AEGIS paper (arXiv 2404.05993), for this stream.";
        section(out, "The paper's pictures", text, &figures);
    }
}
