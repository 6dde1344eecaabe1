//! The learners' weights over time, and the figures of the AEGIS paper.

use std::collections::BTreeMap;

use crate::charts::{Layer, Lines, Stacked, Stroke};
use crate::core::learners::Name;
use crate::replay::report::courses::Course;
use crate::replay::report::policy_report::{PolicyReport, section};

/// The number of members with a colour of their own.
const COLOURS: usize = 8;

impl Course {
    /// Draws the members' weights. The heaviest have a colour each, in the order of members.
    fn stacked(&self, title: &str) -> String {
        let x: Vec<f64> = self.rounds.iter().map(|rounds| *rounds as f64).collect();
        let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
        let mut members: Vec<Layer> = Vec::new();
        for (sample, masses) in self.masses.iter().enumerate() {
            for mass in masses {
                let position = *positions.entry(&mass.member).or_insert_with(|| {
                    let shares = vec![0.0; x.len()];
                    members.push(Layer { name: mass.member.clone(), colour: None, shares });
                    members.len() - 1
                });
                if let Some(share) = members.get_mut(position).and_then(|layer| layer.shares.get_mut(sample))
                {
                    *share = mass.mass;
                }
            }
        }
        let weight = |layer: &Layer| layer.shares.iter().sum::<f64>();
        let mut weights: Vec<f64> = members.iter().map(weight).collect();
        weights.sort_by(|a, b| b.total_cmp(a));
        let least = weights.get(COLOURS - 1).copied().unwrap_or(0.0);
        let (mut layers, mut others) = (Vec::new(), vec![0.0; x.len()]);
        for mut member in members {
            if weight(&member) >= least && layers.len() < COLOURS {
                member.colour = Some(layers.len());
                layers.push(member);
            } else {
                others.iter_mut().zip(&member.shares).for_each(|(sum, share)| *sum += share);
            }
        }
        if others.iter().any(|share| *share > 0.0) {
            layers.push(Layer { name: "all others".to_owned(), colour: None, shares: others });
        }
        Stacked { title: title.to_owned(), x, layers }.svg("rounds", "share of the weight").fragment()
    }
}

impl PolicyReport<'_> {
    pub(super) fn weights(&self) -> String {
        let mut figures = Vec::new();
        let own = &self.own;
        if own.masses.iter().any(|masses| !masses.is_empty()) {
            let chart = own.stacked("Weights of the learner's members");
            figures.push(format!("<h3>{}: members</h3>{chart}", own.spec.name));
        }
        let fixed_share = self.course_of(Name::FixedShare);
        if let Some(course) = fixed_share.filter(|course| course.spec.name != own.spec.name) {
            let chart = course.stacked("Weights of the experts");
            figures.push(format!("<h3>{}: experts</h3>{chart}", course.spec.name));
        }
        let text = "The weights of the learner's members, round by round. The default learner mixes experts with learners inside it: the heaviest member is the one that predicts best.";
        section("Weights over time", text, &figures)
    }

    pub(super) fn paper(&self) -> String {
        let (Some(majority), Some(leader)) =
            (self.course_of(Name::WeightedMajority), self.course_of(Name::Fpl))
        else {
            return String::new();
        };
        let mut lines = vec![majority.errors(Stroke::Thin(1)), leader.errors(Stroke::Thin(2))];
        if !matches!(self.own.spec.name, Name::WeightedMajority | Name::Fpl) {
            lines.push(self.own.errors(Stroke::Strong(0)));
        }
        lines.extend(self.baseline_errors());
        let compared = Lines {
            title: "Error compared".to_owned(),
            x: "rounds",
            y: "error so far",
            lines: self.without_start(lines),
            percent: true,
            ..Lines::default()
        };
        let figures = [
            ("Weighted Majority, η = .5", majority.stacked("Weights of Weighted Majority")),
            (
                "Follow the Perturbed Leader, η = .26",
                leader.stacked("Weights of Follow the Perturbed Leader"),
            ),
            ("Error compared", compared.svg().fragment()),
        ];
        let figures = figures.map(|(title, chart)| format!("<h3>{title}</h3>{chart}"));
        let text = "The three figures of the AEGIS paper (arXiv 2404.05993), for this stream.";
        section("The paper's pictures", text, &figures)
    }
}
