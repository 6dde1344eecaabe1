//! The reader of the output may close the pipe. Every command then ends without a message, like a process that SIGPIPE
//! ends.

use std::fs::File;
use std::io::pipe;
use std::process::{Command, Output, Stdio};

use crate::site::Site;
use crate::support::flow::event_record;

/// Returns a pipe without a reader.
fn closed() -> Stdio {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer.into()
}

fn run(mut command: Command, out: Stdio) -> Output {
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

#[test]
fn a_reader_that_goes_ends_a_command_quietly() {
    let site = Site::new("pipe", "");
    let _score = site.start("score");
    site.send_events(0..1);
    site.await_records("decisions", 1);
    let stream = site.path("votes.jsonl");
    std::fs::write(&stream, "{\"event_id\": 1, \"votes\": {\"a\": 0.9}, \"unsafe\": true}\n").unwrap();
    let on_site = |words: &str| {
        let words: Vec<_> = words.split(' ').collect();
        site.command(&words)
    };
    let alone = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(words.split(' '));
        command
    };
    let replay = format!("replay {}", stream.display());
    for words in [
        "check",
        "topics",
        "topics --dry-run",
        "topics --output json",
        "experts list",
        "experts test hello",
        "explain e00000",
        "explain e00000 --output json",
        "weights show",
        "weights history",
        "config show",
        "dlq list",
        "dlq replay --dry-run",
        "verify",
        "erase --verify --subject u0",
    ] {
        for both in [false, true] {
            let mut command = on_site(words);
            let output = if both {
                // As in `2>&1 | head`: standard error has no reader either.
                let status = command.stdin(Stdio::null()).stdout(closed()).stderr(closed()).status().unwrap();
                Output { status, stdout: Vec::new(), stderr: Vec::new() }
            } else {
                run(command, closed())
            };
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(141), "{words}: {said}");
            assert!(said.is_empty(), "{words}: {said}");
        }
    }
    for words in ["--help", "completions bash", "config schema", &replay] {
        let output = run(alone(words), closed());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(141), "{words}: {said}");
        assert!(!said.contains("panicked"), "{words}: {said}");
    }
}

#[test]
fn what_cannot_be_printed_is_told() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
    command.args(["config", "schema"]);
    let output = run(command, File::create("/dev/full").unwrap().into());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.starts_with("aegis: standard output: No space left on device"), "{said}");
}

/// A role continues its work if the reader of its log closes the pipe.
#[test]
fn a_log_that_nobody_reads_stops_no_role() {
    let site = Site::new("unread", "[log]\nlevel = \"debug\"\n");
    let mut score = site.command(&["run", "--role", "score"]);
    let mut score = score.stdin(Stdio::null()).stderr(closed()).spawn().unwrap();
    let event = crate::support::flow::event(1, "hello");
    crate::support::flow::send(&site.connection, &[event_record(&site.topic("events"), &event)]);
    site.await_records("decisions", 1);
    assert!(score.try_wait().unwrap().is_none());
    assert!(Command::new("kill").arg(score.id().to_string()).status().unwrap().success());
    assert_eq!(score.wait().unwrap().code(), Some(0));
}
