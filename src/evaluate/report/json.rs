//! The figures as JSON.

use serde_json::{Map, Value, json};

use super::Report;
use crate::evaluate::figures::Group;
use crate::evaluate::layout::Dimension;
use crate::evaluate::measures::Measures;

/// Returns a number with four digits after the point; null for NaN.
fn rounded(x: f64) -> Value {
    json!((x * 1e4).round() / 1e4)
}

fn measures(m: &Measures) -> Value {
    json!({
        "auc": rounded(m.auc),
        "ap": rounded(m.ap),
        "recall_1": rounded(m.recall_1),
        "recall_5": rounded(m.recall_5),
        "brier": rounded(m.brier),
    })
}

impl Report<'_> {
    /// Returns all figures.
    pub(in crate::evaluate) fn json(&self) -> Value {
        let (read, figures) = (self.read, self.figures);
        let skipped: Map<String, Value> =
            read.skipped.iter().map(|(why, count)| (why.word().to_owned(), (*count).into())).collect();
        let judges = figures.judges.iter().map(|judge| {
            let mut all = measures(&judge.measures);
            if let Value::Object(all) = &mut all {
                all.insert("answered".into(), judge.answered.into());
            }
            (judge.name.clone(), all)
        });
        let groups: Map<String, Value> = Dimension::ALL
            .into_iter()
            .map(|dimension| (dimension.word().to_owned(), self.groups_json(dimension)))
            .collect();
        let attacks: Map<String, Value> = figures
            .attacks
            .iter()
            .map(|one| {
                let judge = |(judge, recall): (&crate::evaluate::figures::Judge, &crate::evaluate::figures::Recall)| {
                    let figures = json!({ "recall": rounded(recall.clean), "attacked": rounded(recall.attacked),
                        "loss": rounded(recall.loss()) });
                    (judge.name.clone(), figures)
                };
                let judges: Map<String, Value> = figures.judges.iter().zip(&one.recall).map(judge).collect();
                (one.attack.word().to_owned(), judges.into())
            })
            .collect();
        json!({
            "files": self.files,
            "rows": { "read": read.rows, "bad": read.bad, "first_bad": read.named, "skipped": skipped,
                "left_out": read.left_out },
            "texts": read.samples.len(),
            "unsafe": figures.harmful,
            "safe": figures.safe,
            "judges": judges.collect::<Map<_, _>>(),
            "groups": groups,
            "attacks": { "false_positive_rate": self.alarms, "by_attack": attacks,
                "max_recall_loss": self.limit, "passed": self.gate().is_ok() },
        })
    }

    fn groups_json(&self, dimension: Dimension) -> Value {
        let of = |group: &Group| {
            let names = || self.figures.judges.iter().map(|judge| judge.name.clone());
            let right: Map<String, Value> =
                names().zip(group.right.iter().map(|right| rounded(*right))).collect();
            let judges = group
                .measures
                .as_ref()
                .map(|all| names().zip(all.iter().map(measures)).collect::<Map<_, _>>());
            let figures =
                json!({ "unsafe": group.harmful, "safe": group.safe, "judges": judges, "right": right });
            (group.name.clone(), figures)
        };
        let groups = self.figures.groups.iter().filter(|group| group.dimension == dimension);
        Value::Object(groups.map(of).collect())
    }
}
