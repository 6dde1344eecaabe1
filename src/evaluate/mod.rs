//! `aegis evaluate`: every expert, plain majority and the default learner on held-out labelled text.
//!
//! [`sets`] reads the texts, [`ask`] asks the panel about them once, [`judge`] lets the learner go through them,
//! [`measures`] measures, [`page`] and [`chart`] show it; [`streams`] writes what was judged for `aegis replay`.

mod ask;
mod chart;
mod judge;
mod measures;
mod page;
mod sets;
mod streams;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use thiserror::Error;

use self::chart::{Chart, Row};
use self::judge::{Judged, TOGETHER};
use self::sets::{Sets, Text};
use crate::experts::{Panel, PanelConfig};
use crate::ops::stdout::outln;

/// Two experts that agree more than this are one.
const ALIKE: f64 = 0.95;

/// Measures every expert, plain majority and the default learner on held-out labelled text.
#[derive(Debug, Clone, Args)]
pub struct EvaluateArgs {
    /// The folder of experts, with the demo's texts; `make setup` fills it
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// The folder of the public labelled sets, for Aegis's own developers; read in place
    #[arg(long, value_name = "DIR", env = "AEGIS_SHARED_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Texts of each set at most, chosen by their hash; of each source half as many teach the learner
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    texts: u32,
    /// Where votes are kept, so that a second run asks nothing
    #[arg(long, value_name = "DIR", default_value = ".cache")]
    cache: PathBuf,
    /// Writes the tables into DIR/experts.md, the figures to DIR/evaluate.json and the charts beside them
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Writes each set as a label stream for `aegis replay` into DIR: votes, features and verdicts, no text
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
}

/// Why an evaluation failed.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// A file or an expert is not there, or cannot be written.
    #[error("{0}")]
    Unavailable(String),
    /// Data is not as it must be.
    #[error("{0}")]
    Data(String),
}

/// Evaluates, prints the tables, and writes what is asked for.
///
/// # Errors
/// Where experts or texts are missing, a file cannot be written, or two experts are too much alike.
pub fn run(args: &EvaluateArgs) -> Result<(), EvaluateError> {
    let sets = sets::read(&args.models, Some(&args.data), args.texts as usize)?;
    let panel = Panel::open(PanelConfig { require_all: true, cache: 0, ..PanelConfig::new(&args.models) })
        .map_err(|error| EvaluateError::Unavailable(format!("{error} (`make setup` brings the experts)")))?;
    let texts = sets.held_out.iter().flat_map(|set| &set.texts).chain(&sets.teaching);
    let answers = ask::ask(&panel, texts, &args.cache)?;
    let experts: Vec<&str> = panel.experts().iter().map(|expert| expert.id.as_str()).collect();
    if let Some(folder) = &args.streams {
        streams::write(folder, &sets.held_out, &experts, panel.encoder().as_ref(), &answers)?;
    }
    let judged = judge::judge(&experts, &sets.held_out, &sets.teaching, &answers)?;
    let judges: Vec<&str> = experts.iter().copied().chain(TOGETHER).collect();
    let n = experts.len();
    let (a, b, alike) = most_alike(&experts, &judged);
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
            format!("The two most alike are `{a}` and `{b}`: {alike:.2}, of at most {ALIKE}.\n"),
        ),
    ];
    for (name, table) in &tables {
        outln!("{name}\n\n{table}");
    }
    if alike > ALIKE {
        return Err(EvaluateError::Data(format!(
            "{a} and {b} are too much alike: {alike:.3}, of at most {ALIKE}"
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
    let path = folder.join("experts.md");
    let mut text = std::fs::read_to_string(&path).map_err(|error| unavailable(&path, &error))?;
    for (name, table) in &tables {
        text = page::fill(&text, name, table)?;
    }
    write(&path, &text)?;
    let around = json!({ "texts": args.texts, "taught": taught, "most_alike": [a, b], "correlation": (alike * 1e4).round() / 1e4 });
    let figures = format!("{:#}\n", page::json(&judged, &judges, around));
    write(&folder.join("evaluate.json"), &figures)?;
    for (name, title, rows) in charts(&judged, n) {
        let shown: Vec<&str> = judges.iter().copied().take(n + 2).collect();
        let chart = Chart { title, judges: &shown, rows };
        write(&folder.join(name), &chart.svg())?;
    }
    Ok(())
}

fn unavailable(path: &Path, error: &std::io::Error) -> EvaluateError {
    EvaluateError::Unavailable(format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), EvaluateError> {
    std::fs::write(path, text).map_err(|error| unavailable(path, &error))
}

/// What the learner has been taught with, in words.
fn taught(sets: &Sets) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    sets.teaching.iter().for_each(|text| *counts.entry(text.source).or_default() += 1);
    counts.iter().fold(format!("{} texts", sets.teaching.len()), |mut text, (source, count)| {
        let _ = write!(text, "{} {source} {count}", if text.ends_with("texts") { ":" } else { "," });
        text
    })
}

/// The two experts that agree most over all held-out texts, each text once, and their correlation.
fn most_alike<'a>(experts: &[&'a str], judged: &[Judged<'_>]) -> (&'a str, &'a str, f64) {
    let repeats = ["offensive", "XSTest", "SimpleSafetyTests"];
    let once = || judged.iter().filter(|one| !repeats.contains(&one.set.name));
    let all = |at: usize| once().filter_map(|one| one.said.get(at)).flatten().copied().collect::<Vec<f64>>();
    let votes: Vec<Vec<f64>> = (0..experts.len()).map(all).collect();
    let mut most = ("", "", f64::NEG_INFINITY);
    for (at, (a, of_a)) in experts.iter().zip(&votes).enumerate() {
        for (b, of_b) in experts.iter().zip(&votes).skip(at + 1) {
            let alike = measures::correlation(of_a, of_b);
            if alike > most.2 {
                most = (a, b, alike);
            }
        }
    }
    most
}

/// A row of a chart, over the texts of a set that are kept; none where it would be empty.
fn row(
    judged: &[Judged<'_>],
    experts: usize,
    set: &str,
    name: &str,
    keep: impl Fn(&Text) -> bool,
) -> Option<Row> {
    let one = judged.iter().find(|one| one.set.name == set)?;
    let right: Vec<(f64, usize)> = (0..experts + 2).map(|judge| one.accuracy(judge, &keep)).collect();
    let texts = right.first()?.1;
    let right = right.into_iter().map(|(share, _)| share).collect();
    (texts > 0).then(|| Row { name: name.to_owned(), texts, right })
}

/// A row for each category of a set's unsafe texts.
fn harms(judged: &[Judged<'_>], experts: usize, set: &str) -> Vec<Row> {
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

/// The AEGIS paper's pictures, for our panel: file, title, rows. The learner is the one that has not seen the set.
fn charts(judged: &[Judged<'_>], experts: usize) -> [(&'static str, &'static str, Vec<Row>); 3] {
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
