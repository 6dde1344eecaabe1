//! `aegis replay` as a library: streams in, figures out.

mod containers;
mod estimates_shared;
mod figures;
mod influence;
mod learners_shared;
mod records;
mod report;
mod savepoints;
mod selected;
mod shared;
mod streams;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use aegis::config::{Config, LabelFields};
use aegis::core::fold::{Fold, Settings};
use aegis::core::hash::hex;
use aegis::core::label::Mapping;
use aegis::core::learners::LearnerSpec;
use aegis::core::ledger_state::LedgerState;
use aegis::replay::write::{Policy, header, record};
use aegis::replay::{ReplayArgs, ReplayContext, ReplayError, Summary, fold_lines, run};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The outcome and the output of a run.
struct Ran {
    result: Result<Summary, ReplayError>,
    out: String,
    notes: String,
}

impl Ran {
    fn summary(&self) -> &Summary {
        self.result.as_ref().unwrap_or_else(|error| panic!("{error}\n{}", self.notes))
    }

    fn hash(&self) -> &str {
        let policies = &self.summary().policies;
        assert_eq!(policies.len(), 1);
        &policies.values().next().unwrap().state_hash
    }

    fn code(&self) -> u8 {
        self.result.as_ref().map_or_else(ReplayError::exit_code, |_| 0)
    }
}

fn replay(args: &ReplayArgs) -> Ran {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let result = run(args, &mut ReplayContext::default(), &mut out, &mut notes);
    Ran { result, out: String::from_utf8(out).unwrap(), notes: String::from_utf8(notes).unwrap() }
}

/// Runs a replay of one file whose labels are read by these pointers.
fn replay_by(fields: LabelFields, name: &str, bytes: &[u8]) -> Ran {
    let room = Folder::new();
    let path = room.path(name);
    fs::write(&path, bytes).unwrap();
    let config = Config { label_fields: fields, ..Config::default() };
    let mut around = ReplayContext { defaults: Some(config.record_defaults()), ..ReplayContext::default() };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let result = run(&args(&[&path]), &mut around, &mut out, &mut notes);
    Ran { result, out: String::from_utf8(out).unwrap(), notes: String::from_utf8(notes).unwrap() }
}

fn args(streams: &[&Path]) -> ReplayArgs {
    ReplayArgs { streams: streams.iter().map(PathBuf::from).collect(), ..ReplayArgs::default() }
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, lines: &[String]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        path
    }
}

/// A deterministic generator of small numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Returns a stream with late labels, corrections before the labels that they correct, duplicates and edits.
fn stream(events: u64, timed: bool) -> Vec<String> {
    let mut dice = Dice(5);
    let mut lines = Vec::new();
    for event in 0..events {
        let id = format!("event-{event}");
        let vote = |dice: &mut Dice| {
            if dice.below(9) == 0 { Value::Null } else { json!(dice.below(1_000) as f64 / 999.0) }
        };
        let mut line = json!({"event_id": id, "votes": {"rules": vote(&mut dice), "guard": vote(&mut dice)}, "subject": format!("s{}", event % 7)});
        if event > events / 2 {
            line["votes"]["late comer"] = vote(&mut dice);
        }
        if timed {
            line["event_time"] = json!(1_000 + dice.below(events / 2));
        }
        if dice.below(3) > 0 {
            line["unsafe"] = json!(dice.below(2) == 1);
        }
        lines.push(line.to_string());
        if dice.below(4) == 0 {
            let about = dice.below(event + 1);
            let label = json!({"event_id": format!("event-{about}"), "annotator": format!("a{}", dice.below(3)), "severity": dice.below(5) as f64 / 4.0, "label_time": dice.below(9)});
            lines.push(label.to_string());
        }
        if dice.below(10) == 0 {
            let about = dice.below(events);
            lines.push(json!({"event_id": format!("event-{about}"), "label_id": "fix", "corrects": format!("event-{about}"), "unsafe": true}).to_string());
        }
        if dice.below(15) == 0 {
            lines.push(
                json!({"event_id": format!("event-{event}"), "label_id": "undo", "retracts": "fix"})
                    .to_string(),
            );
        }
        if dice.below(10) == 0 {
            let again = dice.below(lines.len() as u64) as usize;
            lines.push(lines[again].clone());
        }
    }
    lines.push(
        json!({"aegis": "edit", "edit_id": "1", "action": "quarantine", "annotator": "a2"}).to_string(),
    );
    lines.insert(3, json!({"aegis": "edit", "edit_id": "2", "action": "erase", "subject": "s3"}).to_string());
    lines
}

fn panel() -> aegis::experts::PanelConfig {
    aegis::experts::PanelConfig::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))
}
