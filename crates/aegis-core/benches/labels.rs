//! The mistakes of a learner that sees only some labels: the tables of docs/learning.md.
//!
//! ```sh
//! cargo bench -p aegis-core --bench labels -- --strangers --orders 10 $PWD/target/streams/*.jsonl
//! ```
//!
//! Each stream is played in several orders. Three samplings ask for the same share of the labels: a flat draw; the events
//! whose p is nearest to .5, by the margin that gives this share; and both, with a quarter of the share for the flat draw.
//! p is that of the learner with the labels so far. Mistakes are counted on all rounds, and the table has their means.
//! Below it is the geometric mean, over streams, of the mistakes by those with all labels. A second table compares weights:
//! an audited event is learned as often as the inverse of its probability says, up to a cap. A third table compares the
//! flat draw and the margin together with the margin alone, with a standard error over the orders.
//!
//! `--votes` and `--text` play the streams without and with features only, `--orders N` plays N orders, `--learner SPEC`
//! another learner, and `--strangers` leaves out experts that were trained on a stream's source.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;

use aegis_core::draw::Draws;
use aegis_core::features::Features;
use aegis_core::learners::{LearnerSpec, RoundInput};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const SHARES: [f64; 4] = [0.1, 0.05, 0.02, 0.01];
/// The part of the labels that is for the flat draw, if it is combined with the margin.
const AUDIT_PART: f64 = 0.25;
/// The greatest weights of an audited label.
const CAPS: [f64; 4] = [1.0, 3.0, 10.0, f64::INFINITY];
/// The share of labels with which weights are compared.
const WEIGHED_SHARE: f64 = 0.05;
/// The steps of the bisection that finds a margin.
const STEPS: usize = 8;
/// A stream is long from this number of rounds on.
const LONG: usize = 3_000;
/// Stream -> the experts that were trained on its source.
const TRAINED_ON: &str = include_str!("../../../benches/streams/trained_on.json");

struct Round {
    event: String,
    votes: Vec<f64>,
    features: Option<Features>,
    target: f64,
}

struct Stream {
    name: String,
    experts: Vec<String>,
    rounds: Vec<Round>,
}

/// A sampling, and the greatest weight of a label.
#[derive(Clone, Copy)]
struct Sampling {
    audit: f64,
    margin: f64,
    cap: f64,
}

const ALL: Sampling = Sampling { audit: 1.0, margin: 0.0, cap: 1.0 };

/// The number of mistakes and of labels.
#[derive(Clone, Copy)]
struct Played {
    mistakes: u32,
    labels: u32,
}

impl Stream {
    fn read(path: &str, strangers: bool) -> Self {
        let name = Path::new(path).file_stem().expect("a file").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
        // Lines that `aegis replay --write` wrote have the label on a line of its own.
        let labels: std::collections::HashMap<&str, f64> = lines
            .iter()
            .filter(|line| line.get("votes").is_none())
            .filter_map(|line| Some((line["event_id"].as_str()?, target(line)?)))
            .collect();
        let trained: BTreeMap<String, Vec<String>> =
            serde_json::from_str(TRAINED_ON).expect("lists of experts by stream");
        let home = trained.get(&name).filter(|_| strangers).map_or(&[][..], Vec::as_slice);
        let votes = lines.iter().filter_map(|line| line["votes"].as_object());
        let experts: BTreeSet<&String> = votes.flat_map(|votes| votes.keys()).collect();
        let experts: Vec<String> = experts.into_iter().filter(|id| !home.contains(id)).cloned().collect();
        let round = |line: &Value| {
            let votes = line["votes"].as_object()?;
            let event = line["event_id"].as_str()?.to_owned();
            let votes: Vec<f64> =
                experts.iter().map(|id| votes.get(id).and_then(Value::as_f64).unwrap_or(f64::NAN)).collect();
            let target = target(line).or_else(|| labels.get(event.as_str()).copied())?;
            let features = line["features"].as_str().and_then(|text| STANDARD.decode(text).ok());
            let features = features.and_then(|bytes| Some(bytes.first_chunk()?.map(u8::cast_signed)));
            votes.iter().any(|vote| !vote.is_nan()).then_some(Round { event, votes, features, target })
        };
        let rounds = lines.iter().filter_map(round).collect();
        Self { name, experts, rounds }
    }

    /// Sorts the rounds into another order.
    fn shuffle(&mut self, order: u32) {
        let draws = Draws::new(&order.to_le_bytes(), "order");
        self.rounds.sort_by_cached_key(|round| draws.uniform(&round.event, "", "order").to_bits());
    }

    fn has_text(&self) -> bool {
        self.rounds.iter().any(|round| round.features.is_some())
    }

    fn play(&self, learner: &LearnerSpec, text: bool, order: u32, sampling: Sampling) -> Played {
        let experts: Vec<&str> = self.experts.iter().map(String::as_str).collect();
        let mut learner = learner.build(&experts, "labels").expect("a learner");
        let draws = Draws::new(&order.to_le_bytes(), "labels");
        let mut played = Played { mistakes: 0, labels: 0 };
        for round in &self.rounds {
            let features = round.features.as_ref().filter(|_| text);
            let input = RoundInput { votes: &round.votes, features, event: &round.event };
            let p = learner.predict(&input);
            let near = (p - 0.5).abs() < sampling.margin;
            if near || draws.uniform(&round.event, "", "audit") < sampling.audit {
                let weight = if near { 1.0 } else { (1.0 / sampling.audit).min(sampling.cap).round() };
                (0..weight as u32).for_each(|_| {
                    learner.step(&input, round.target);
                });
                played.labels += 1;
            }
            played.mistakes += u32::from((p >= 0.5) != (round.target >= 0.5));
        }
        played
    }

    /// Plays with the margin that gives a share of the labels.
    fn fit(
        &self,
        learner: &LearnerSpec,
        text: bool,
        order: u32,
        (share, sampling): (f64, Sampling),
    ) -> Played {
        let wanted = share * self.rounds.len() as f64;
        let (mut low, mut high) = (0.0, 0.5);
        let mut best: Option<Played> = None;
        for _ in 0..STEPS {
            let margin = (low + high) / 2.0;
            let played = self.play(learner, text, order, Sampling { margin, ..sampling });
            if f64::from(played.labels) > wanted {
                high = margin
            } else {
                low = margin
            }
            let off = |played: Played| (f64::from(played.labels) - wanted).abs();
            if best.is_none_or(|best| off(played) < off(best)) {
                best = Some(played);
            }
        }
        best.expect("at least one step")
    }
}

fn target(line: &Value) -> Option<f64> {
    match (&line["unsafe"], line["verdict"].as_str()) {
        (Value::Bool(harmful), _) => Some(f64::from(u8::from(*harmful))),
        (Value::Number(number), _) => number.as_f64(),
        (_, Some(verdict)) => Some(f64::from(u8::from(verdict != "safe"))),
        _ => None,
    }
}

/// One column of a table: its mistakes by stream, and the logarithms of their ratio to those with all labels, by stream.
#[derive(Default)]
struct Column {
    mistakes: Vec<f64>,
    ratios: Vec<f64>,
}

impl Column {
    /// Adds a stream's mistakes in each order, beside those with all labels.
    fn add(&mut self, mistakes: &[f64], all: &[f64]) {
        let count = mistakes.len() as f64;
        self.mistakes.push(mistakes.iter().sum::<f64>() / count);
        let logs = mistakes.iter().zip(all).map(|(one, all)| (one.max(1.0) / all.max(1.0)).ln());
        self.ratios.push(logs.sum::<f64>() / count);
    }

    /// The geometric mean of the ratios over some streams.
    fn ratio(&self, of: &[bool]) -> f64 {
        let ratios: Vec<f64> =
            self.ratios.iter().zip(of).filter(|(_, taken)| **taken).map(|(ratio, _)| *ratio).collect();
        (ratios.iter().sum::<f64>() / ratios.len() as f64).exp()
    }
}

/// The settings of a run.
struct Run {
    learner: LearnerSpec,
    orders: u32,
    strangers: bool,
    texts: Vec<bool>,
    paths: Vec<String>,
}

impl Run {
    fn from_args() -> Self {
        let learner = "default".parse().expect("a learner");
        let mut run =
            Self { learner, orders: 3, strangers: false, texts: vec![false, true], paths: Vec::new() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().expect("a value");
            match arg.as_str() {
                "--votes" => run.texts = vec![false],
                "--text" => run.texts = vec![true],
                "--strangers" => run.strangers = true,
                "--orders" => run.orders = value().parse::<NonZeroU32>().expect("at least one order").get(),
                "--learner" => run.learner = value().parse().expect("a learner"),
                "--bench" => {}
                _ => run.paths.push(arg),
            }
        }
        run
    }

    /// Prints the table of all streams, by votes alone or with text.
    fn table(&self, text: bool) {
        let shares = SHARES.map(|share| format!("{:.0} %: random, margin, both", 100.0 * share));
        println!("\n{}\n", if text { "With text" } else { "Votes alone" });
        println!("| stream | rounds | all labels | {} | weight 1, 3, 10, 1/q |", shares.join(" | "));
        println!("|{}", "---|".repeat(4 + SHARES.len()));
        let mut columns: Vec<Column> = Vec::new();
        columns.resize_with(3 * SHARES.len() + CAPS.len(), Column::default);
        let (mut long, mut audits) = (Vec::new(), Audits::default());
        for path in &self.paths {
            let mut stream = Stream::read(path, self.strangers);
            if stream.rounds.is_empty() || (text && !stream.has_text()) {
                continue;
            }
            let rows: Vec<Vec<f64>> =
                (0..self.orders).map(|order| row(&mut stream, &self.learner, text, order)).collect();
            let column = |at: usize| rows.iter().map(|row| row[at]).collect::<Vec<f64>>();
            let all = column(0);
            columns.iter_mut().enumerate().for_each(|(at, one)| one.add(&column(1 + at), &all));
            audits.add(&stream.name, &rows);
            long.push(stream.rounds.len() >= LONG);
            let mean = all.iter().sum::<f64>() / f64::from(self.orders);
            let means = columns.iter().map(|one| format!("{:.0}", one.mistakes.last().expect("a stream")));
            println!(
                "| {} | {} | {mean:.0} | {} |",
                stream.name,
                stream.rounds.len(),
                cells(means.collect())
            );
        }
        let every = vec![true; long.len()];
        for (name, of) in [("streams of 3,000 rounds and more", &long), ("all streams", &every)] {
            if !of.contains(&true) {
                continue;
            }
            let ratios = columns.iter().map(|one| format!("{:.2}", one.ratio(of))).collect();
            println!("| {name} | | 1 | {} |", cells(ratios));
        }
        audits.print();
    }
}

/// The mistakes with audits and the margin, divided by those with the margin alone, by stream and share.
#[derive(Default)]
struct Audits {
    streams: Vec<(String, [MeanLog; SHARES.len()])>,
}

/// The mean of the logarithms of ratios over the orders, and its variance.
#[derive(Clone, Copy)]
struct MeanLog {
    mean: f64,
    variance: f64,
}

impl MeanLog {
    fn of(logs: &[f64]) -> Self {
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
        // One order has no variance.
        Self { mean, variance: squares / (count - 1.0).max(1.0) / count }
    }

    /// The mean over independent means.
    fn over(all: &[Self]) -> Self {
        let count = all.len() as f64;
        let variance = all.iter().map(|one| one.variance).sum::<f64>() / count.powi(2);
        Self { mean: all.iter().map(|one| one.mean).sum::<f64>() / count, variance }
    }

    /// The ratio with its standard error.
    fn cell(self) -> String {
        let ratio = self.mean.exp();
        format!("{ratio:.3} ± {:.3}", ratio * self.variance.sqrt())
    }
}

impl Audits {
    /// Adds the rows of a stream, one for each order.
    fn add(&mut self, name: &str, rows: &[Vec<f64>]) {
        // In a row, three samplings follow for each share: the flat draw, the margin, both.
        let ratio =
            |row: &Vec<f64>, share: usize| (row[3 * share + 3].max(1.0) / row[3 * share + 2].max(1.0)).ln();
        let logs = |share| rows.iter().map(|row| ratio(row, share)).collect::<Vec<f64>>();
        self.streams.push((name.to_owned(), std::array::from_fn(|share| MeanLog::of(&logs(share)))));
    }

    fn print(&self) {
        let shares = SHARES.map(|share| format!("{:.0} %", 100.0 * share));
        println!("\n| mistakes with both / with the margin alone | {} |", shares.join(" | "));
        println!("|{}", "---|".repeat(1 + SHARES.len()));
        for (name, ratios) in &self.streams {
            println!("| {name} | {} |", ratios.map(MeanLog::cell).join(" | "));
        }
        let over = |share: usize| {
            MeanLog::over(&self.streams.iter().map(|(_, ratios)| ratios[share]).collect::<Vec<_>>())
        };
        let all: [MeanLog; SHARES.len()] = std::array::from_fn(over);
        println!("| all streams | {} |", all.map(MeanLog::cell).join(" | "));
    }
}

/// Joins the three samplings of each share, and the weights, into a cell each.
fn cells(values: Vec<String>) -> String {
    let (samplings, weights) = values.split_at(3 * SHARES.len());
    let cells: Vec<String> = samplings.chunks(3).chain([weights]).map(|values| values.join(", ")).collect();
    cells.join(" | ")
}

fn main() {
    let run = Run::from_args();
    for text in &run.texts {
        run.table(*text);
    }
}

/// The mistakes of one order: with all labels, then of each column.
fn row(stream: &mut Stream, learner: &LearnerSpec, text: bool, order: u32) -> Vec<f64> {
    if order > 0 {
        stream.shuffle(order);
    }
    let audited = |share: f64, cap: f64| Sampling { audit: AUDIT_PART * share, margin: 0.0, cap };
    let mut row = vec![stream.play(learner, text, order, ALL)];
    for share in SHARES {
        row.push(stream.play(learner, text, order, Sampling { audit: share, ..ALL }));
        row.push(stream.fit(learner, text, order, (share, Sampling { audit: 0.0, ..ALL })));
        row.push(stream.fit(learner, text, order, (share, audited(share, 1.0))));
    }
    let weighed = |cap| stream.fit(learner, text, order, (WEIGHED_SHARE, audited(WEIGHED_SHARE, cap)));
    row.extend(CAPS.map(weighed));
    row.iter().map(|played| f64::from(played.mistakes)).collect()
}
