//! The bundled rules on labelled files: `cargo bench --bench rules -- FOLDER`, for example `../shared/data/labelled`.
//!
//! Each file has one JSON object a line, with `text` or `turns` (the last is judged), `unsafe` (or `offensive`) and
//! possibly `language`. A text is flagged from a score of .5 on. `--known` gives the rules the language of the file,
//! or English if a row has none; otherwise it is unknown.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aegis::core::language::Language;
use aegis::experts::rules::Rules;
use aegis::experts::text_folding::fold;
use serde_json::Value;

/// The number of times that all texts are scored for the throughput.
const ROUNDS: u32 = 3;

/// A labelled text.
struct Row {
    group: String,
    text: String,
    is_unsafe: bool,
    language: Language,
}

/// The counts of a group of texts.
#[derive(Default)]
struct Counts {
    texts: u32,
    harmful: u32,
    caught: u32,
    alarms: u32,
    unread: u32,
}

fn row(file: &str, line: &str) -> Option<Row> {
    let row: Value = serde_json::from_str(line).ok()?;
    let turns = || row["turns"].as_array()?.last()?["text"].as_str();
    let text = row["text"].as_str().or_else(turns)?.to_owned();
    let is_unsafe = row["unsafe"].as_bool()? || row["offensive"].as_bool() == Some(true);
    let code = row["language"].as_str();
    let group = code.map_or_else(|| file.to_owned(), |code| format!("{file}, {code}"));
    Some(Row { group, text, is_unsafe, language: code.unwrap_or("en").parse().unwrap_or_default() })
}

fn rows(folder: &Path) -> Vec<Row> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut rows = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "jsonl")) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        rows.extend(text.lines().filter_map(|line| row(&name, line)));
    }
    rows
}

fn share(part: u32, whole: u32) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.3}", f64::from(part) / f64::from(whole)) }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let is_known = arguments.iter().any(|argument| argument == "--known");
    let Some(folder) = arguments.iter().find(|argument| !argument.starts_with("--")) else {
        println!(
            "no folder of labelled files; give one: cargo bench --bench rules -- ../shared/data/labelled"
        );
        return;
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experts/rules/rules.toml");
    let text = fs::read_to_string(&path).expect("the bundled rules");
    let rules = Rules::parse(&path, &text).expect("the bundled rules are valid");
    let rows = rows(&PathBuf::from(folder));
    let mut groups = BTreeMap::<&str, Counts>::new();
    for row in &rows {
        let language = if is_known { row.language } else { Language::Unknown };
        let counts = groups.entry(&row.group).or_default();
        let found = rules.score(&fold(&row.text), language);
        let is_flagged = found.as_ref().is_ok_and(|found| found.score >= 0.5);
        counts.texts += 1;
        counts.harmful += u32::from(row.is_unsafe);
        counts.caught += u32::from(row.is_unsafe && is_flagged);
        counts.alarms += u32::from(!row.is_unsafe && is_flagged);
        counts.unread += u32::from(found.is_err());
    }
    println!(
        "{:34} {:>6} {:>7} {:>9} {:>7} {:>7} {:>7}",
        "set", "texts", "unsafe", "precision", "recall", "alarms", "unread"
    );
    for (group, Counts { texts, harmful, caught, alarms, unread }) in &groups {
        let (precision, recall) = (share(*caught, caught + alarms), share(*caught, *harmful));
        let alarms = share(*alarms, texts - harmful);
        println!("{group:34} {texts:6} {harmful:7} {precision:>9} {recall:>7} {alarms:>7} {unread:7}");
    }
    let started = Instant::now();
    for row in (0..ROUNDS).flat_map(|_| &rows) {
        let _ = std::hint::black_box(rules.score(&fold(&row.text), Language::Unknown));
    }
    let seconds = started.elapsed().as_secs_f64() / f64::from(ROUNDS);
    let bytes: usize = rows.iter().map(|row| row.text.len()).sum();
    println!(
        "\n{:.0} texts/s, {:.1} MB/s on one thread",
        rows.len() as f64 / seconds,
        bytes as f64 / seconds / 1e6
    );
}
