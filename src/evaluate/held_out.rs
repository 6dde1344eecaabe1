//! Aegis's own held-out sets: every expert, plain majority and the default learner, for docs/panel-quality.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::curves::Curves;
use super::judge::{self, COMBINED, JudgedSet};
use super::sets::{self, Sets, Text};
use super::{EvaluateArgs, EvaluateError, ask, measures, page, streams, unavailable, write};
use crate::charts::{Accuracy, AccuracyRow, Lines};
use crate::experts::Panel;
use crate::ops::stdout::outln;

/// The greatest correlation of two experts.
const MAX_CORRELATION: f64 = 0.95;

/// Evaluates, prints the tables, and writes the files that the flags name.
///
/// # Errors
/// Returns an error if experts or texts are missing, a file cannot be written, or two experts are too similar.
pub(super) fn run(args: &EvaluateArgs, panel: &Panel, texts: usize) -> Result<(), EvaluateError> {
    let sets = sets::read(&args.models, Some(&args.data), texts)?;
    let all = sets.held_out.iter().flat_map(|set| &set.texts).chain(&sets.teaching);
    let answers = ask::ask(panel, all.map(|text| (&text.text).into()), &args.cache)?;
    let experts: Vec<&str> = panel.experts().iter().map(|expert| expert.id.as_str()).collect();
    if let Some(folder) = &args.streams {
        streams::write(folder, &sets.held_out, &experts, panel.encoder().as_ref(), &answers)?;
    }
    let judged = judge::judge(&experts, &sets.held_out, &sets.teaching, &answers)?;
    let judges: Vec<&str> = experts.iter().copied().chain(COMBINED).collect();
    let n = experts.len();
    let alike = most_alike(&experts, &judged);
    let taught = taught(&sets);
    let tables = [
        ("together-sets", page::about(&judged)),
        ("together-auc", page::sets(&judged, &judges, n, |m| m.auc, false)),
        ("together-recall-1", page::sets(&judged, &judges, n, |m| m.recall_1, false)),
        ("together-recall-5", page::sets(&judged, &judges, n, |m| m.recall_5, false)),
        ("together-brier", page::sets(&judged, &judges, n, |m| m.brier, true)),
        ("together-categories", page::categories(&judged, &judges, n)),
        ("together-taught", format!("{taught}.\n")),
        (
            "together-alike",
            alike.as_ref().map_or_else(|| "No two experts can be compared.\n".into(), Alike::sentence),
        ),
    ];
    for (name, table) in &tables {
        outln!("{name}\n\n{table}");
    }
    if let Some(Alike { experts: [a, b], correlation }) = &alike
        && *correlation > MAX_CORRELATION
    {
        return Err(EvaluateError::Data(format!(
            "{a} and {b} are too much alike: {correlation:.3}, of at most {MAX_CORRELATION}"
        )));
    }
    let Some(folder) = &args.write else { return Ok(()) };
    if !sets.shared {
        outln!(
            "Nothing is written: the page's figures need the public sets, which are not in {}.",
            args.data.display()
        );
        return Ok(());
    }
    let path = folder.join("panel-quality.md");
    let mut text = std::fs::read_to_string(&path).map_err(|error| unavailable(&path, &error))?;
    for (name, table) in &tables {
        text = page::fill(&text, name, table)?;
    }
    write(&path, &text)?;
    let correlation = alike.as_ref().map(|pair| (pair.correlation * 1e4).round() / 1e4);
    let pair = alike.as_ref().map(|pair| pair.experts);
    let around = json!({ "texts": texts, "taught": taught, "most_alike": pair, "correlation": correlation });
    let figures = format!("{:#}\n", page::json(&judged, &judges, around));
    write(&folder.join("evaluate.json"), &figures)?;
    for (name, title, rows) in charts(&judged, n) {
        let chart = Accuracy { title, experts: &experts, rows };
        write(&folder.join(name), &chart.svg().file())?;
    }
    for (name, chart) in curves(&judged, &judges, n) {
        write(&folder.join(name), &chart.svg().file())?;
    }
    Ok(())
}

/// Returns the curves of all judges on the OpenAI moderation set: file and chart.
fn curves(judged: &[JudgedSet<'_>], judges: &[&str], experts: usize) -> Vec<(&'static str, Lines)> {
    let Some(one) = judged.iter().find(|one| one.set.name == "moderation") else { return Vec::new() };
    let judge = |(at, name): (usize, &&str)| ((*name).to_owned(), one.scored(at, |_| true));
    let curves = Curves { experts, judges: judges.iter().enumerate().map(judge).collect() };
    vec![
        (
            "panel-moderation-recall.svg",
            curves.recall("OpenAI moderation set: recall by false positive rate"),
        ),
        ("panel-moderation-precision.svg", curves.precision("OpenAI moderation set: precision by recall")),
    ]
}

/// Returns the number of training texts by source, as text.
fn taught(sets: &Sets) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    sets.teaching.iter().for_each(|text| *counts.entry(text.source).or_default() += 1);
    counts.iter().fold(format!("{} texts", sets.teaching.len()), |mut text, (source, count)| {
        let _ = write!(text, "{} {source} {count}", if text.ends_with("texts") { ":" } else { "," });
        text
    })
}

/// The two experts whose votes are the most similar.
struct Alike<'a> {
    experts: [&'a str; 2],
    /// The correlation of their votes.
    correlation: f64,
}

impl Alike<'_> {
    fn sentence(&self) -> String {
        let Self { experts: [a, b], correlation } = self;
        format!("The two most alike are `{a}` and `{b}`: {correlation:.2}, of at most {MAX_CORRELATION}.\n")
    }
}

/// Returns the two experts with the greatest correlation over all held-out texts. Each text counts once. `None` if no
/// two can be compared, e.g. because there is only one.
fn most_alike<'a>(experts: &[&'a str], judged: &[JudgedSet<'_>]) -> Option<Alike<'a>> {
    let repeats = ["offensive", "XSTest", "SimpleSafetyTests"];
    let once = || judged.iter().filter(|one| !repeats.contains(&one.set.name));
    let all =
        |at: usize| once().filter_map(|one| one.scores.get(at)).flatten().copied().collect::<Vec<f64>>();
    let votes: Vec<(&'a str, Vec<f64>)> =
        experts.iter().enumerate().map(|(at, expert)| (*expert, all(at))).collect();
    let pairs = votes.iter().enumerate().flat_map(|(at, (a, of_a))| {
        let compare = move |(b, of_b): &(&'a str, Vec<f64>)| Alike {
            experts: [*a, *b],
            correlation: measures::correlation(of_a, of_b),
        };
        votes.iter().skip(at + 1).map(compare)
    });
    // Constant votes have no correlation.
    let correlated = pairs.filter(|pair| pair.correlation.is_finite());
    correlated.reduce(|most, pair| if pair.correlation > most.correlation { pair } else { most })
}

/// Returns a row of a chart over the texts of a set for which `keep` returns `true`. `None` if there are none.
fn row(
    judged: &[JudgedSet<'_>],
    experts: usize,
    set: &str,
    name: &str,
    keep: impl Fn(&Text) -> bool,
) -> Option<AccuracyRow> {
    let one = judged.iter().find(|one| one.set.name == set)?;
    let right: Vec<(f64, usize)> = (0..experts + 2).map(|judge| one.accuracy(judge, &keep)).collect();
    let texts = right.first()?.1;
    let right = right.into_iter().map(|(share, _)| share).collect();
    (texts > 0).then(|| AccuracyRow { name: name.to_owned(), texts, right })
}

/// Returns a row for each category of a set's unsafe texts.
fn harms(judged: &[JudgedSet<'_>], experts: usize, set: &str) -> Vec<AccuracyRow> {
    let texts = judged.iter().filter(|one| one.set.name == set).flat_map(|one| &one.set.texts);
    let mut groups: Vec<&String> =
        texts.filter(|text| text.is_unsafe).flat_map(|text| &text.groups).collect();
    groups.sort_unstable();
    groups.dedup();
    let of = |group: &&String| {
        let name = group.replace('_', " ");
        row(judged, experts, set, &name, |text| text.is_unsafe && text.groups.contains(group))
    };
    groups.iter().filter_map(of).collect()
}

/// Returns the charts of the AEGIS paper for this panel: file, title and rows. The learner has not seen the set.
fn charts(judged: &[JudgedSet<'_>], experts: usize) -> [(&'static str, &'static str, Vec<AccuracyRow>); 3] {
    let one = |set, name, keep: fn(&Text) -> bool| row(judged, experts, set, name, keep);
    let is = |group: &'static str| move |text: &Text| text.groups.iter().any(|g| g == group);
    let of = |set, name, group| row(judged, experts, set, name, is(group));
    let mut moderation = harms(judged, experts, "moderation");
    moderation.extend(one("moderation", "harmless", |text| !text.is_unsafe));
    let attacks = [
        one("injection", "prompt injection", |text| text.is_unsafe),
        of("jailbreaks", "jailbreaks in the wild", "inthewild"),
        of("jailbreaks", "HarmBench", "harmbench"),
        of("jailbreaks", "Do-Not-Answer", "donotanswer"),
        one("XSTest", "XSTest, harmful", |text| text.is_unsafe),
        one("HateCheck", "HateCheck, hateful", |text| text.is_unsafe),
        one("XSTest", "XSTest, harmless look-alikes", |text| !text.is_unsafe),
        one("HateCheck", "HateCheck, harmless", |text| !text.is_unsafe),
        one("injection", "harmless prompts", |text| !text.is_unsafe),
    ];
    [
        ("panel-moderation.svg", "Right about the OpenAI moderation set, by harm", moderation),
        (
            "panel-simple-safety.svg",
            "Right about SimpleSafetyTests, by harm",
            harms(judged, experts, "SimpleSafetyTests"),
        ),
        (
            "panel-attacks.svg",
            "Right about attacks, and about what looks like them",
            attacks.into_iter().flatten().collect(),
        ),
    ]
}
