//! The report of an evaluation: tables as text, all figures as JSON, and a page with curves.

mod html;
mod json;

use std::path::PathBuf;

use super::EvaluateError;
use super::figures::{Figures, Group, MIN_LABELS};
use super::layout::Dimension;
use super::measures::Measures;
use super::samples::Samples;
use super::table::{Table, number};
use crate::charts::grouped;

/// The report of an evaluation.
pub(super) struct Report<'a> {
    pub(super) files: &'a [PathBuf],
    pub(super) read: &'a Samples,
    pub(super) figures: &'a Figures,
    /// The false positive rate at which recall under attack is compared.
    pub(super) alarms: f64,
    /// The recall that an attack may cost the learner.
    pub(super) limit: Option<f64>,
}

/// Returns a share in percent, with a decimal if it is not a whole number.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if (percent - percent.round()).abs() < 1e-6 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

fn count(number: usize) -> String {
    grouped(number as u64)
}

fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

impl Report<'_> {
    /// The names of the files.
    fn title(&self) -> String {
        let name =
            |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        self.files.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Returns the sentences about the rows and their labels.
    fn about(&self) -> Vec<String> {
        let (read, figures) = (self.read, self.figures);
        let mut lines = vec![format!(
            "{} texts of {}: {} unsafe, {} safe.",
            count(read.samples.len()),
            self.title(),
            count(figures.harmful),
            count(figures.safe)
        )];
        let mut rows = format!("{} rows", grouped(read.rows));
        for (why, number) in &read.skipped {
            rows += &format!(", {} {}", grouped(*number), why.word());
        }
        rows += &format!(", {} that cannot be used", grouped(read.bad));
        if read.left_out > 0 {
            rows += &format!("; {} texts left out by --texts", grouped(read.left_out));
        }
        lines.push(format!("{rows}."));
        if (figures.safe as f64) < 100.0 {
            let safe = count(figures.safe);
            lines.push(format!("With {safe} safe texts, recall at 1 % allows no false positive."));
        }
        lines
    }

    /// Returns all tables.
    fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.judges()];
        tables.extend(Dimension::ALL.into_iter().filter_map(|dimension| self.groups(dimension)));
        tables.extend(self.attacks());
        tables
    }

    fn judges(&self) -> Table {
        let head = ["judge", "answered", "AUC", "AP", "recall at 1 %", "at 5 %", "Brier"];
        let row = |judge: &super::figures::Judge| {
            let Measures { recall_1, recall_5, auc, ap, brier } = judge.measures;
            let figures = [auc, ap, recall_1, recall_5, brier].map(number);
            [judge.name.clone(), count(judge.answered)].into_iter().chain(figures).collect()
        };
        let rows = self.figures.judges.iter().map(row).collect();
        Table { title: "judges".to_owned(), head: strings(head), rows }
    }

    fn groups(&self, dimension: Dimension) -> Option<Table> {
        let groups: Vec<&Group> =
            self.figures.groups.iter().filter(|group| group.dimension == dimension).collect();
        if groups.is_empty() {
            return None;
        }
        let title = match dimension {
            Dimension::Category | Dimension::Kind => {
                format!("by {}: its unsafe texts against all safe texts", dimension.word())
            }
            Dimension::Language | Dimension::Role => format!("by {}", dimension.word()),
        };
        let head = [
            "unsafe",
            "safe",
            "best expert",
            "AUC",
            "majority",
            "before",
            "online",
            "recall at 5 %",
            "right at .5",
        ];
        let head = std::iter::once(dimension.word()).chain(head).map(str::to_owned).collect();
        let rows = groups.into_iter().map(|group| self.group(group)).collect();
        Some(Table { title, head, rows })
    }

    fn group(&self, group: &Group) -> Vec<String> {
        let mut row = vec![group.name.clone(), count(group.harmful), count(group.safe)];
        let right = group.right.last().copied().map(number);
        let Some(measures) = &group.measures else {
            row.push(format!("fewer than {MIN_LABELS} labels"));
            row.extend(strings(["–"; 5]));
            row.extend(right);
            return row;
        };
        let experts = self.figures.judges.iter().zip(measures).take(self.figures.experts);
        let best = experts.filter(|(_, m)| !m.auc.is_nan()).max_by(|a, b| a.1.auc.total_cmp(&b.1.auc));
        row.extend(
            best.map_or_else(|| strings(["–", "–"]), |(judge, m)| vec![judge.name.clone(), number(m.auc)]),
        );
        let together = || measures.iter().skip(self.figures.experts);
        row.extend(together().map(|m| number(m.auc)));
        row.extend(together().next_back().map(|m| number(m.recall_5)));
        row.extend(right);
        row
    }

    fn attacks(&self) -> Option<Table> {
        let attacks = &self.figures.attacks;
        let first = attacks.first()?;
        let title = format!(
            "recall at {} false positives, and the recall that each attack costs ({} unsafe texts)",
            percent(self.alarms),
            count(self.figures.harmful)
        );
        let names = attacks.iter().map(|one| one.attack.word());
        let head = ["judge", "recall"].into_iter().chain(names).map(str::to_owned).collect();
        let row = |(at, judge): (usize, &super::figures::Judge)| {
            let clean = first.recall.get(at).map(|recall| number(recall.clean));
            let losses =
                attacks.iter().filter_map(|one| one.recall.get(at)).map(|recall| number(recall.loss()));
            std::iter::once(judge.name.clone()).chain(clean).chain(losses).collect()
        };
        Some(Table { title, head, rows: self.figures.judges.iter().enumerate().map(row).collect() })
    }

    /// Returns the report as text.
    pub(super) fn text(&self) -> String {
        let mut text = self.about().join("\n");
        text.push('\n');
        for table in self.tables() {
            text.push('\n');
            text.push_str(&table.text());
        }
        text
    }

    /// Checks that no attack costs the learner more recall than is allowed.
    ///
    /// # Errors
    /// Returns [`EvaluateError::Gate`] with the attacks that do.
    pub(super) fn gate(&self) -> Result<(), EvaluateError> {
        let Some(limit) = self.limit else { return Ok(()) };
        let failed: Vec<String> = self
            .losses()
            // A loss that is not known does not pass.
            .filter(|(_, loss)| loss.is_nan() || *loss > limit)
            .map(|(attack, loss)| format!("{attack} {}", number(loss)))
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(EvaluateError::Gate(format!(
            "attacks cost the learner more recall than --max-recall-loss {limit}: {}",
            failed.join(", ")
        )))
    }

    /// Returns the recall that each attack costs the learner.
    fn losses(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let learner = self.figures.learner();
        let loss = move |one: &super::figures::AttackFigures| {
            (one.attack.word(), one.recall.get(learner).map_or(f64::NAN, |recall| recall.loss()))
        };
        self.figures.attacks.iter().map(loss)
    }
}
