//! Labels that are disputed: appeals, and annotators who agree too rarely with gold labels.

use std::process::Command;
use std::time::Instant;

use aegis::core::label::{Finding, Label, Mapping};
use aegis::core::ledger::{Record, RoundId};
use aegis::core::ledger_state::LedgerState;
use serde_json::{Value, json};

use super::Desk;
use crate::support::WAIT;
use crate::support::flow::{label, label_record, ledger, read_all, send};

/// Returns the target of an event that the ledger topic gives.
fn target(records: &[Record], event: &str) -> Option<f64> {
    let mut state = LedgerState::new();
    for record in records {
        state.apply(record, &mut Vec::new()).unwrap();
    }
    let id = RoundId { tenant: "t".into(), policy: "default".into(), event: event.into() };
    let (rounds, row) = state.row(&id)?;
    rounds.target(row, &Mapping::default(), state.edits())
}

#[test]
fn an_upheld_appeal_moves_the_target_and_a_rejected_one_leaves_it() {
    let desk = Desk::open();
    desk.events(0..4);
    let unsafe_of = |annotator: &str, event: &str| Label {
        annotator: Some(annotator.into()),
        ..label(&format!("{event}/{annotator}"), event, Finding::Unsafe)
    };
    let before = [unsafe_of("ann", "e00000"), unsafe_of("bob", "e00000"), unsafe_of("ann", "e00001")];
    send(&desk.connection, &before.each_ref().map(|label| label_record("moderation.labels", label)));
    let records = desk.marker("before");
    assert_eq!(
        [target(&records, "e00000"), target(&records, "e00001"), target(&records, "e00002")],
        [Some(1.0), Some(1.0), None]
    );
    let appeal = |code: i32, event: &str, outcome: &str| {
        desk.says(code, &["labels", "appeal", "--event", event, "--annotator", "judge", outcome])
    };
    let said = appeal(0, "e00000", "--upheld");
    assert!(said.contains("label appeal/decision: source review, safe, corrects e00000/bob"), "{said}");
    assert!(said.contains("label appeal/retracts/e00000/ann: source appeal, retracts e00000/ann"), "{said}");
    let said = appeal(0, "e00001", "--rejected");
    assert!(said.contains("label appeal/decision: source appeal, retracts appeal"), "{said}");
    // This event has no label: the upheld appeal is its review.
    appeal(0, "e00002", "--upheld");
    let records = desk.marker("after");
    assert_eq!(
        [target(&records, "e00000"), target(&records, "e00001"), target(&records, "e00002")],
        [Some(0.0), Some(1.0), Some(0.0)]
    );
    // Decided again, nothing is sent; decided otherwise, the labels are back.
    assert!(appeal(0, "e00000", "--upheld").contains("has this decision already"));
    assert!(appeal(0, "e00001", "--rejected").contains("has this decision already"));
    let sent = read_all(&desk.connection, "moderation.labels").len();
    appeal(0, "e00000", "--rejected");
    assert!(read_all(&desk.connection, "moderation.labels").len() > sent);
    let records = desk.marker("back");
    assert_eq!(target(&records, "e00000"), Some(1.0));
    let said = desk.says(64, &["labels", "appeal", "--event", "e", "--annotator", "judge"]);
    assert!(said.contains("--upheld") && said.contains("--rejected"), "{said}");
}

#[test]
fn an_annotator_below_the_floor_is_proposed_and_nothing_is_done() {
    let desk = Desk::open();
    desk.events(0..4);
    let rows: String = (0..4)
        .flat_map(|number| {
            let of = |by: &str, verdict: &str, source: &str| {
                format!("{{\"event_id\":\"e{number:05}\",\"annotator\":\"{by}\",\"verdict\":\"{verdict}\",\"source\":\"{source}\"}}\n")
            };
            [of("lead", "unsafe", "gold"), of("o'b", "safe", "calibration"), of("ann", "unsafe", "review")]
        })
        .collect();
    let file = desk.file("gold.jsonl", &rows);
    assert_eq!(desk.json(0, &["labels", "import", &file])["sent"], 12);
    desk.marker("gold");
    // Labels may come into the ledger twice, because the roles deliver at least once.
    let edits = || {
        let records = ledger(&read_all(&desk.connection, "aegis.rounds"));
        records.iter().filter(|record| matches!(record, Record::Edit(_))).count()
    };
    let said = desk.says(0, &["labels", "stats", "--tenant", "t"]);
    let config = desk.path("aegis.toml").display().to_string();
    let command = format!("aegis ledger quarantine --config {config} --tenant t -- 'o'\\''b'");
    assert!(said.contains(&command), "{said}");
    assert!(said.contains("below the floor") && said.contains("0 to 60 %"), "{said}");
    let stats = desk.json(0, &["labels", "stats"]);
    assert_eq!(stats["proposals"].as_array().unwrap().len(), 1, "{stats}");
    assert_eq!(desk.json(0, &["labels", "stats", "--floor", "0.5"])["proposals"], json!([]));
    assert_eq!(edits(), 0);
    // The command that was printed is one, and after it there is nothing to propose.
    let shell = command.replace("aegis ledger", &format!("'{}' ledger", env!("CARGO_BIN_EXE_aegis")));
    assert!(Command::new("sh").args(["-c", &shell]).output().unwrap().status.success());
    let until = Instant::now() + WAIT;
    loop {
        let said = desk.says(0, &["labels", "stats", "--tenant", "t"]);
        if said.contains("in quarantine") && !said.contains("below the floor of") {
            assert!(edits() > 0);
            break;
        }
        assert!(Instant::now() < until, "{said}");
    }
    // A ledger in a file has the same figures.
    let savepoint = desk.file(
        "stream.jsonl",
        "{\"event_id\":1,\"votes\":{\"a\":0.9},\"unsafe\":true,\"annotator\":\"ann\"}\n{\"event_id\":1,\"unsafe\":false,\"annotator\":\"bob\"}\n",
    );
    let output = Command::new(env!("CARGO_BIN_EXE_aegis"))
        .args(["labels", "stats", &savepoint, "--output", "json"])
        .env_remove("AEGIS_CONFIG")
        .output()
        .unwrap();
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&stats["all"]["shared_events"], &stats["all"]["annotators"][0]["agreement"]),
        (&json!(1), &json!(0.0))
    );
}
