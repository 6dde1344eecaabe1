//! The tables of docs/panel-quality.md, and the same figures as JSON.

use serde_json::{Map, Value, json};

use super::EvaluateError;
use super::judge::JudgedSet;
use super::measures::Measures;

/// The least number of unsafe texts for which a category has a row.
const MIN_TEXTS: usize = 15;

/// Returns a number such as `.87`, or a dash for NaN.
fn number(x: f64) -> String {
    if x.is_nan() { "–".to_owned() } else { format!("{x:.2}").replacen("0.", ".", 1) }
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn head(cells: &[String]) -> String {
    line(cells) + "|" + &" --- |".repeat(cells.len()) + "\n"
}

fn heading(first: &[&str], judges: &[&str], experts: usize) -> Vec<String> {
    let judge = |(at, id): (usize, &&str)| if at < experts { format!("`{id}`") } else { (*id).to_owned() };
    let first = first.iter().map(|cell| (*cell).to_owned());
    first.chain(judges.iter().enumerate().map(judge)).collect()
}

/// Returns a table of one measure of every judge on every set. The best of a row is bold.
pub(super) fn sets(
    judged: &[JudgedSet<'_>],
    judges: &[&str],
    experts: usize,
    figure: fn(&Measures) -> f64,
    least_is_best: bool,
) -> String {
    let mut out = head(&heading(&["set"], judges, experts));
    for one in judged {
        let figures: Vec<f64> =
            (0..judges.len()).map(|judge| figure(&one.measures(judge, |_| true))).collect();
        let best = figures.iter().copied().reduce(if least_is_best { f64::min } else { f64::max });
        let cell = |x: &f64| {
            let shown = number(*x);
            if best.is_some_and(|best| shown == number(best)) && !x.is_nan() {
                format!("**{shown}**")
            } else {
                shown
            }
        };
        let name = [one.set.name.to_owned()];
        out += &line(&name.into_iter().chain(figures.iter().map(cell)).collect::<Vec<_>>());
    }
    out
}

/// Returns the table that describes the sets.
pub(super) fn about(judged: &[JudgedSet<'_>]) -> String {
    let cells = ["set", "kind", "what", "measured", "held out", "unsafe"].map(str::to_owned);
    let mut out = head(&cells);
    for JudgedSet { set, .. } in judged {
        let harmful = set.texts.iter().filter(|text| text.is_unsafe).count();
        let share = format!("{:.0} %", 100.0 * harmful as f64 / set.texts.len() as f64);
        let counts = [set.texts.len().to_string(), set.available.to_string(), share];
        let cells = [set.name, set.kind, set.about].map(str::to_owned);
        out += &line(&cells.into_iter().chain(counts).collect::<Vec<_>>());
    }
    out
}

/// Returns the categories of a set that have enough unsafe texts, with the number of these.
fn groups<'a>(one: &'a JudgedSet<'_>) -> Vec<(&'a str, usize)> {
    let harmful = one.set.texts.iter().filter(|text| text.is_unsafe);
    let mut groups: Vec<&str> = harmful.flat_map(|text| text.groups.iter().map(String::as_str)).collect();
    groups.sort_unstable();
    let counted = groups.chunk_by(|a, b| a == b).filter(|texts| texts.len() >= MIN_TEXTS);
    counted.filter_map(|texts| Some((*texts.first()?, texts.len()))).collect()
}

/// Returns a judge's measures of a category: its unsafe texts against all safe texts of the set.
fn of_group(one: &JudgedSet<'_>, judge: usize, name: &str) -> Measures {
    one.measures(judge, |text| !text.is_unsafe || text.groups.iter().any(|group| group == name))
}

/// Returns the table of the categories of each set.
pub(super) fn categories(judged: &[JudgedSet<'_>], judges: &[&str], experts: usize) -> String {
    let figures =
        |whose: &str| [format!("{whose}AUC"), "recall at 1 %".into(), "at 5 %".into(), "Brier".into()];
    let first = ["set", "category", "unsafe", "best expert"].map(str::to_owned);
    let together = judges.iter().skip(experts).flat_map(|judge| figures(&format!("{judge}: ")));
    let mut out = head(&first.into_iter().chain(figures("")).chain(together).collect::<Vec<_>>());
    for one in judged {
        for (name, texts) in groups(one) {
            let all: Vec<Measures> = (0..judges.len()).map(|judge| of_group(one, judge, name)).collect();
            let best = all.iter().zip(judges).take(experts).max_by(|a, b| a.0.auc.total_cmp(&b.0.auc));
            let Some((best, expert)) = best.filter(|best| !best.0.auc.is_nan()) else { continue };
            let mut cells = vec![
                one.set.name.to_owned(),
                name.replace('_', " "),
                texts.to_string(),
                format!("`{expert}`"),
            ];
            for m in [best].into_iter().chain(all.iter().skip(experts)) {
                cells.extend([m.auc, m.recall_1, m.recall_5, m.brier].map(number));
            }
            out += &line(&cells);
        }
    }
    out
}

/// Returns all measures of every judge, rounded to four digits, by set and by category.
pub(super) fn json(judged: &[JudgedSet<'_>], judges: &[&str], around: Value) -> Value {
    let rounded = |x: f64| json!((x * 1e4).round() / 1e4);
    let figures = |measures: &dyn Fn(usize) -> Measures| -> Map<String, Value> {
        let judge = |(at, id): (usize, &&str)| {
            let m = measures(at);
            let figures = json!({ "recall_1": rounded(m.recall_1), "recall_5": rounded(m.recall_5),
                "auc": rounded(m.auc), "brier": rounded(m.brier) });
            ((*id).to_owned(), figures)
        };
        judges.iter().enumerate().map(judge).collect()
    };
    let of = |one: &JudgedSet<'_>| {
        let category = |(name, texts): (&str, usize)| {
            let judges = figures(&|judge| of_group(one, judge, name));
            (name.to_owned(), json!({ "unsafe": texts, "judges": judges }))
        };
        let categories: Map<String, Value> = groups(one).into_iter().map(category).collect();
        let harmful = one.set.texts.iter().filter(|text| text.is_unsafe).count();
        let judges = figures(&|judge| one.measures(judge, |_| true));
        let set = json!({ "texts": one.set.texts.len(), "unsafe": harmful, "judges": judges,
            "categories": categories });
        (one.set.name.to_owned(), set)
    };
    let sets: Map<String, Value> = judged.iter().map(of).collect();
    json!({ "around": around, "sets": sets })
}

/// Replaces the table between its markers.
///
/// # Errors
/// Returns an error if the page does not have the markers.
pub(super) fn fill(page: &str, name: &str, table: &str) -> Result<String, EvaluateError> {
    let begin = format!("<!-- measured: {name} -->\n");
    let missing = || EvaluateError::Data(format!("the page has no place for {name}: {begin}<!-- end -->"));
    let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once("<!-- end -->").ok_or_else(missing)?;
    Ok(format!("{before}{begin}{table}<!-- end -->{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.874), ".87");
        assert_eq!(number(1.0), "1.00");
        assert_eq!(number(f64::NAN), "–");
    }

    #[test]
    fn a_table_takes_its_own_place_only() {
        let page = "a\n<!-- measured: x -->\nold\n<!-- end -->\n<!-- measured: y -->\nold\n<!-- end -->\n";
        let filled = fill(page, "y", "new\n").unwrap();
        assert_eq!(filled, page.replacen("y -->\nold", "y -->\nnew", 1));
        assert!(fill(page, "z", "new\n").is_err());
    }
}
