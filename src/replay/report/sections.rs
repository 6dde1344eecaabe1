//! The page's sections about one policy, each with the sentence that its figure proves.

use std::fmt::Write as _;

use super::gather::{Course, Grounds, best_sequence, course, grounds};
use super::svg::{Line, Lines, Stacked, Stroke, escape, grouped, reliability};
use crate::core::book::Book;
use crate::core::fold::{Fold, FoldError};
use crate::core::learners::{LearnerSpec, Name};

/// Shifts looked for.
const SHIFTS: usize = 3;
/// Layers of weight that have a colour of their own.
const COLOURS: usize = 8;

/// Everything that is drawn.
struct Scene<'a> {
    fold: &'a Fold,
    grounds: Grounds,
    /// The fold's own learner first.
    courses: Vec<Course>,
}

/// The sections of one policy; `None` where no round counts.
pub(super) fn policy(book: &Book, fold: &Fold, named: bool) -> Result<Option<String>, FoldError> {
    let mut courses = Vec::new();
    let mut specs = vec![fold.settings().learner.clone()];
    let others = [Name::Default, Name::Stacking, Name::FixedShareGrid, Name::Hedge, Name::FixedShare];
    specs.extend(others.into_iter().map(LearnerSpec::new));
    specs.push(LearnerSpec { eta: Some(0.5), ..LearnerSpec::new(Name::WeightedMajority) });
    specs.push(LearnerSpec { eta: Some(0.26), ..LearnerSpec::new(Name::Fpl) });
    for spec in specs {
        if courses.iter().any(|known: &Course| known.spec.canonical() == spec.canonical()) {
            continue;
        }
        courses.extend(course(fold, book, &spec)?);
    }
    if courses.is_empty() {
        return Ok(None);
    }
    let scene = Scene { fold, grounds: grounds(fold, book)?, courses };
    let mut out = String::new();
    if named {
        let _ = write!(out, "<h1 style=\"margin-top:48px\">Policy {}</h1>", escape(&fold.settings().policy));
    }
    scene.head(&mut out);
    scene.error(&mut out);
    scene.recovery(&mut out);
    scene.weights(&mut out);
    scene.regret(&mut out);
    scene.reliability(&mut out);
    scene.paper(&mut out);
    scene.table(&mut out);
    Ok(Some(out))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn section(out: &mut String, title: &str, text: &str, figures: &[String]) {
    let _ = write!(out, "<section><h2>{title}</h2><p class=\"under\">{text}</p>");
    for figure in figures {
        let _ = write!(out, "<div class=\"scroll\">{figure}</div>");
    }
    out.push_str("</section>\n");
}

/// More or fewer, in words.
fn against(mistakes: u64, other: u64) -> String {
    match mistakes.cmp(&other) {
        std::cmp::Ordering::Less => format!("{} fewer than", grouped(other - mistakes)),
        std::cmp::Ordering::Equal => "as many as".to_owned(),
        std::cmp::Ordering::Greater => format!("{} more than", grouped(mistakes - other)),
    }
}

impl Scene<'_> {
    fn own(&self) -> Option<&Course> {
        self.courses.first()
    }

    fn of(&self, name: Name) -> Option<&Course> {
        self.courses.iter().find(|course| course.spec.name == name)
    }

    /// Every expert's mistakes alone, at the end.
    fn alone(&self) -> Vec<u64> {
        self.grounds.alone.iter().filter_map(|course| course.last()).copied().collect()
    }

    fn best(&self) -> Option<(&str, u64)> {
        let alone = self.alone();
        let (at, mistakes) = alone.iter().enumerate().min_by_key(|(_, mistakes)| **mistakes)?;
        Some((self.fold.experts().get(at)?, *mistakes))
    }

    fn majority(&self) -> u64 {
        self.grounds.majority.last().copied().unwrap_or(0)
    }

    fn head(&self, out: &mut String) {
        let (Some(own), Some((best, alone))) = (self.own(), self.best()) else { return };
        let tally = &own.tally;
        let rounds = self.grounds.rounds;
        let _ = write!(
            out,
            "<p class=\"under\">{} labelled rounds, {} experts, learner <b>{}</b>. It made {} mistakes, {} its best expert ({}) and {} plain majority.</p>",
            grouped(rounds),
            self.fold.experts().len(),
            escape(&own.spec.to_string()),
            grouped(tally.mistakes),
            against(tally.mistakes, alone),
            escape(best),
            against(tally.mistakes, self.majority()),
        );
        let share = |mistakes: u64| percent(mistakes as f64 / rounds.max(1) as f64);
        let tile = |number: String, what: &str| {
            format!("<div class=\"tile\"><b>{number}</b><span>{what}</span></div>")
        };
        let tiles = [
            tile(share(tally.mistakes), "error of the learner"),
            tile(share(alone), &format!("error of {}", escape(best))),
            tile(share(self.majority()), "error of plain majority"),
            tile(format!("{:.4}", tally.brier()), "Brier score"),
            tile(format!("{:.3}", tally.calibration_error()), "calibration error"),
        ];
        let _ = write!(out, "<div class=\"tiles\">{}</div>", tiles.concat());
    }

    fn lines(&self, courses: &[&Course], values: impl Fn(&Course) -> Vec<f64>) -> Vec<Line> {
        let line = |(at, course): (usize, &&Course)| Line {
            name: course.spec.name.to_string(),
            stroke: if at == 0 { Stroke::Strong(0) } else { Stroke::Thin(at) },
            points: course.places.iter().map(|place| *place as f64).zip(values(course)).collect(),
        };
        courses.iter().enumerate().map(line).collect()
    }

    /// Courses of experts and plain majority, as shares of the rounds so far.
    fn experts(&self) -> Vec<Line> {
        let Some(own) = self.own() else { return Vec::new() };
        let share = |course: &[u64]| -> Vec<(f64, f64)> {
            let shares =
                own.places.iter().zip(course).map(|(place, n)| (*place as f64, *n as f64 / *place as f64));
            shares.collect()
        };
        let names = self.fold.experts().iter().zip(&self.grounds.alone);
        let mut lines: Vec<Line> = names
            .map(|(name, course)| Line { name: name.clone(), stroke: Stroke::Quiet, points: share(course) })
            .collect();
        let majority = share(&self.grounds.majority);
        lines.push(Line { name: "plain majority".to_owned(), stroke: Stroke::Dashed, points: majority });
        lines
    }

    fn error(&self, out: &mut String) {
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

    fn recovery(&self, out: &mut String) {
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

    fn weights(&self, out: &mut String) {
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

    fn regret(&self, out: &mut String) {
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

    fn reliability(&self, out: &mut String) {
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

    fn paper(&self, out: &mut String) {
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

    fn table(&self, out: &mut String) {
        let rounds = self.grounds.rounds.max(1) as f64;
        let mut rows = String::new();
        for (at, course) in self.courses.iter().enumerate() {
            let tally = &course.tally;
            let (regret, bound) = course.regret.last().copied().unwrap_or((0.0, None));
            let _ = write!(
                rows,
                "<tr{}><td>{}</td><td>{}</td><td>{}</td><td>{:.4}</td><td>{:.3}</td><td>{regret:.2}</td><td>{}</td><td>{}</td></tr>",
                if at == 0 { " class=\"own\"" } else { "" },
                escape(&course.spec.to_string()),
                grouped(tally.mistakes),
                percent(tally.mistakes as f64 / rounds),
                tally.brier(),
                tally.calibration_error(),
                bound.map_or("–".to_owned(), |bound| format!("{bound:.2}")),
                course.loss,
            );
        }
        let mut row = |name: &str, mistakes: u64| {
            let share = percent(mistakes as f64 / rounds);
            let _ = write!(
                rows,
                "<tr><td>{name}</td><td>{}</td><td>{share}</td><td></td><td></td><td></td><td></td><td></td></tr>",
                grouped(mistakes)
            );
        };
        row("plain majority", self.majority());
        let mut experts: Vec<(u64, &String)> = self.alone().into_iter().zip(self.fold.experts()).collect();
        experts.sort();
        for (mistakes, name) in experts {
            row(&escape(name), mistakes);
        }
        let _ = write!(
            out,
            "<section><h2>In numbers</h2><div class=\"scroll\"><table><thead><tr><th>learner or expert</th><th>mistakes</th><th>error</th><th>Brier</th><th>calibration</th><th>regret</th><th>proven</th><th>in</th></tr></thead><tbody>{rows}</tbody></table></div></section>",
        );
    }
}
